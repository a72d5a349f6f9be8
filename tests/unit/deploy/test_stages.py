"""RunFolder: stages run once, survive a kill, and fail without leaving anything half-written."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shipway.deploy.stages import RunFolder, StageResult
from shipway.errors import ModelError, OutputError


class Counter:
    """A stage that writes one file and counts how often it ran."""

    def __init__(self, content: str = "x", depends: tuple[Path, ...] = ()) -> None:
        self.runs = 0
        self.content = content
        self.depends = depends

    def __call__(self, folder: Path) -> tuple[Path, ...]:
        self.runs += 1
        (folder / "out.txt").write_text(self.content)
        return self.depends


def do(run: RunFolder, work: Counter, **inputs: object) -> StageResult:
    with run.open():
        return run.run("stage", inputs=inputs, command=["shipway", "x"], work=work)


def test_unchanged_stage_is_reused_with_the_same_digest(tmp_path: Path) -> None:
    work = Counter()
    first = do(RunFolder(tmp_path), work, seed=0)
    second = do(RunFolder(tmp_path), work, seed=0)
    assert (first.reused, second.reused, work.runs) == (False, True, 1)
    assert (second.digest, second.finished, second.seconds) == (
        first.digest,
        first.finished,
        first.seconds,
    )


def test_other_inputs_run_the_stage_again(tmp_path: Path) -> None:
    work = Counter()
    do(RunFolder(tmp_path), work, seed=0)
    assert not do(RunFolder(tmp_path), work, seed=1).reused
    assert work.runs == 2


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    work = Counter()
    do(RunFolder(tmp_path), work)
    result = tmp_path / "stage" / "out.txt"
    if damage == "change":
        result.write_text("tampered")
    elif damage == "remove":
        result.unlink()
    else:
        (tmp_path / "stage" / "stray.txt").write_text("?")
    assert not do(RunFolder(tmp_path), work).reused
    assert result.read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == ["out.txt"]


def test_a_dependency_found_while_working_invalidates_the_stage(tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text("A = 1")
    work = Counter(depends=(helper,))
    run = RunFolder(tmp_path / "run")
    do(run, work)
    assert do(run, work).reused
    helper.write_text("A = 2")
    assert not do(run, work).reused
    helper.unlink()
    with pytest.raises(ModelError, match=r"helper\.py"):
        do(run, work)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}'])
def test_an_unreadable_record_is_no_record(tmp_path: Path, text: str) -> None:
    work = Counter()
    do(RunFolder(tmp_path), work)
    (tmp_path / ".stages" / "stage.json").write_text(text)
    assert not do(RunFolder(tmp_path), work).reused


def test_a_failed_stage_keeps_nothing_and_says_how_to_repeat_it(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise ModelError("broken", hint="look")

    run = RunFolder(tmp_path)
    with run.open(), pytest.raises(ModelError) as caught:
        run.run("stage", inputs={}, command=["shipway", "export", "a b.py:Net"], work=work)
    assert caught.value.hint == "look\nRepeat this stage alone: shipway export 'a b.py:Net'"
    assert [path.name for path in tmp_path.iterdir()] == [".stages"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    second = RunFolder(tmp_path)
    with (
        RunFolder(tmp_path).open(),
        pytest.raises(OutputError, match="Another shipway"),
        second.open(),
    ):
        pass


def test_kill_leaves_no_half_stage_and_the_next_run_sweeps_up(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, pathlib, signal, sys
        from shipway.deploy.stages import RunFolder

        def first(folder): (folder / "a.txt").write_text("a")

        def second(folder):
            (folder / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        run = RunFolder(pathlib.Path(sys.argv[1]))
        with run.open():
            run.run("first", inputs={}, command=["x"], work=first)
            run.run("second", inputs={}, command=["x"], work=second)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "second").exists()
    assert any(path.name.startswith(".tmp-") for path in tmp_path.iterdir())

    run = RunFolder(tmp_path)
    never = Counter()
    with run.open():
        assert run.run("first", inputs={}, command=["x"], work=never).reused
        assert not run.run("second", inputs={}, command=["x"], work=Counter("b")).reused
    assert never.runs == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".stages", "first", "second"]


def test_records_are_plain_json(tmp_path: Path) -> None:
    do(RunFolder(tmp_path), Counter())
    record = json.loads((tmp_path / ".stages" / "stage.json").read_text())
    assert record["files"].keys() == {"out.txt"}
    assert record["command"] == "shipway x"


def test_a_folder_that_no_stage_made_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not Shipway's"):
        do(RunFolder(tmp_path), Counter())
    assert (tmp_path / "stage" / "mine.txt").read_text() == "precious"


def test_a_stage_that_runs_takes_the_old_report_away(tmp_path: Path) -> None:
    """A report beside stages it was not made from would say PASS of a model that fails."""
    run = RunFolder(tmp_path)
    do(run, Counter(), seed=0)
    (tmp_path / "report.json").write_text("{}")
    do(run, Counter(), seed=0)
    assert (tmp_path / "report.json").exists()
    do(run, Counter(), seed=1)
    assert not (tmp_path / "report.json").exists()
