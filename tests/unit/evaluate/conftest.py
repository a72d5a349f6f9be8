"""Sessions whose answer is known by construction, and small pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shipway.engines.base import BaseSession
from shipway.tensors import TensorSpec


class ScoreSession(BaseSession):
    """Scores are computed from the batch by a function; every batch it was given is kept."""

    def __init__(self, function, shape, classes, *, dtype="float32", trailing=()):
        inputs = (TensorSpec("x", dtype, shape),)
        outputs = (TensorSpec("scores", "float32", (shape[0], classes, *trailing)),)
        super().__init__(inputs, outputs, {"precision": "f32", "threads": "1"})
        self.function = function
        self.batches = []

    def _run(self, feeds):
        self.batches.append(feeds["x"])
        return {"scores": self.function(feeds["x"])}


@pytest.fixture
def score_session() -> type[ScoreSession]:
    return ScoreSession


@pytest.fixture
def first_pixel() -> Callable[[int], Callable]:
    """A classifier: the class is the sample's first value, and its scores fall off around it."""

    def make(classes):
        def scores(batch):
            value = batch.reshape(len(batch), -1)[:, :1].astype(np.float32)
            return -np.abs(np.arange(classes, dtype=np.float32) - value)

        return scores

    return make


@pytest.fixture
def write_images(tmp_path) -> Callable[..., Path]:
    """Write one 4x4 PNG a (name, value) pair, filled with the value, and return the folder."""

    def write(pairs: Sequence[tuple[str, int]], labels: str | None = None) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for name, value in pairs:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (value, value, value)).save(path, "PNG")
        if labels is not None:
            (folder / "labels.txt").write_text(labels, encoding="utf-8")
        return folder

    return write
