"""A trace that was cut short is gone on with, and nothing else is written over."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trace_samples import HEADER, record, tensors_of, values

from shipway.engines.tapping import Tap, TapCheck
from shipway.errors import OutputError, TensorError, UsageError
from shipway.trace.reading import MANIFEST
from shipway.trace.records import InputRecord
from shipway.trace.store import TraceWriter, clear_trace, open_trace


@pytest.mark.parametrize("there", [0, 1, 3, 5])
def test_resume_writes_only_what_is_not_there(tmp_path: Path, there: int) -> None:
    record(tmp_path / "whole", 5)
    record(tmp_path / "cut", there, finish=False)
    before = {path: path.stat().st_ino for path in (tmp_path / "cut").glob("*.npy")}
    with TraceWriter.resume(tmp_path / "cut", HEADER) as writer:
        assert [writer.has(f"t{order}") for order in range(5)] == [n < there for n in range(5)]
        for order, value in enumerate(values(5)):
            writer.add(Tap(f"t{order}", order), value)
        writer.finish(TapCheck(identical=True, perturbed={}))
    assert tensors_of(tmp_path / "cut") == tensors_of(tmp_path / "whole")
    assert open_trace(tmp_path / "cut").header == open_trace(tmp_path / "whole").header
    assert {path: path.stat().st_ino for path in before} == before


def test_resume_records_a_truncated_and_a_missing_file_again(tmp_path: Path) -> None:
    record(tmp_path, 3)
    cut = tmp_path / "00000-t0.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "00002-t2.npy").unlink()
    trace = open_trace(tmp_path)
    with pytest.raises(TensorError, match=r"'t0' .*t0\.npy: it has 19 bytes .* 20") as caught:
        trace.read("t0")
    assert "--resume" in caught.value.hint
    with pytest.raises(TensorError, match=r"t2\.npy: No such file"):
        trace.read("t2")
    with TraceWriter.resume(tmp_path, HEADER) as writer:
        assert [writer.has(name) for name in ("t0", "t1", "t2")] == [False, True, False]
        for order, value in enumerate(values(3)):
            writer.add(Tap(f"t{order}", order), value)
        writer.finish()
    assert tensors_of(tmp_path) == {f"t{n}": one.tobytes() for n, one in enumerate(values(3))}


def test_resume_replaces_what_comes_out_differently_now(tmp_path: Path) -> None:
    """So that a trace never holds a mixture of two runs."""
    record(tmp_path, 2, finish=False)
    with TraceWriter.resume(tmp_path, HEADER) as writer:
        writer.add(Tap("t0", 7, "Relu"), np.float32([[9, 9]]))
        writer.add(Tap("t1", 1), values(2)[1])
        writer.finish()
    trace = open_trace(tmp_path)
    assert trace.read("t0").tolist() == [[9, 9]]
    assert trace.record("t0").tap.op == "Relu"
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["00001-t1.npy", "00007-t0.npy"]


def test_resume_follows_an_engine_that_orders_branches_anew(tmp_path: Path) -> None:
    """ONNX Runtime's optimised graph has another order in another process; names and values stay."""
    record(tmp_path, 3, finish=False)
    with TraceWriter.resume(tmp_path, HEADER) as writer:
        for order, number in enumerate((1, 2, 0)):
            writer.add(Tap(f"t{number}", order), values(3)[number])
        writer.finish()
    trace = open_trace(tmp_path)
    assert [one.name for one in trace.records] == ["t1", "t2", "t0"]
    assert tensors_of(tmp_path) == {f"t{n}": one.tobytes() for n, one in enumerate(values(3))}
    assert {path.name for path in tmp_path.iterdir()} == {
        MANIFEST,
        *(r.file for r in trace.records),
    }


def test_resume_adds_values_to_statistics(tmp_path: Path) -> None:
    record(tmp_path, 2, keep_values=False)
    with TraceWriter.resume(tmp_path, HEADER) as writer:
        assert not writer.has("t0")
        for order, value in enumerate(values(2)):
            writer.add(Tap(f"t{order}", order), value)
        writer.finish()
    assert open_trace(tmp_path).has_values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": "openvino"}, "engine is onnxruntime, not openvino"),
        ({"precision": "bf16"}, "precision is f32, not bf16"),
        ({"model": "b.onnx", "model_sha256": "cd" * 32}, "model.onnx with another SHA-256 than b"),
        ({"inputs": {"x": InputRecord("float32", (1, 3), 8)}}, "input 'x' is another"),
        ({"inputs": {}}, "input 'x' is another"),
        ({"effective": {"threads": "1"}}, "threads is 2, not 1"),
        ({"versions": {"python": "3.12"}}, "python is 3.11, not 3.12"),
    ],
)
def test_resume_refuses_another_run_and_leaves_the_trace_alone(
    tmp_path: Path, change: dict, said: str
) -> None:
    record(tmp_path, 2, finish=False)
    before = tensors_of(tmp_path)
    with pytest.raises(UsageError, match=said) as caught:
        TraceWriter.resume(tmp_path, replace(HEADER, **change))
    assert "--output" in caught.value.hint
    assert tensors_of(tmp_path) == before


def test_a_finished_trace_is_not_written_over(tmp_path: Path) -> None:
    record(tmp_path, 2)
    with pytest.raises(OutputError, match="holds a trace of 2 tensors") as caught:
        TraceWriter(tmp_path, HEADER)
    assert "--resume" in caught.value.hint
    assert "--force" in caught.value.hint
    record(tmp_path / "other", 1, finish=False)
    with pytest.raises(OutputError, match="holds an unfinished trace of 1 tensors"):
        TraceWriter(tmp_path / "other", HEADER)


def test_a_folder_with_other_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    for action in (TraceWriter, TraceWriter.resume):
        with pytest.raises(OutputError, match="holds files, and none is a trace"):
            action(tmp_path, HEADER)
    with pytest.raises(OutputError, match="holds files"):
        clear_trace(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        TraceWriter(tmp_path / "thesis.doc", HEADER)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_another_tool_s_trace_json_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"traceEvents": []}')
    for action in (lambda: TraceWriter(tmp_path, HEADER), lambda: clear_trace(tmp_path)):
        with pytest.raises(OutputError, match="cannot be replaced"):
            action()
    assert (tmp_path / MANIFEST).read_text() == '{"traceEvents": []}'


def test_clearing_takes_the_trace_and_leaves_the_notes(tmp_path: Path) -> None:
    record(tmp_path, 2, finish=False)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "00009-x.npy.part").write_text("left by a killed run")
    clear_trace(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    clear_trace(tmp_path / "absent")


def test_two_runs_do_not_write_one_trace(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        writer.add(Tap("x", 0), np.float32([1]))
        for action in (lambda: TraceWriter.resume(tmp_path, HEADER), lambda: clear_trace(tmp_path)):
            with pytest.raises(OutputError, match="being written by another run"):
                action()
        writer.finish()
    assert open_trace(tmp_path).read("x").tolist() == [1]


WRITER = """
import itertools, sys
from pathlib import Path
import numpy as np
from shipway.engines.tapping import Tap
from shipway.trace.records import TraceHeader
from shipway.trace.store import TraceWriter
with TraceWriter.resume(Path(sys.argv[1]), TraceHeader("onnxruntime", "f32")) as writer:
    for order in range(int(sys.argv[2])):
        writer.add(Tap(f"t{order}", order), np.full(20_000, order, np.float32))
    writer.finish()
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_in_the_middle_then_resumed(tmp_path: Path, seed: int) -> None:
    """After kill -9 what was written is readable, and --resume ends with the whole trace."""
    folder = tmp_path / "t"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), "100000"])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.npy"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    process.wait()
    trace = open_trace(folder)
    there = len(trace.records)
    assert not trace.header.complete
    assert there >= 2
    for order, one in enumerate(trace.records):
        assert np.unique(trace.read(one.name)).tolist() == [order]

    subprocess.run([sys.executable, "-c", WRITER, str(folder), str(there + 3)], check=True)
    trace = open_trace(folder)
    assert trace.header.complete
    assert len(trace.records) == there + 3
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *(r.file for r in trace.records)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("size", [100, 3000])
def test_a_full_disk_leaves_what_was_written_and_can_be_resumed(
    small_disk: Path, size: int
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 60_000)
    folder = small_disk / "t"
    kept = {}

    def fill(writer: TraceWriter) -> None:
        for order, value in enumerate(values(1000, size)):
            writer.add(Tap(f"t{order}", order), value)
            kept[f"t{order}"] = value.tobytes()

    with TraceWriter(folder, HEADER) as writer:
        with pytest.raises(OutputError, match="No space left") as caught:
            fill(writer)
        assert str(folder) in str(caught.value)
        assert f"The {len(kept)} tensors before it can be read" in str(caught.value)
    assert kept
    assert tensors_of(folder) == kept
    assert not list(folder.glob("*.part"))

    ballast.unlink()
    count = len(kept) + 1
    with TraceWriter.resume(folder, HEADER) as writer:
        for order, value in enumerate(values(count, size)):
            writer.add(Tap(f"t{order}", order), value)
        writer.finish()
    assert len(tensors_of(folder)) == count


def test_a_file_size_limit_is_named(tmp_path: Path) -> None:
    """Without the right to mount: the system refuses to let a file grow."""
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from shipway.engines.tapping import Tap
        from shipway.errors import OutputError
        from shipway.trace.records import TraceHeader
        from shipway.trace.store import TraceWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with TraceWriter(Path(sys.argv[1]), TraceHeader("torch", "f32")) as writer:
            writer.add(Tap("small", 0), np.ones(10, np.float32))
            try:
                writer.add(Tap("large", 1), np.ones(100_000, np.float32))
            except OutputError as error:
                print(error)
    """)
    words = [sys.executable, "-c", code, str(tmp_path / "t")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "File too large at 'large'. The 1 tensors before it can be read." in done.stdout
    assert list(tensors_of(tmp_path / "t")) == ["small"]
