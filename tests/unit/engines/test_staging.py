"""Artifacts appear whole or not at all."""

from pathlib import Path

import pytest

from shipway.artifact import SIDECAR_SUFFIX, load_artifact
from shipway.engines.base import EngineOptions
from shipway.engines.staging import Maker, copy_file, placed, staged
from shipway.errors import EngineError, ModelError, OutputError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

MAKER = Maker("engine", "kind", ".bin")
MODEL = PortableModel((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))


def make(source: Path, folder: Path):
    target = MAKER.target(source, folder)
    with staged(target) as scratch:
        copy_file(source, scratch / target.name)
        (scratch / "weights").mkdir()
        (scratch / "weights" / "0").write_bytes(b"w")
        artifact = MAKER.save(
            source, MODEL, EngineOptions(), scratch / target.name, companions=("weights/0",)
        )
    return placed(artifact, target)


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a model.onnx"
    path.write_bytes(b"model")
    return path


def test_files_move_in_with_their_subfolders_and_nothing_else_stays(source, tmp_path):
    """Main file, companion in its subfolder, side-car: all verified by load_artifact."""
    artifact = make(source, tmp_path / "out here")
    assert artifact.path == tmp_path / "out here" / "a model.engine.bin"
    assert load_artifact(artifact.path) == artifact
    there = {
        p.relative_to(tmp_path / "out here").as_posix() for p in artifact.path.parent.rglob("*")
    }
    assert there == {
        "a model.engine.bin",
        f"a model.engine.bin{SIDECAR_SUFFIX}",
        "weights",
        "weights/0",
    }


def test_a_block_that_fails_leaves_the_folder_as_it_was(source, tmp_path):
    """Neither the staged file nor the staging folder stays; what was there before does."""
    artifact = make(source, tmp_path / "out")
    before = sorted(artifact.path.parent.rglob("*"))

    def fail():
        with staged(artifact.path) as scratch:
            (scratch / artifact.path.name).write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert sorted(artifact.path.parent.rglob("*")) == before
    assert load_artifact(artifact.path) == artifact


def test_the_sidecar_moves_last(source, tmp_path, monkeypatch):
    """Killed between two moves, the folder has no side-car of files that are not there yet."""
    moved = []
    real = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (moved.append(Path(to).name), real(self, to))[1]
    )
    make(source, tmp_path / "out")
    assert moved[-1].endswith(SIDECAR_SUFFIX)


def test_a_write_error_names_the_target_and_not_the_staging_folder(tmp_path):
    """Errors of the block about its own folder are told in the user's words."""
    target = tmp_path / "out" / "m.bin"
    with pytest.raises(OutputError, match=r"out/m\.bin") as caught, staged(target) as scratch:
        raise OutputError(f"Cannot write {scratch / 'm.bin'}: full.", hint="Free some space.")
    assert ".tmp-" not in str(caught.value)
    assert caught.value.hint == "Free some space."


def test_a_source_that_cannot_be_read_is_a_model_error(tmp_path):
    """Not an OutputError: nothing is wrong with the place to write to."""
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        copy_file(tmp_path / "gone.onnx", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_portable_model_is_no_artifact_of_an_engine(source, tmp_path):
    """Loading one says how to compile it."""
    artifact = make(source, tmp_path / "out")
    with pytest.raises(EngineError, match="compiled for engine") as caught:
        Maker("other", "kind", ".bin").open(artifact)
    assert "--engine engine" in caught.value.hint
    portable = Maker("", "kind", ".bin")
    with pytest.raises(EngineError, match="no engine") as caught:
        MAKER.open(placed(portable.save(source, MODEL, EngineOptions(), source), source))
    assert "shipway compile" in caught.value.hint
