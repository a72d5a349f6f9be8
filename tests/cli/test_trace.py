"""`shipway trace` as a user starts it: recorded, filtered, cut short, gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tapped_engines import STEPS, TAPS

from shipway.trace.store import open_trace

DIST = {
    "METADATA": "Metadata-Version: 2.1\nName: tapped-engines\nVersion: 1.0\n",
    "entry_points.txt": "[shipway.engines]\nsteps = tapped_engines:StepsEngine\n"
    "plain = tapped_engines:PlainEngine\n",
}
NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }"""


@pytest.fixture
def engines(tmp_path: Path) -> str:
    """PYTHONPATH of an installed package that brings two engines."""
    packages = tmp_path / "packages"
    info = packages / "tapped_engines-1.0.dist-info"
    info.mkdir(parents=True)
    for name, text in DIST.items():
        (info / name).write_text(text)
    source = Path(__file__).with_name("tapped_engines.py").read_text()
    (packages / "tapped_engines.py").write_text(source)
    return str(packages)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import onnx

    onnx.save(onnx.parser.parse_model(NET), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def trace(shipway, engines: str, model: Path):
    """Run `shipway trace model.onnx --engine steps ...`."""

    def run(*words: str | Path, code: int = 0, **variables: str):
        done = shipway("trace", model, "--engine", "steps", *words, PYTHONPATH=engines, **variables)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_a_line_a_tensor_and_nothing_written(trace, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    done = trace("--dim", "n=3")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("steps (model.onnx)  precision f32")
    assert lines[1].split() == [
        "#",
        "operator",
        "name",
        "tensor",
        "min",
        "max",
        "mean",
        "L2",
        "NaN/Inf",
    ]
    assert len(lines[2 : STEPS + 3]) == len(TAPS)
    assert lines[3].split()[:5] == ["1", "Mul", "block/1", "out", "float32[3,4]"]
    assert "13 tensors recorded, 2 cannot be shown" in done.stdout
    assert "cannot be shown: loop body, other body: it runs inside Loop" in done.stdout
    assert "every output is bit-identical" in done.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_recorded_values_are_those_of_the_input(trace, tmp_path: Path) -> None:
    x = np.array([[1, 2, np.nan, np.inf]], np.float32)
    np.save(tmp_path / "x.npy", x)
    done = trace("--input", tmp_path / "x.npy", "--output", tmp_path / "t")
    assert "1/1" in done.stdout
    assert f"wrote {tmp_path / 't'}: 208 bytes of values" in done.stdout
    found = open_trace(tmp_path / "t")
    np.testing.assert_array_equal(found.read("x"), x)
    np.testing.assert_array_equal(np.load(tmp_path / "t" / found.records[1].file), 2 * x)


def test_filters_and_json(trace) -> None:
    done = trace("--names", "block/*", "--op-type", "mul", "--json")
    data = json.loads(done.stdout)
    assert [one["name"] for one in data["tensors"]] == [f"block/{n} out" for n in range(1, 12, 2)]
    assert data["left_out"] == len(TAPS) - 6
    assert data["written"] is None
    assert data["check"] == {"identical": True, "perturbed": {}}


def test_a_reader_that_has_seen_enough(engines: str, model: Path) -> None:
    """`shipway trace ... --json | head` is no bug, however much there is to print."""
    words = ["trace", model, "--engine", "steps", "--dim", "n=3", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shipway", *map(str, words)],
        env={**os.environ, "PYTHONPATH": engines},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


def test_statistics_only(trace, tmp_path: Path) -> None:
    done = trace("--stats-only", "--output", tmp_path / "t", "--max-memory", "1.5MiB")
    assert "statistics only" in done.stdout
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["trace.json"]
    assert open_trace(tmp_path / "t").header.effective["max_bytes"] == str(3 << 19)


def test_an_old_trace_is_kept_unless_told_otherwise(trace, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "t")
    trace(*output)
    refused = trace(*output, "--seed", "1", code=2)
    assert "holds a trace of 13 tensors" in refused.stderr
    assert "--resume" in refused.stderr
    assert "--force" in refused.stderr
    other = trace(*output, "--seed", "1", "--resume", code=2)
    assert "its input 'x' is another" in " ".join(other.stderr.split())
    before = open_trace(tmp_path / "t").header
    trace(*output, "--seed", "1", "--force", "--stats-only")
    assert open_trace(tmp_path / "t").header.inputs != before.inputs
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["trace.json"]


def test_killed_then_resumed(engines: str, model: Path, trace, tmp_path: Path) -> None:
    """kill -9 in the middle: what was written is readable, and --resume gives the whole trace."""
    words = ["trace", model, "--engine", "steps", "--output", tmp_path / "t"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shipway", *map(str, words)],
        env={**os.environ, "PYTHONPATH": engines, "STEPS_DELAY_S": "0.2"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "t").glob("*.npy"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = open_trace(tmp_path / "t")
    assert not cut.header.complete
    assert 3 <= len(cut.records) < STEPS
    assert all(cut.read(one.name).shape == (1, 4) for one in cut.records)

    refused = trace("--output", tmp_path / "t", code=2)
    assert "unfinished trace" in refused.stderr
    trace("--output", tmp_path / "t", "--resume")
    trace("--output", tmp_path / "whole")
    resumed, whole = open_trace(tmp_path / "t"), open_trace(tmp_path / "whole")
    assert resumed.header == whole.header
    assert resumed.records == whole.records
    for one in whole.records:
        np.testing.assert_array_equal(resumed.read(one.name), whole.read(one.name))


def test_an_engine_that_fails_in_the_middle(trace, tmp_path: Path) -> None:
    done = trace("--output", tmp_path / "t", code=5, STEPS_FAIL_AT="5")
    assert "error: The steps broke down at block/5 out." in done.stderr
    assert len(open_trace(tmp_path / "t").records) == 5
    trace("--output", tmp_path / "t", "--resume")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk(trace, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"\0" * 120_000)
    words = ("--dim", "n=1000", "--output", small_disk / "t")
    done = trace(*words, code=2)
    printed = " ".join(done.stderr.split())
    assert f"Cannot write {small_disk}/t: No space left on device at 'block/" in printed
    assert "tensors before it can be read" in printed
    assert "--resume" in printed.split("hint:")[1]
    found = open_trace(small_disk / "t")
    assert found.records
    assert all(found.read(one.name).shape == (1000, 4) for one in found.records)
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    trace(*words, "--resume")
    assert open_trace(small_disk / "t").header.complete


@pytest.mark.parametrize(
    ("words", "code", "facts"),
    [
        (["--names", "blok/1*"], 2, ("--names blok/1*", "block/1 out")),
        (["--op-type", "Conv"], 2, ("--op-type Conv", "Softmax")),
        (["--max-memory", "much"], 2, ("--max-memory", "'much'", "2G")),
        (["--resume"], 2, ("--resume", "--output")),
        (["--resume", "--force", "--output", "t"], 2, ("--force", "one of the two")),
        (["--level", "module"], 2, ("--level", "no use with MODEL")),
        (["--format", "ascend"], 2, ("--format", "no use with MODEL")),
        (["--exec", "python x.py"], 2, ("MODEL and --exec",)),
        (["--output", "model.onnx"], 2, ("model.onnx is a file",)),
        (["--output", "."], 2, ("holds files",)),
        (["--input", "two"], 2, ("2 sets of inputs", "Name one file")),
        (["--input", "y=two/a.npy"], 2, ("no input 'y'",)),
    ],
)
def test_mistakes(shipway, engines: str, model: Path, words, code: int, facts) -> None:
    (model.parent / "two").mkdir()
    for name in "ab":
        np.save(model.parent / "two" / f"{name}.npy", np.zeros((1, 4), np.float32))
    call = ("trace", "model.onnx", "--engine", "steps", *words)
    done = shipway(*call, cwd=model.parent, PYTHONPATH=engines)
    printed = " ".join(done.stderr.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in printed
    for fact in facts:
        assert fact in printed


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ([], "Give one of MODEL, --exec and --import, not none"),
        (["--exec", "python x.py", "--engine", "torch"], "--engine: no use with --exec"),
        (["--exec", "python 'x.py"], "No closing quotation"),
        (["--exec", "python x.py", "--level", "line"], "Unknown level 'line'"),
        (["--exec", "python x.py", "--call", "0"], "no call number 0"),
        (["--exec", " "], "--exec needs a command"),
        (["--import", "dump", "--names", "x*"], "--names: no use with --import"),
        (["--import", "dump", "--resume", "--output", "t"], "--resume: no use with --import"),
    ],
)
def test_mistakes_without_a_model(shipway, tmp_path: Path, words, fact: str) -> None:
    done = shipway("trace", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert fact in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


SCRIPT = """
import sys
import torch
from torch import nn

net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
with torch.no_grad():
    print(net(torch.ones(2, 4)).shape)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("level", "names"), [("module", ["0", "1"]), ("operator", ["addmm", "relu"])]
)
def test_a_script_as_it_is(shipway, tmp_path: Path, level: str, names: list[str]) -> None:
    (tmp_path / "infer.py").write_text(SCRIPT)
    words = ("--exec", f"{sys.executable} infer.py 0", "--level", level, "--json")
    done = shipway("trace", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [one["name"] for one in json.loads(done.stdout)["tensors"]]
    for name in names:
        assert any(name in one for one in found)
    assert "torch.Size([2, 3])" in done.stderr

    words = ("--exec", f"{sys.executable} infer.py 3", "--level", level, "--output", "t")
    done = shipway("trace", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the script ended with exit code 3" in done.stdout
    assert [one.name for one in open_trace(tmp_path / "t").records] == found


def test_a_dump_becomes_a_trace(shipway, tmp_path: Path) -> None:
    """Another tool's dump is a trace like any other, damaged files listed with the reason."""
    dump = tmp_path / "dump_tensor_data"
    dump.mkdir()
    for number, name in enumerate(("conv1.0.1700000000000001", "relu1.0.1700000000000002")):
        np.save(dump / f"{name}.npy", np.full((2, 3), number, np.float32))
    (dump / "pool.0.1700000000000003.npy").write_bytes(b"cut")
    words = ("trace", "--import", dump, "--format", "msprobe", "--output", tmp_path / "t")
    done = shipway(*words)
    assert done.returncode == 0, done.stderr
    assert "2 tensors recorded" in done.stdout
    assert "was not checked" in done.stdout
    found = open_trace(tmp_path / "t")
    assert [float(found.read(one.name)[0, 0]) for one in found.records] == [0, 1]
    assert shipway(*words).returncode == 2
    assert shipway(*words, "--force").returncode == 0


def test_no_dump(shipway, tmp_path: Path) -> None:
    for words, fact in (
        (["--import", "absent"], "There is no absent"),
        (["--import", ".", "--format", "ascnd"], "ascnd"),
        (["--import", "."], "no dump"),
    ):
        done = shipway("trace", *words, cwd=tmp_path)
        assert done.returncode in {2, 4}
        assert fact in " ".join(done.stderr.split())
        assert "hint:" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_engine_whose_tensors_cannot_be_read(shipway, engines: str, model: Path) -> None:
    done = shipway("trace", model, "--engine", "plain", PYTHONPATH=engines)
    printed = " ".join(done.stderr.split())
    assert done.returncode == 5
    assert "The tensors inside plain cannot be read" in printed
    assert "shipway compare GOLDEN MODEL --bisect" in printed


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_real_engine(shipway, project: Path, engine: str) -> None:
    from shipway.engines.registry import find_engine
    from shipway.engines.tapping import Tappable

    if not isinstance(find_engine(engine), Tappable):
        pytest.skip(f"the tensors of {engine} cannot be read")
    words = ("--input", "image:float32[batch,3,16,16]", "--weights", "net.pth", "--no-proof")
    made = shipway("export", "net.py:Net", *words, "--output", "export", cwd=project)
    assert made.returncode == 0, made.stderr
    file = "export/model.onnx" if engine == "onnxruntime" else "export/model.pt2"
    call = ("trace", file, "--engine", engine, "--dim", "batch=2", "--output", "t")
    done = shipway(*call, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "every output is bit-identical" in done.stdout
    found = open_trace(project / "t")
    kinds = {one.tap.kind for one in found.records}
    assert kinds == {"input", "value", "output"}
    assert found.has_values
    scores = next(one for one in found.records if one.tap.kind == "output")
    ran = shipway("run", file, "--engine", engine, "--dim", "batch=2", "--output", "o", cwd=project)
    assert ran.returncode == 0, ran.stderr
    (output,) = (project / "o").glob("*.npy")
    np.testing.assert_array_equal(found.read(scores.name), np.load(output))
