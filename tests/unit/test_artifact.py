"""Artifacts: the side-car says what the files are, and notices when they are no longer."""

import json
from pathlib import Path

import pytest

from shipway.artifact import Artifact, load_artifact
from shipway.errors import ModelError
from shipway.tensors import TensorSpec


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "a folder"
    (folder / "data").mkdir(parents=True)
    (folder / "net.onnx").write_bytes(b"graph")
    (folder / "data" / "w.bin").write_bytes(b"weights")
    return Artifact(
        path=folder / "net.onnx",
        kind="onnx",
        engine="onnxruntime",
        inputs=(TensorSpec("x", "float32", ("n", 3), (0.0, 1.0)),),
        outputs=(TensorSpec("y", "int64", None),),
        companions=("data/w.bin",),
        made={"command": "shipway compile", "opset": 17},
        versions={"torch": "2.13.0"},
    ).save()


def change_sidecar(artifact: Artifact, **changes: object) -> None:
    data = json.loads(artifact.sidecar.read_text())
    artifact.sidecar.write_text(json.dumps({**data, **changes}))


def test_it_reads_back_equal(artifact: Artifact):
    assert load_artifact(artifact.path) == artifact


def test_the_sidecar_lies_beside_the_file_and_has_every_hash(artifact: Artifact):
    assert artifact.sidecar == artifact.path.with_name("net.onnx.shipway.json")
    files = json.loads(artifact.sidecar.read_text())["files"]
    assert files["net.onnx"]["size_bytes"] == 5
    assert set(files) == {"net.onnx", "data/w.bin"}
    assert artifact.files == (artifact.path, artifact.path.parent / "data" / "w.bin")


def test_it_may_move_with_its_companions(artifact: Artifact, tmp_path: Path):
    moved = artifact.path.parent.rename(tmp_path / "elsewhere") / "net.onnx"
    assert load_artifact(moved).files[1].read_bytes() == b"weights"


def test_a_relative_path_works(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(artifact.path.parent)
    found = load_artifact(Path("net.onnx"))
    assert found.files == (Path("net.onnx"), Path("data/w.bin"))
    assert found.save().to_json() == artifact.to_json()


@pytest.mark.parametrize("name", ["net.onnx", "data/w.bin"])
def test_a_changed_file_is_noticed_unless_told_not_to_look(artifact: Artifact, name: str):
    (artifact.path.parent / name).write_bytes(b"other")
    with pytest.raises(ModelError, match=f"{name} changed after Shipway made it") as caught:
        load_artifact(artifact.path)
    assert "shipway compile" in caught.value.hint
    assert load_artifact(artifact.path, verify=False) == artifact


def test_an_absent_companion_is_named(artifact: Artifact):
    artifact.files[1].unlink()
    with pytest.raises(ModelError, match=r"net\.onnx needs .*w\.bin, which is absent"):
        load_artifact(artifact.path)


def test_an_absent_file_and_an_absent_sidecar_are_told_apart(artifact: Artifact):
    with pytest.raises(ModelError, match="No such model file"):
        load_artifact(artifact.path.with_name("other.onnx"))
    artifact.sidecar.unlink()
    with pytest.raises(ModelError, match="has no side-car") as caught:
        load_artifact(artifact.path)
    assert "shipway compile" in caught.value.hint


def test_a_sidecar_of_another_file_is_refused(artifact: Artifact):
    """A file put in place with another's side-car would otherwise never be checked."""
    other = artifact.path.with_name("other.onnx")
    other.write_bytes(b"anything")
    artifact.sidecar.rename(other.with_name("other.onnx.shipway.json"))
    with pytest.raises(ModelError, match=r"side-car of net\.onnx, data/w\.bin, not of other\.onnx"):
        load_artifact(other)


def test_a_newer_schema_says_to_upgrade(artifact: Artifact):
    change_sidecar(artifact, schema_version=99)
    with pytest.raises(ModelError, match="has schema 99; this Shipway reads up to 1") as caught:
        load_artifact(artifact.path)
    assert caught.value.hint == "pip install --upgrade shipway"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "3",
        "{}",
        '{"schema_version": "one"}',
        '{"schema_version": 1, "files": {}}',
    ],
)
def test_a_sidecar_of_something_else_is_refused(artifact: Artifact, content: str):
    artifact.sidecar.write_text(content)
    with pytest.raises(ModelError, match=r"shipway\.json is not"):
        load_artifact(artifact.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", []),
        ("files", {"net.onnx": "hash"}),
        ("files", {"net.onnx": {}}),
        ("inputs", [1]),
        ("inputs", [{"name": "x"}]),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": 3}]),
        ("outputs", None),
    ],
)
def test_a_damaged_part_is_refused(artifact: Artifact, key: str, value: object):
    change_sidecar(artifact, **{key: value})
    with pytest.raises(ModelError, match="is not a side-car of Shipway"):
        load_artifact(artifact.path)
