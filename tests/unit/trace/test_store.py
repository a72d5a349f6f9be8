"""What is written to a trace comes back, whatever happens meanwhile."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shipway.engines.tapping import Tap, TapCheck
from shipway.errors import ModelError, OutputError, ShipwayError, TensorError, UsageError
from shipway.tensors import DTYPES
from shipway.trace.reading import JOURNAL, MANIFEST
from shipway.trace.records import InputRecord, TraceHeader
from shipway.trace.statistics import summarize
from shipway.trace.store import TraceWriter, clear_trace, open_trace

HEADER = TraceHeader(
    "onnxruntime",
    "f32",
    model="model.onnx",
    model_sha256="ab" * 32,
    inputs={"x": InputRecord("float32", (1, 3), 7)},
    effective={"threads": "2"},
    untapped={"loop body": "runs inside Loop"},
    left_out=3,
    versions={"python": "3.11"},
)
NAMES = [
    "layer1/relu out",
    "プール",
    "x" * 400,
    "..",
    "/",
    "a\nb",
    "Conv\u2028",
    "",
    "CON",
    "A",
    "a",
]


def values(count: int, size: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((1, 1, size)).astype(np.float32) for _ in range(count)]


def record(folder: Path, count: int, *, finish: bool = True, **options) -> None:
    with TraceWriter(folder, HEADER, **options) as writer:
        for order, value in enumerate(values(count)):
            writer.add(Tap(f"t{order}", order), value)
        if finish:
            writer.finish(TapCheck(identical=True, perturbed={}))


def test_header_and_records_come_back_whole(tmp_path: Path) -> None:
    tap = Tap(
        "relu", 0, "aten.relu", "output", ("y",), ("conv",), "NCHWc16", "a.b", "ReLU", "n:1", "c"
    )
    check = TapCheck(identical=False, perturbed={"relu": "fused otherwise"})
    with TraceWriter(tmp_path / "t", HEADER) as writer:
        written = writer.add(tap, np.ones((2, 3), np.float32))
        writer.finish(check)
    trace = open_trace(tmp_path / "t")
    assert trace.header == replace(HEADER, check=check, complete=True)
    assert trace.records == (written,)
    assert trace.record("relu").tap == tap
    assert trace.record("relu").statistics == summarize(np.ones((2, 3), np.float32))
    assert trace.has_values
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["00000-relu.npy", MANIFEST]


@pytest.mark.parametrize("name", NAMES)
def test_any_name(tmp_path: Path, name: str) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        writer.add(Tap(name, 0), np.float32([1, 2]))
        writer.finish()
    assert open_trace(tmp_path).read(name).tolist() == [1, 2]


def test_names_that_differ_in_what_a_file_cannot_show_do_not_collide(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        for number, name in enumerate(NAMES):
            writer.add(Tap(name, 0), np.float32([number]))
        trace = writer.finish()
    assert [float(trace.read(name)[0]) for name in NAMES] == list(range(len(NAMES)))


@pytest.mark.parametrize("dtype", [one.name for one in DTYPES])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (3, 4)])
def test_every_dtype_and_shape_comes_back_bit_for_bit(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    numpy = next(one for one in DTYPES if one.name == dtype).numpy
    value = np.arange(int(np.prod(shape))).reshape(shape).astype(numpy)
    with TraceWriter(tmp_path, HEADER) as writer:
        writer.add(Tap("x", 0), value)
        writer.finish()
    found = open_trace(tmp_path).read("x")
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert found.tobytes() == value.tobytes()
    assert not found.flags.writeable
    plain = np.load(tmp_path / "00000-x.npy")  # what a user without Shipway reads
    assert plain.tobytes() == value.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    value=arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int8, ">f4", np.float64]),
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    ),
    axes=st.randoms(use_true_random=False),
)
def test_strided_and_foreign_arrays(tmp_path_factory, value: np.ndarray, axes) -> None:
    """Transposed, reversed and big-endian arrays are stored by their values; NaN bits survive."""
    order = list(range(value.ndim))
    axes.shuffle(order)
    view = value.transpose(order)[::-1]
    folder = tmp_path_factory.mktemp("trace")
    with TraceWriter(folder, HEADER) as writer:
        trace = (writer.add(Tap("x", 0), view), writer.finish())[1]
    assert trace.read("x").tobytes() == view.astype(view.dtype.newbyteorder("=")).tobytes()


def test_bfloat16_is_mapped_as_bfloat16(tmp_path: Path) -> None:
    value = np.array([[1.5, np.nan], [-np.inf, 3e38]], ml_dtypes.bfloat16)
    with TraceWriter(tmp_path, HEADER) as writer:
        writer.add(Tap("x", 0), value)
        writer.finish()
    found = open_trace(tmp_path).read("x")
    assert found.dtype == ml_dtypes.bfloat16
    assert isinstance(found.base, np.memmap)
    assert found.tobytes() == value.tobytes()


def test_records_are_in_the_order_of_execution(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        for order in (2, 0, 1):
            writer.add(Tap(f"t{order}", order), np.float32([order]))
        writer.finish()
    assert [one.name for one in open_trace(tmp_path).records] == ["t0", "t1", "t2"]


def test_statistics_alone(tmp_path: Path) -> None:
    record(tmp_path, 2, keep_values=False)
    trace = open_trace(tmp_path)
    assert not trace.has_values
    assert trace.record("t1").statistics == summarize(values(2)[1])
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    with pytest.raises(TensorError, match="only statistics of 't1'") as caught:
        trace.read("t1")
    assert "--stats-only" in caught.value.hint


def test_an_unknown_name_lists_close_ones(tmp_path: Path) -> None:
    record(tmp_path, 3)
    with pytest.raises(TensorError, match="no tensor 't00'") as caught:
        open_trace(tmp_path).read("t00")
    assert "t0" in caught.value.hint


def test_a_name_can_be_recorded_once(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        writer.add(Tap("x", 0), np.float32([1]))
        with pytest.raises(TensorError, match="'x' is recorded twice"):
            writer.add(Tap("x", 1), np.float32([2]))


def test_a_dtype_that_is_not_carried_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, HEADER) as writer:
        with pytest.raises(TensorError, match="complex64"):
            writer.add(Tap("x", 0), np.zeros(2, np.complex64))
        writer.add(Tap("y", 1), np.float32([1]))
        writer.finish()
    assert [one.name for one in open_trace(tmp_path).records] == ["y"]


def test_an_unfinished_trace_can_be_read(tmp_path: Path) -> None:
    record(tmp_path, 3, finish=False)
    trace = open_trace(tmp_path)
    assert not trace.header.complete
    assert trace.header.inputs == HEADER.inputs
    for order, value in enumerate(values(3)):
        assert trace.read(f"t{order}").tobytes() == value.tobytes()


def test_a_run_that_records_nothing_leaves_nothing_to_clear_away(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TraceWriter(tmp_path, HEADER):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    record(tmp_path, 1)


def test_the_trace_json_itself_may_be_named(tmp_path: Path) -> None:
    record(tmp_path, 1)
    assert len(open_trace(tmp_path / MANIFEST).records) == 1


def tensors_of(folder: Path) -> dict[str, bytes]:
    trace = open_trace(folder)
    return {one.name: trace.read(one.name).tobytes() for one in trace.records}


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


def test_no_folder_and_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TensorError, match=r"absent is no trace: there is no such folder"):
        open_trace(tmp_path / "absent")
    with pytest.raises(TensorError, match=r"there is no trace\.json in it") as caught:
        open_trace(tmp_path)
    assert "shipway trace" in caught.value.hint


def test_a_newer_trace_names_the_way_out(tmp_path: Path) -> None:
    record(tmp_path, 1)
    data = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**data, "schema_version": 99}))
    with pytest.raises(ModelError, match="schema 99") as caught:
        open_trace(tmp_path)
    assert "upgrade" in caught.value.hint


def test_a_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    record(tmp_path, 1)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace("00000-t0.npy", "../../secret.npy"))
    with pytest.raises(ModelError, match="not a trace of Shipway"):
        open_trace(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_trace_json_is_an_error_with_a_hint(tmp_path: Path, share: float) -> None:
    record(tmp_path, 2)
    data = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"trace\.json") as caught:
        open_trace(tmp_path)
    assert "numpy.load" in caught.value.hint


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damaged_trace_json_is_more_than_an_error(tmp_path_factory, data) -> None:
    """Any value in it may be another one: the trace opens, or is refused as Shipway refuses."""
    folder = tmp_path_factory.mktemp("trace")
    record(folder, 1)
    tree = json.loads((folder / MANIFEST).read_text())
    place, keys = tree, list(tree)
    while True:
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place, keys = inner, list(inner) if isinstance(inner, dict) else list(range(len(inner)))
    junk = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({})
    )
    place[key] = data.draw(junk)
    (folder / MANIFEST).write_text(json.dumps(tree))
    try:
        trace = open_trace(folder)
        for one in trace.records:
            trace.read(one.name)
    except ShipwayError:
        return


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not a tensor", b"\x93NUMPY\x01\x00\x10\x00{'descr': [}      \n"],
)
def test_a_damaged_npy_is_an_error(tmp_path: Path, content: bytes) -> None:
    record(tmp_path, 1)
    (tmp_path / "00000-t0.npy").write_bytes(content)
    with pytest.raises(TensorError, match=r"'t0' cannot be read from .*00000-t0\.npy"):
        open_trace(tmp_path).read("t0")


@pytest.mark.parametrize("other", [np.zeros((5, 1), np.float32), np.zeros((1, 5), np.int32)])
def test_an_npy_with_another_tensor_is_an_error(tmp_path: Path, other: np.ndarray) -> None:
    record(tmp_path, 1)
    np.save(tmp_path / "00000-t0.npy", other)
    with pytest.raises(TensorError, match=r"it holds .* instead of float32\[1, 1, 5\]"):
        open_trace(tmp_path).read("t0")


def test_a_journal_cut_at_any_byte_gives_the_whole_lines(tmp_path: Path) -> None:
    record(tmp_path, 3, finish=False)
    journal = tmp_path / JOURNAL
    data = journal.read_bytes()
    for size in [*range(0, len(data), 97), len(data)]:
        journal.write_bytes(data[:size])
        found = open_trace(tmp_path)
        assert len(found.records) == data[:size].count(b"\n")
        assert all(found.read(one.name).size == 5 for one in found.records)


def test_garbage_in_the_journal_is_said_and_left_out(tmp_path: Path, caplog) -> None:
    record(tmp_path, 2, finish=False)
    journal = tmp_path / JOURNAL
    first, second, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([first, b"\0" * 40, second, b""]))
    with caplog.at_level("WARNING", "shipway.trace"):
        assert [one.name for one in open_trace(tmp_path).records] == ["t0", "t1"]
    assert "1 damaged line" in caplog.text


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
