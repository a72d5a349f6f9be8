"""What is written to a trace comes back."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from trace_samples import HEADER, record, values

from shipway.engines.tapping import Tap, TapCheck
from shipway.errors import TensorError
from shipway.tensors import DTYPES
from shipway.trace.reading import MANIFEST
from shipway.trace.statistics import summarize
from shipway.trace.store import TraceWriter, open_trace

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
