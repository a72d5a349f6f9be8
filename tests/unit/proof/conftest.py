"""Small models on disk."""

import onnx
import pytest
from auditing import parsed


@pytest.fixture
def file(tmp_path):
    def make(text, weights=None, change=None):
        folder = tmp_path / "a folder"
        folder.mkdir(exist_ok=True)
        proto = parsed(text, weights)
        if change is not None:
            change(proto)
        onnx.save(proto, folder / "model.onnx")
        return folder / "model.onnx"

    return make
