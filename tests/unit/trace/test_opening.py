"""Opening whatever a user names so that its tensors can be read."""

from pathlib import Path

import pytest
from tapped_engines import PlainEngine, StepsEngine, StepsSession

from shipway.engines import opening as engines_opening
from shipway.engines.base import EngineOptions
from shipway.engines.opening import open_model
from shipway.engines.registry import find_engine
from shipway.engines.target import Target
from shipway.errors import EngineError, UsageError
from shipway.source.loading import SourceRequest
from shipway.trace import opening
from shipway.trace.opening import open_tapped

ENGINES = {"steps": StepsEngine, "plain": PlainEngine}


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' engines beside the real ones."""

    def find(name: str):
        return ENGINES[name]() if name in ENGINES else find_engine(name)

    monkeypatch.setattr(engines_opening, "find_engine", find)
    monkeypatch.setattr(opening, "find_engine", find)
    monkeypatch.setattr(opening, "engine_names", lambda: tuple(ENGINES))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import onnx

    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_model_file_is_compiled_and_closed_behind_the_block(model: Path) -> None:
    with open_tapped(
        SourceRequest(str(model)), Target("steps"), EngineOptions(), max_bytes=77
    ) as opened:
        session = opened.session
        assert isinstance(session, StepsSession)
        assert session.effective["max_bytes"] == "77"
        assert str(opened) == "steps (model.onnx)"
        assert opened.artifact.path.is_file()
        scratch = opened.artifact.path
    assert session.closed
    assert not scratch.exists()


def test_an_artifact_is_opened_as_it_lies(model: Path, tmp_path: Path) -> None:
    from shipway.engines.opening import compile_target, portable_model

    request = SourceRequest(str(model))
    portable = portable_model(request, tmp_path / "export")
    artifact = compile_target(portable, Target("steps"), EngineOptions(), tmp_path / "engine")
    named = SourceRequest(str(artifact.path))
    with open_tapped(named, None, EngineOptions()) as opened:
        assert opened.target == Target("steps")
        assert opened.artifact.path == artifact.path
    assert artifact.path.is_file()
    with (
        pytest.raises(UsageError, match="was compiled for steps, not for plain"),
        open_tapped(named, Target("plain"), EngineOptions()),
    ):
        pass


def test_an_engine_that_cannot_be_read_is_refused_before_anything_is_compiled(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainEngine, "compile", lambda *_: pytest.fail("it was compiled"))
    with (
        pytest.raises(
            EngineError, match="inside plain cannot be read; those of steps can"
        ) as caught,
        open_tapped(SourceRequest(str(model)), Target("plain"), EngineOptions()),
    ):
        pass
    assert "--bisect" in caught.value.hint


def test_a_plain_session_opens_as_before(model: Path) -> None:
    with open_model(SourceRequest(str(model)), Target("plain"), EngineOptions()) as opened:
        assert opened.target == Target("plain")
        session = opened.session
    with pytest.raises(EngineError, match="closed"):
        session.run({})
