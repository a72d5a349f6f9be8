"""A run that is recorded: all of it, some of it, or until something goes wrong."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from tapped_engines import STEPS, TAPS, StepsSession

from shipway.artifact import Artifact
from shipway.engines.tapping import TapCheck
from shipway.engines.target import Target
from shipway.errors import EngineError, TensorError, UsageError
from shipway.trace.filters import select_taps
from shipway.trace.opening import TappedModel
from shipway.trace.recording import describe_run, observe_session, record_session
from shipway.trace.records import InputRecord
from shipway.trace.statistics import summarize
from shipway.trace.store import open_trace

FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


@pytest.fixture
def header(tmp_path: Path):
    return header_of(StepsSession(), tmp_path)


def header_of(session: StepsSession, folder: Path):
    path = folder / "model.onnx"
    path.write_bytes(b"model")
    artifact = Artifact(path, "onnx", "steps", session.inputs, session.outputs)
    return describe_run(TappedModel(session, Target("steps"), artifact, path), FEEDS)


def computed() -> list[np.ndarray]:
    return [one.value for one in StepsSession().stream(FEEDS)]


def test_the_header_says_what_was_run(header, tmp_path: Path) -> None:
    assert (header.engine, header.precision) == ("steps", "f32")
    assert header.model == str(tmp_path / "model.onnx")
    assert header.model_sha256.startswith("9372c470eeadd5ec")
    assert header.inputs == {"x": InputRecord("float32", (2, 4), summarize(FEEDS["x"]).crc)}
    assert header.effective["threads"] == "1"
    assert header.untapped["loop body"] == "it runs inside Loop"
    assert "numpy" in header.versions
    assert not header.complete


def test_everything(header, tmp_path: Path) -> None:
    session = StepsSession()
    trace = record_session(session, FEEDS, tmp_path / "t", header)
    assert session.asked == [None]
    assert [record.tap for record in trace.records] == list(TAPS)
    found = open_trace(tmp_path / "t")
    assert found.header.complete
    assert found.header.check == TapCheck(identical=True, perturbed={})
    assert found.header.left_out == 0
    for tap, value in zip(TAPS, computed(), strict=True):
        np.testing.assert_array_equal(found.read(tap.name), value)


def test_a_selection_is_what_the_engine_is_asked_for(header, tmp_path: Path) -> None:
    session = StepsSession()
    taps = select_taps(TAPS, op_types=["Mul"])
    trace = record_session(session, FEEDS, tmp_path / "t", header, taps=taps, keep_values=False)
    assert session.asked == [[tap.name for tap in taps]]
    assert [record.tap for record in trace.records] == list(taps)
    assert trace.header.left_out == len(TAPS) - len(taps)
    assert not trace.has_values


def test_looking_on_writes_nothing(header, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    trace = observe_session(StepsSession(), FEEDS, header, taps=TAPS[:3])
    assert [record.statistics for record in trace.records] == list(map(summarize, computed()[:3]))
    assert trace.header.left_out == len(TAPS) - 3
    assert trace.header.complete
    assert sorted(tmp_path.iterdir()) == before


def test_what_perturbs_is_kept_with_its_reason(header, tmp_path: Path) -> None:
    session = StepsSession()
    session.perturbed = {"y": "fused otherwise"}
    record_session(session, FEEDS, tmp_path / "t", header)
    check = open_trace(tmp_path / "t").header.check
    assert check == TapCheck(identical=False, perturbed={"y": "fused otherwise"})


def test_what_cannot_be_kept_is_listed_and_the_rest_goes_on(header, tmp_path: Path) -> None:
    session = StepsSession(strange_at=3, silent_at=5)
    trace = record_session(session, FEEDS, tmp_path / "t", header)
    assert len(trace.records) == len(TAPS) - 2
    untapped = open_trace(tmp_path / "t").header.untapped
    assert "complex64" in untapped["block/3 out"]
    assert "did not" in untapped["block/5 out"]
    assert "loop body" in untapped


def test_an_engine_that_breaks_down_leaves_what_came_before(header, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="broke down at block/7"):
        record_session(StepsSession(fail_at=7), FEEDS, tmp_path / "t", header)
    found = open_trace(tmp_path / "t")
    assert [record.tap for record in found.records] == list(TAPS[:7])
    assert not found.header.complete
    np.testing.assert_array_equal(found.read("block/6 out"), computed()[6])

    record_session(StepsSession(), FEEDS, tmp_path / "t", header, resume=True)
    assert open_trace(tmp_path / "t").header.complete
    assert len(open_trace(tmp_path / "t").records) == len(TAPS)


def test_a_wrong_feed_leaves_no_folder_to_clear_away(header, tmp_path: Path) -> None:
    with pytest.raises(TensorError, match="float64"):
        record_session(StepsSession(), {"x": FEEDS["x"].astype(np.float64)}, tmp_path / "t", header)
    record_session(StepsSession(), FEEDS, tmp_path / "t", header)


def test_resuming_with_another_selection_keeps_and_checks_the_first(header, tmp_path: Path) -> None:
    record_session(StepsSession(), FEEDS, tmp_path / "t", header, taps=TAPS[:4])
    session = StepsSession()
    record_session(session, FEEDS, tmp_path / "t", header, taps=TAPS[6:], resume=True)
    wanted = [*TAPS[:4], *TAPS[6:]]
    assert session.asked == [[tap.name for tap in wanted]]
    found = open_trace(tmp_path / "t")
    assert [record.tap for record in found.records] == wanted
    assert found.header.left_out == 2


def test_a_resumed_trace_is_that_of_one_run(header, tmp_path: Path) -> None:
    """An engine that gives other numbers the second time gives all of them."""
    with pytest.raises(EngineError):
        record_session(StepsSession(fail_at=7), FEEDS, tmp_path / "t", header)
    record_session(StepsSession(scale=1.5), FEEDS, tmp_path / "t", header, resume=True)
    found = open_trace(tmp_path / "t")
    for one in StepsSession(scale=1.5).stream(FEEDS):
        np.testing.assert_array_equal(found.read(one.tap.name), one.value)


def test_other_inputs_are_named_when_resuming(header, tmp_path: Path) -> None:
    record_session(StepsSession(), FEEDS, tmp_path / "t", header)
    from dataclasses import replace

    other = replace(header, inputs={"x": InputRecord("float32", (2, 4), 0)})
    with pytest.raises(UsageError, match="its input 'x' is another"):
        record_session(StepsSession(), FEEDS, tmp_path / "t", other, resume=True)


def test_one_tensor_is_in_memory_at_a_time(header, tmp_path: Path) -> None:
    """The array of a tap is let go of before the engine computes the next."""
    alive: list[int] = []

    class Watched(StepsSession):
        def stream(self, feeds, names=None):
            held: list[weakref.ref] = []
            for one in super().stream(feeds, names):
                gc.collect()
                alive.append(sum(ref() is not None for ref in held))
                copy = type(one)(one.tap, one.value.copy())
                held.append(weakref.ref(copy.value))
                yield copy
                del copy

    record_session(Watched(), FEEDS, tmp_path / "t", header)
    assert len(alive) == STEPS + 1
    assert max(alive) <= 1
