"""Options are honoured or refused, and `effective` tells which."""

import numpy as np
import pytest

from shipway.artifact import Artifact
from shipway.engines.base import Engine, EngineOptions, Session
from shipway.environment import usable_cores
from shipway.errors import EngineError

FACTS = ("precision", "threads", "device", "provider", "runtime", "version", "optimization")


def test_effective_is_text_that_says_what_is_in_force(engine: Engine, session: Session):
    """Every engine reports the same facts, all strings, none empty."""
    assert all(isinstance(value, str) for value in session.effective.values())
    assert {name: session.effective[name] for name in FACTS if not session.effective[name]} == {}
    assert session.effective["precision"] == "f32"
    assert session.effective["threads"] == "1"
    assert session.effective["device"] == "CPU"
    assert session.effective["version"] == engine.probe().version


@pytest.mark.usefixtures("two_cores")
def test_two_threads_are_two_threads(engine: Engine, open_session, session: Session, example):
    """A session with two threads says so, and computes what the one with one thread does."""
    feeds = example.feeds(batch=16)
    with open_session(engine, threads=2) as opened:
        assert opened.effective["threads"] == "2"
        both = opened.run(feeds)
    for name, value in session.run(feeds).items():
        np.testing.assert_allclose(both[name], value, rtol=1e-4, atol=1e-6)


def test_no_thread_count_means_all_physical_cores(engine: Engine, compile_once):
    """threads=0 is the number of usable cores, not some default of the vendor's."""
    artifact = compile_once(engine, threads=usable_cores())
    with engine.load(artifact, EngineOptions()) as opened:
        assert opened.effective["threads"] == str(usable_cores())


def test_an_unknown_precision_is_refused(engine: Engine, compile_once, example, tmp_path):
    """Neither compile nor load takes one; the message names it."""
    options = EngineOptions(precision="f8", threads=1)
    with pytest.raises(EngineError, match="Unknown precision 'f8'"):
        engine.load(compile_once(engine), options)
    with pytest.raises(EngineError, match="Unknown precision 'f8'"):
        engine.compile(example.portable, options, tmp_path)
    assert list(tmp_path.iterdir()) == []


def attempt(engine: Engine, artifact: Artifact, options: EngineOptions) -> Session | EngineError:
    """Load, and return the session or the refusal."""
    try:
        return engine.load(artifact, options)
    except EngineError as error:
        return error


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_a_precision_is_granted_or_refused_but_never_another(
    engine: Engine, compile_once, precision
):
    """Asked for less than float32, a float32 artifact gives that, or an error that names it."""
    answer = attempt(engine, compile_once(engine), EngineOptions(precision, threads=1))
    if isinstance(answer, EngineError):
        assert precision in str(answer)
        assert answer.hint
    else:
        with answer:
            assert answer.effective["precision"] == precision


def test_a_device_that_is_not_there_is_refused(engine: Engine, compile_once):
    """The message names the device."""
    with pytest.raises(EngineError, match="TPU"):
        engine.load(compile_once(engine), EngineOptions(threads=1, device="TPU"))


def test_a_negative_thread_count_is_refused(engine: Engine, compile_once):
    """No vendor gets to see it."""
    with pytest.raises(EngineError, match="-1"):
        engine.load(compile_once(engine), EngineOptions(threads=-1))


def test_an_unknown_extra_option_is_refused(engine: Engine, compile_once):
    """An option nobody honours is an error, not a wish."""
    with pytest.raises(EngineError):
        engine.load(compile_once(engine), EngineOptions(threads=1, extra={"NO_SUCH_OPTION": "1"}))


def test_optimisation_is_switched_off_or_the_wish_is_refused(engine: Engine, compile_once):
    """optimize=False gives a session that says so, or an EngineError with another way."""
    answer = attempt(engine, compile_once(engine), EngineOptions(threads=1, optimize=False))
    if isinstance(answer, EngineError):
        assert "optimisation" in str(answer)
        assert answer.hint
    else:
        with answer:
            assert answer.effective["optimization"] in {"off", "none (eager)"}
