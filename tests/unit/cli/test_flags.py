"""Flags: how their texts become values."""

from pathlib import Path

import pytest

from shipway.cli.flags import model_request, read_bounds, read_bytes, read_sizes, split_target
from shipway.engines.target import Target
from shipway.errors import UsageError
from shipway.tensors import parse_spec

INPUTS = [parse_spec("x:f32[batch,3]"), parse_spec("ids:i64[batch,tokens]")]


def test_an_engine_behind_a_path_is_split_off_and_other_at_signs_stay() -> None:
    assert split_target("m.onnx@openvino:bf16") == ("m.onnx", Target("openvino", "bf16"))
    assert split_target("runs@home/m.onnx") == ("runs@home/m.onnx", None)
    assert split_target("a@b/m.onnx@torch") == ("a@b/m.onnx", Target("torch"))


def test_sizes_and_bounds_are_read() -> None:
    assert read_sizes(["batch=4", "tokens=128"], INPUTS) == {"batch": 4, "tokens": 128}
    assert read_bounds(["batch=1..64"]) == {"batch": (1, 64)}


@pytest.mark.parametrize("text", ["batch", "batch=", "batch=x", "=4", "batch=-1", "batch=1..2"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--dim"):
        read_sizes([text], INPUTS)


def test_a_size_the_model_does_not_have_is_refused_with_what_it_has() -> None:
    with pytest.raises(UsageError, match="no dynamic dimension 'bach'") as caught:
        read_sizes(["bach=2"], INPUTS)
    assert caught.value.hint == "It has: batch, tokens."


def test_an_unknown_engine_behind_a_file_is_an_unknown_engine(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(UsageError, match="Unknown engine 'foo'"):
        split_target(f"{tmp_path}/m.onnx@foo")


def test_code_and_folders_are_no_model_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PyTorch code") as caught:
        model_request("net.py:Net")
    assert "shipway export net.py:Net" in caught.value.hint
    with pytest.raises(UsageError, match="is a folder"):
        model_request(str(tmp_path))


@pytest.mark.parametrize("text", ["batch", "batch=4", "batch=4..2", "batch=1...2"])
def test_bounds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--bound"):
        read_bounds([text])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2G", 2 << 30),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("1 kB", 1000),
        ("2GB", 2_000_000_000),
        (".5K", 512),
        ("4096", 4096),
        ("100b", 100),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert read_bytes(text, "--max-memory") == size


@pytest.mark.parametrize(
    "text", ["", "much", "0", "0.0G", "-1G", "1X", "1e9", "2 G B", "G", "1.2.3M"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-memory takes a size") as caught:
        read_bytes(text, "--max-memory")
    assert "2G" in caught.value.hint
