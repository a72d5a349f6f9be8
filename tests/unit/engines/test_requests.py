"""Options, findings and vendors' errors."""

import re

import pytest

from shipway.engines.base import EngineOptions, Finding
from shipway.engines.requests import (
    engine_errors,
    raise_errors,
    refuse_extras,
    require_precision,
    thread_count,
)
from shipway.environment import usable_cores
from shipway.errors import EngineError, TensorError

NOISE = re.compile(r"^noise.*$", re.MULTILINE)


def test_thread_count_is_the_wish_or_all_usable_cores():
    """0 stands for the physical cores of this process."""
    assert thread_count(EngineOptions(threads=3)) == 3
    assert thread_count(EngineOptions()) == usable_cores()
    with pytest.raises(EngineError, match="-2"):
        thread_count(EngineOptions(threads=-2))


def test_precision_unknown_lacking_and_there():
    """An unknown one lists those there are; a lacking one has the engine's hint."""
    require_precision("E", EngineOptions("bf16"), {"bf16"}, "hint")
    with pytest.raises(EngineError, match="'f8'") as unknown:
        require_precision("E", EngineOptions("f8"), {"f32"}, "hint")
    assert "bf16" in unknown.value.hint
    with pytest.raises(EngineError, match="E does not compute in f16") as lacking:
        require_precision("E", EngineOptions("f16"), {"f32"}, "another way")
    assert lacking.value.hint == "another way"


def test_extras_of_an_engine_without_any_are_named():
    """No wish is dropped in silence."""
    refuse_extras("E", EngineOptions())
    with pytest.raises(EngineError, match="speed"):
        refuse_extras("E", EngineOptions(extra={"speed": "high"}))


def test_errors_of_the_preflight_are_raised_together_and_warnings_are_not():
    """The message holds every error, the hint is the first there is."""
    warning = Finding("warning", "Slow.")
    raise_errors("E", [warning])
    with pytest.raises(EngineError, match=r"One\. Two\.") as caught:
        raise_errors("E", [warning, Finding("error", "One."), Finding("error", "Two.", hint="do")])
    assert caught.value.hint == "do"
    assert "Slow" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("noise 1\n\n  the reason.\nmore", "E failed: the reason."),
        ("the reason", "E failed: the reason."),
        ("noise", "E failed: no reason given."),
        ("", "E failed: no reason given."),
        ("x" * 1000, f"E failed: {'x' * 400}…"),
    ],
)
def test_a_vendors_error_becomes_its_first_meaningful_line(said, kept):
    """Noise and the rest of the lines go; very long lines are cut."""
    with pytest.raises(EngineError) as caught, engine_errors("E failed", NOISE):
        raise RuntimeError(said)
    assert str(caught.value) == kept
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_our_own_errors_pass_through():
    """A TensorError raised inside stays one."""
    with pytest.raises(TensorError, match="mine"), engine_errors("E failed", NOISE):
        raise TensorError("mine")
