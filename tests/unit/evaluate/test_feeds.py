"""sample_feeds: model inputs made from samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shipway.errors import DatasetError, TensorError
from shipway.evaluate.dataset import load_dataset
from shipway.evaluate.feeds import sample_feeds
from shipway.evaluate.preprocess import parse_preprocess
from shipway.tensors import parse_spec


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    x = np.arange(10 * 6, dtype=np.float32).reshape(10, 1, 2, 3)
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(10))
    return tmp_path / "set.npz"


def test_samples_are_spread_over_the_set_and_get_a_batch_axis(arrays: Path) -> None:
    feeds = sample_feeds([parse_spec("x:f32[n,1,2,3]")], load_dataset(arrays), 5)
    assert [feed["x"].shape for feed in feeds] == [(1, 1, 2, 3)] * 5
    assert feeds[0]["x"].flat[0] < 12
    assert feeds[-1]["x"].flat[0] >= 42


def test_a_fixed_batch_is_filled_by_repeating(arrays: Path) -> None:
    (feed,) = sample_feeds([parse_spec("x:f16[4,1,2,3]")], load_dataset(arrays), 1)
    assert feed["x"].shape == (4, 1, 2, 3)
    assert feed["x"].dtype == np.float16
    assert (feed["x"] == feed["x"][0]).all()


def test_zero_samples_ask_nothing_of_the_model(arrays: Path) -> None:
    two = [parse_spec("x:f32[n,1]"), parse_spec("y:f32[n,1]")]
    assert sample_feeds(two, load_dataset(arrays), 0) == []
    with pytest.raises(TensorError, match="one input"):
        sample_feeds(two, load_dataset(arrays), 1)


def test_unreadable_samples_are_left_out_and_all_unreadable_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "labels.txt").write_text("bad.png 0\ngood.png 1\n")
    spec = parse_spec("x:f32[n,3,8,8]")
    dataset = load_dataset(tmp_path, preprocess=parse_preprocess("none"))
    assert len(sample_feeds([spec], dataset, 2)) == 1
    (tmp_path / "labels.txt").write_text("bad.png 0\n")
    dataset = load_dataset(tmp_path, preprocess=parse_preprocess("none"))
    with pytest.raises(DatasetError, match=r"None of 1 samples.*bad\.png"):
        sample_feeds([spec], dataset, 2)
