"""What an engine leaves on disk, and what it says when that is not whole any more."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shipway.artifact import Artifact, load_artifact
from shipway.engines.base import Engine, EngineOptions, Session
from shipway.errors import EngineError, ModelError, OutputError

OPTIONS = EngineOptions(threads=1)
READ_ONLY = Path("/sys/kernel/shipway")


def move(artifact: Artifact, folder: Path) -> Artifact:
    """Copy an artifact with all its files, and read it from there."""
    shutil.copytree(artifact.path.parent, folder, dirs_exist_ok=True)
    return load_artifact(folder / artifact.path.name)


def test_a_folder_holds_the_files_of_the_sidecar_and_nothing_else(engine: Engine, compile_once):
    """No temporary file stays, in a folder whose name has a space; the side-car lists every file."""
    artifact = compile_once(engine)
    assert " " in artifact.path.parent.name
    there = sorted(path for path in artifact.path.parent.rglob("*") if path.is_file())
    assert there == sorted([*artifact.files, artifact.sidecar])
    assert artifact.engine == engine.name
    assert artifact.made["options"]["threads"] == 1


def test_specs_survive_with_symbolic_sizes_by_name(session: Session, compile_once, engine, example):
    """Artifact and session have the model's inputs and outputs, in order, 'batch' included."""
    artifact = load_artifact(compile_once(engine).path)
    assert artifact.inputs == session.inputs == example.portable.inputs
    assert artifact.outputs == session.outputs == example.portable.outputs
    assert session.inputs[0].dynamic_dims == ("batch",)


def test_an_artifact_can_be_moved(engine: Engine, compile_once, session, example, tmp_path):
    """Copied elsewhere with its side-car, it loads and gives the same bits."""
    feeds = example.feeds()
    golden = session.run(feeds)
    with engine.load(move(compile_once(engine), tmp_path / "moved here"), OPTIONS) as opened:
        for name, value in opened.run(feeds).items():
            assert value.tobytes() == golden[name].tobytes()


def test_a_changed_file_is_not_loaded(engine: Engine, compile_once, tmp_path):
    """One flipped bit in any file of an artifact is a ModelError that names the file."""
    for position in range(len(compile_once(engine).files)):
        artifact = move(compile_once(engine), tmp_path / str(position))
        damaged = artifact.files[position]
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        with pytest.raises(ModelError, match=damaged.name):
            engine.load(artifact, OPTIONS)


def test_a_lost_file_or_sidecar_is_named(engine: Engine, compile_once, tmp_path):
    """Without the side-car, or without a file, there is nothing to load."""
    artifact = move(compile_once(engine), tmp_path)
    for lost in (artifact.sidecar, artifact.path):
        lost.unlink()
        with pytest.raises(ModelError, match=lost.name):
            engine.load(artifact, OPTIONS)


def test_an_artifact_of_another_engine_is_refused(engine: Engine, compile_once):
    """The message says whose it is."""
    stranger = replace(compile_once(engine), engine="tensorrt", kind="plan")
    with pytest.raises(EngineError, match="compiled for tensorrt"):
        engine.load(stranger, OPTIONS)


def damaged(content: bytes, damage: str) -> bytes:
    """Return what is left of a file."""
    if damage == "garbage":
        return np.random.default_rng(0).bytes(len(content))
    return content[: len(content) // 2] if damage == "truncated" else b""


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_broken_model_is_a_model_error(engine: Engine, example, tmp_path, damage):
    """Before the compiler sees it; the message names the file, and nothing is left behind."""
    model = example.portable
    broken = {}
    for form in ("onnx", "program"):
        source = getattr(model, form)
        broken[form] = tmp_path / f"broken model{source.suffix}"
        content = source.read_bytes()
        broken[form].write_bytes(damaged(content, damage))
    model = replace(model, **broken)
    assert [f.severity for f in engine.check(model, OPTIONS)] == ["error"]
    with pytest.raises(ModelError, match="broken model"):
        engine.compile(model, OPTIONS, tmp_path / "out")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_missing_form_is_said(engine: Engine, example, tmp_path):
    """A model with neither form: the message says which one this engine needs."""
    model = replace(example.portable, onnx=None, program=None)
    with pytest.raises(ModelError, match=r"\.onnx|\.pt2"):
        engine.compile(model, OPTIONS, tmp_path)
    assert engine.check(model, OPTIONS)[0].severity == "error"


def test_a_missing_file_is_said(engine: Engine, example, tmp_path):
    """A path to nothing is a ModelError that names it."""
    model = replace(example.portable, onnx=tmp_path / "no.onnx", program=tmp_path / "no.pt2")
    with pytest.raises(ModelError, match=r"no\.(onnx|pt2)"):
        engine.compile(model, OPTIONS, tmp_path / "out")


def test_a_good_model_passes_the_preflight(engine: Engine, example):
    """No error; a warning may tell what the engine does differently."""
    findings = engine.check(example.portable, OPTIONS)
    assert [finding for finding in findings if finding.severity == "error"] == []


def test_specs_of_another_model_are_refused(engine: Engine, example, tmp_path):
    """Fewer outputs than the file has: a ModelError, not a session that answers wrongly."""
    model = replace(example.portable, outputs=example.portable.outputs[:2])
    with pytest.raises(ModelError, match="outputs"):
        engine.compile(model, OPTIONS, tmp_path)


def test_a_folder_that_cannot_be_written_is_an_output_error(engine: Engine, example, tmp_path):
    """A file in the folder's place, and a read-only file system; neither costs a compilation."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        engine.compile(example.portable, OPTIONS, tmp_path / "file")
    if not os.path.lexists("/sys/kernel"):
        pytest.skip("no /sys here")
    with pytest.raises(OutputError, match="shipway"):
        engine.compile(example.portable, OPTIONS, READ_ONLY)


def test_compiling_again_replaces_the_artifact(engine: Engine, example, tmp_path, capfd):
    """Whatever a crash left under the artifact's names is gone afterwards; nobody writes to the terminal."""
    if engine.name == "aotinductor":
        pytest.skip(
            "shown by the others: the files go the same way, and this one compiles for 15 s"
        )
    artifact = engine.compile(example.portable, OPTIONS, tmp_path)
    for path in (*artifact.files, artifact.sidecar):
        path.write_bytes(b"half")
    again = engine.compile(example.portable, OPTIONS, tmp_path)
    assert load_artifact(again.path).to_json() == json.loads(again.sidecar.read_text())
    engine.load(again, OPTIONS).close()
    assert capfd.readouterr() == ("", "")
