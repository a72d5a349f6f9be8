"""Tensors put aside come back as they were, wherever they lay."""

import numpy as np
import pytest

from shipway.trace.shelf import Shelf

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16


@pytest.mark.parametrize("max_bytes", [0, 100, 1 << 20])
def test_what_is_put_aside_comes_back(max_bytes: int) -> None:
    values = {
        "plain": np.arange(60, dtype=np.float32).reshape(3, 20),
        "a/name with spaces": np.arange(6).reshape(2, 3).T,
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.float32),
        "half": np.arange(5).astype(bfloat16),
    }
    with Shelf(max_bytes) as shelf:
        for name, value in values.items():
            shelf.put(name, value)
        for name, value in values.items():
            found = shelf.get(name)
            assert found is not None
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        assert shelf.get("never put") is None


def test_memory_is_bounded_and_the_disk_is_given_back(tmp_path) -> None:
    block = np.zeros(1000, np.float32)
    with Shelf(4500, tmp_path) as shelf:
        for index in range(10):
            shelf.put(f"t{index}", block)
        assert len(list(tmp_path.rglob("*.bin"))) == 9
        shelf.drop("t0")
        shelf.drop("t9")
        assert "t0" not in shelf
        assert "t9" not in shelf
        assert "t5" in shelf
        assert len(list(tmp_path.rglob("*.bin"))) == 8
    assert not list(tmp_path.iterdir())
