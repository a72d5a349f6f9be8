"""How far tensors are apart: bit by bit, in pieces, and unread where they are one."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from shipway.graph.diffing import numbers
from shipway.graph.diffing.numbers import digest_of, measure_gap
from shipway.graph.weights import StoredTensor, WeightFile


def stored(path, array, offset=0):
    raw = bytes(offset) + array.tobytes()
    path.write_bytes(raw)
    dtype = ir.tensor(array).dtype
    return StoredTensor(WeightFile(path), offset, path.name, dtype, array.shape)


def test_tensors_in_files_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "_PIECE_BYTES", 64)
    one = np.arange(100, dtype=np.float32).reshape(4, 25)
    other = one.copy()
    other[0, 3] += 1
    other[3, 24] -= 2.5
    first, second = stored(tmp_path / "a", one, 12), stored(tmp_path / "b", other)
    sizes = []
    read = WeightFile.read
    monkeypatch.setattr(
        WeightFile, "read", lambda self, at, size: sizes.append(size) or read(self, at, size)
    )
    assert measure_gap(first, second) == numbers.Gap(2, 100, 2.5)
    assert measure_gap(first, ir.tensor(one)) is None
    assert max(sizes) == 64
    assert digest_of(first) == digest_of(ir.tensor(one)) != digest_of(second)


def test_one_place_of_one_file_is_not_read(tmp_path, monkeypatch):
    array = np.ones(8, np.float32)
    first = stored(tmp_path / "a", array)
    (tmp_path / "link").hardlink_to(tmp_path / "a")
    second = StoredTensor(WeightFile(tmp_path / "link"), 0, "b", first.dtype, (8,))
    monkeypatch.setattr(WeightFile, "read", lambda *_: pytest.fail("it was read"))
    assert measure_gap(first, second) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (np.float32([0.0]), np.float32([-0.0]), (1, 0.0, 0)),
        (np.float32([np.nan, 1]), np.float32([np.nan, 2]), (1, 1.0, 0)),
        (np.float32([np.inf, 1]), np.float32([1, np.nan]), (2, 0.0, 2)),
        (np.int64([2**60, 1]), np.int64([2**60, -1]), (1, 2.0, 0)),
        (np.array([True, False]), np.array([True, True]), (1, 1.0, 0)),
        (np.array(3, np.uint8), np.array(5, np.uint8), (1, 2.0, 0)),
        (np.complex64([1j]), np.complex64([0]), (1, 1.0, 0)),
        (
            np.array([1, 2], ml_dtypes.bfloat16),
            np.array([1, 4], ml_dtypes.bfloat16),
            (1, 2.0, 0),
        ),
        (np.array([1, -2, 3], ml_dtypes.int4), np.array([1, -2, 4], ml_dtypes.int4), (1, 1.0, 0)),
    ],
)
def test_every_dtype_is_measured(before, after, expected):
    gap = measure_gap(ir.tensor(before), ir.tensor(after))
    assert (gap.differing, gap.max_abs, gap.moved) == expected
    assert measure_gap(ir.tensor(before), ir.tensor(before.copy())) is None


def test_a_gap_too_large_for_a_number_is_none_in_json():
    gap = measure_gap(ir.tensor(np.float64([-1e308])), ir.tensor(np.float64([1e308])))
    assert gap.to_json() == {"differing": 1, "size": 1, "max_abs": None, "moved": 0}


def test_empty_tensors_and_texts():
    empty = ir.tensor(np.zeros((0, 3), np.float32))
    assert measure_gap(empty, ir.tensor(np.zeros((0, 3), np.float32))) is None
    one, other = ir.tensor(["a", "b"]), ir.tensor(["a", "c"])
    assert str(measure_gap(one, other)) == "1 of 2 elements differ"
    assert measure_gap(one, ir.tensor(["a", "b"])) is None
