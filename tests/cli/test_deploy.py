"""shipway deploy: the whole road as a user walks it, with kills and repeats on the way."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

STAGES = [
    "export",
    "proof",
    "golden",
    "evaluate-golden",
    "engine-onnxruntime-f32",
    "compare-onnxruntime-f32",
    "evaluate-onnxruntime-f32",
    "bench",
]


def read_report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def stray_files(run: Path) -> list[Path]:
    return [path for path in run.rglob("*") if path.name.startswith(".tmp-")]


def records(run: Path) -> dict[str, bytes]:
    """The records of finished stages; one that has only begun has no key."""
    found = {path.stem: path.read_bytes() for path in (run / ".stages").glob("*.json")}
    return {name: text for name, text in found.items() if b'"key"' in text}


def what_repeats(report: dict[str, Any]) -> dict[str, Any]:
    """The part of a report that two runs of the same inputs share: all but times and hashes."""
    engines = [
        {
            "name": engine["name"],
            "precision": engine["precision"],
            "comparison": engine["comparison"],
            "top": engine["evaluation"]["top"],
            "flips": engine["evaluation"]["flips"],
        }
        for engine in report["engines"]
    ]
    checks = [(check["name"], check["passed"]) for check in report["checks"]]
    trials = report["proof"]["trials"]
    return {"engines": engines, "checks": checks, "trials": trials, "notes": report["title"]}


@pytest.fixture
def deployed(shipway, project: Path) -> Path:
    done = shipway("deploy", "ship.toml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    return project / "runs" / "net"


def test_the_whole_road_and_back(shipway, project: Path, deployed: Path) -> None:
    """One run writes every stage and the report; the second reuses all and changes nothing."""
    assert sorted(records(deployed)) == sorted(STAGES)
    report = read_report(deployed)
    assert report["proof"]["passed"]
    golden, engine = report["engines"]
    assert (golden["name"], engine["name"]) == ("torch", "onnxruntime")
    assert engine["evaluation"]["top"][0]["total"] == 12
    assert engine["evaluation"]["flips"]["count"] == 0
    assert [row["batch"] for row in engine["bench"]] == [1]
    assert stray_files(deployed) == []

    before = {path: path.read_bytes() for path in deployed.rglob("*.json")}
    again = shipway("deploy", "ship.toml", cwd=project)
    assert again.returncode == 0
    assert "8 stages, 8 reused" in again.stdout
    assert {path: path.read_bytes() for path in deployed.rglob("*.json")} == before

    shown = shipway("report", deployed)
    assert shown.returncode == 0
    assert "PASS" in shown.stdout


def test_a_change_runs_what_depends_on_it_and_nothing_else(
    shipway, project: Path, deployed: Path
) -> None:
    text = (project / "ship.toml").read_text()
    (project / "ship.toml").write_text(text.replace("batch = 4", "batch = 3"))
    done = shipway("deploy", "ship.toml", cwd=project)
    assert "8 stages, 6 reused" in done.stdout

    code = (project / "net.py").read_text()
    (project / "net.py").write_text(code + "\n# touched\n")
    done = shipway("deploy", "ship.toml", cwd=project)
    assert "export: done" in done.stderr


def test_every_command_of_the_report_repeats_its_stage(
    shipway, project: Path, deployed: Path
) -> None:
    report = read_report(deployed)
    first, *commands = report["reproduce"]
    assert first == f"cd {shlex.quote(str(project))}"
    assert len(commands) == 1 + len(STAGES)  # deploy itself, and each stage
    results = ("compare-onnxruntime-f32/comparison.json", "evaluate-golden/evaluation.json")
    before = {name: json.loads((deployed / name).read_text()) for name in results}
    for line in commands[1:]:
        done = shipway(*shlex.split(line)[1:], cwd=project)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    for name, old in before.items():
        new = json.loads((deployed / name).read_text())
        for volatile in ("seconds",):
            old.pop(volatile, None), new.pop(volatile, None)
        assert new == old


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*STAGES, "start"])
def test_kill_at_any_stage_then_resume(
    shipway, project: Path, deployed: Path, stage: str, tmp_path: Path
) -> None:
    """Killed while (or just before) a stage runs, the next run ends with the same result."""
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "shipway", "deploy", "ship.toml", "--output", str(run)]
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL, text=True)
    before = STAGES[STAGES.index(stage) - 1] if stage in STAGES[1:] else None
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if before is None or before in records(run):
            time.sleep({"start": 0.3}.get(stage, 0.05))
            break
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = records(run) if run.exists() else {}

    done = shipway("deploy", "ship.toml", "--output", run, cwd=project)
    assert done.returncode == 0, done.stderr
    after = records(run)
    assert {name: after[name] for name in finished} == finished
    assert stray_files(run) == []
    assert what_repeats(read_report(run)) == what_repeats(read_report(deployed))


def test_an_engine_that_fails_leaves_the_others_and_says_how_to_repeat_it(
    shipway, project: Path
) -> None:
    text = (project / "ship.toml").read_text()
    text = text.replace('["onnxruntime"]', '["onnxruntime:bf16", "onnxruntime"]')
    (project / "ship.toml").write_text(text)
    done = shipway("deploy", "ship.toml", cwd=project)
    assert done.returncode == 5
    assert "FAIL" in done.stdout
    assert "shipway compile" in done.stderr
    failed, well = read_report(project / "runs" / "net")["engines"][1:]
    assert "bf16" in failed["error"]
    assert not well["error"]
    assert well["evaluation"]["flips"]["count"] == 0


def test_a_missed_limit_exits_1(shipway, project: Path) -> None:
    text = (project / "ship.toml").read_text() + "min_top1 = 0.99\n"
    (project / "ship.toml").write_text(text)
    done = shipway("deploy", "ship.toml", cwd=project)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "golden: Top-1" in done.stdout


def test_an_onnx_file_is_deployed_with_golden_named_for_what_it_is(
    shipway, project: Path, deployed: Path
) -> None:
    model = deployed / "export" / "net.onnx"
    words = ("--engine", "openvino", "--engine", "onnxruntime", "--no-bench", "--output", "run2")
    pytest.importorskip("openvino")
    done = shipway("deploy", model, *words, cwd=project)
    assert done.returncode == 0, done.stderr
    report = read_report(project / "run2")
    names = [engine["name"] for engine in report["engines"]]
    assert names == ["onnxruntime (optimisation off)", "openvino", "onnxruntime"]
    assert all(engine["comparison"]["passed"] for engine in report["engines"][1:])
    for line in report["reproduce"][2:]:
        repeated = shipway(*shlex.split(line)[1:], cwd=project)
        assert repeated.returncode == 0, f"{line}\n{repeated.stderr}"
    assert report["proof"] is None
    assert any("Golden is ONNX Runtime" in note for note in report["notes"])


def test_what_does_not_fit_the_model_shows_before_a_compiler_runs(shipway, project: Path) -> None:
    text = (project / "ship.toml").read_text()
    (project / "ship.toml").write_text(text.replace("crop 16", "crop 8"))
    done = shipway("deploy", "ship.toml", cwd=project)
    assert done.returncode == 4
    assert "[3, 8, 8]" in done.stderr
    assert not (project / "runs" / "net" / "engine-onnxruntime-f32").exists()


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, and again while nothing has come of it, as people do; return what is printed."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            continue


@pytest.mark.slow
def test_interrupting_says_how_to_go_on(project: Path) -> None:
    """A library may swallow a KeyboardInterrupt: then it takes a second one."""
    command = [sys.executable, "-m", "shipway", "deploy", "ship.toml"]
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (project / "runs" / "net" / ".stages" / "lock").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    printed = interrupt(process)
    # Python ends by the signal itself when the interrupt passed through an exec() of text, as in
    # sympy; a shell calls both 130.
    assert process.returncode in {130, -signal.SIGINT}, printed
    assert "Interrupted" in printed
    assert "Traceback" not in printed
    assert stray_files(project / "runs") == []


def test_weights_that_the_factory_opens_itself_count_as_input(shipway, project: Path) -> None:
    code = "\n\ndef loaded():\n    net = Net()\n    net.load_state_dict(torch.load('net.pth'))\n"
    (project / "net.py").write_text((project / "net.py").read_text() + code + "    return net\n")
    words = ("net.py:loaded", "--input", "image:float32[batch,3,16,16]", "--no-bench")
    assert shipway("deploy", *words, cwd=project).returncode == 0
    assert "5 stages, 5 reused" in shipway("deploy", *words, cwd=project).stdout

    import torch

    state = torch.load(project / "net.pth")
    state["head.bias"] += 1
    torch.save(state, project / "net.pth")
    changed = shipway("deploy", *words, cwd=project)
    assert "export: done" in changed.stderr
    assert "5 stages, 0 reused" in changed.stdout


def test_a_deploy_that_fails_leaves_no_report_of_an_older_one(
    shipway, project: Path, deployed: Path
) -> None:
    (project / "net.py").write_text("raise RuntimeError('broken')\n")
    assert shipway("deploy", "ship.toml", cwd=project).returncode == 4
    assert not (deployed / "report.json").exists()
    assert shipway("report", deployed).returncode == 4


def test_flags_beside_a_ship_toml_are_refused(shipway, project: Path) -> None:
    for command in ("deploy", "export"):
        done = shipway(command, "ship.toml", "--opset", "18", cwd=project)
        assert done.returncode == 2
        assert "flags cannot change it" in done.stderr
