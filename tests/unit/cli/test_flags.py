"""Flags: how their texts become values."""

import pytest

from shipway.cli.flags import read_bounds, read_sizes, split_target
from shipway.engines.target import Target
from shipway.errors import UsageError


def test_an_engine_behind_a_path_is_split_off_and_other_at_signs_stay() -> None:
    assert split_target("m.onnx@openvino:bf16") == ("m.onnx", Target("openvino", "bf16"))
    assert split_target("runs@home/m.onnx") == ("runs@home/m.onnx", None)
    assert split_target("a@b/m.onnx@torch") == ("a@b/m.onnx", Target("torch"))


def test_sizes_and_bounds_are_read() -> None:
    assert read_sizes(["batch=4", "tokens=128"]) == {"batch": 4, "tokens": 128}
    assert read_bounds(["batch=1..64"]) == {"batch": (1, 64)}


@pytest.mark.parametrize("text", ["batch", "batch=", "batch=x", "=4", "batch=-1", "batch=1..2"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--dim"):
        read_sizes([text])


@pytest.mark.parametrize("text", ["batch", "batch=4", "batch=4..2", "batch=1...2"])
def test_bounds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--bound"):
        read_bounds([text])
