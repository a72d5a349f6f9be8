"""torch's messages, cut down to what the user can act on."""

from __future__ import annotations

import pytest

from shipway.export.guards import SizeDecision, Watch
from shipway.export.refusals import (
    explain_refusal,
    explain_untranslated,
    is_about_one,
    suggested_minima,
)
from shipway.source.locations import CodeLocation

HERE = CodeLocation("net.py", 7, "y = pool(x)")
RANGE = """Constraints violated (h)! For more information, run with TORCH_LOGS="+dynamic".
  - Not all values of h = L['x'].size()[2] in the specified range satisfy the generated guard 8 <= L['x'].size()[2] and L['x'].size()[2] <= IntInfinity()
Suggested fixes:
  h = Dim('h', min=8)

The error above occurred when calling torch.export.export."""
ONE = """Constraints violated (h)!
  - Not all values of h = L['x'].size()[2] in the specified range 8 <= h satisfy the generated guard (L['x'].size()[2] // 8) != 1.
"""
TWO_DIMS = """Constraints violated (h)!
  - Not all values of h = L['x'].size()[2] in the specified range satisfy the generated guard L['x'].size()[2]*L['x'].size()[3] != 1.
"""
UPPER = RANGE.replace("min=8", "max=8")
BOTH = RANGE.replace("min=8", "min=2, max=8")
MULTIPLE = """Constraints violated (h)!
Suggested fixes:
  _h = Dim('_h', min=1, max=oo)
  h = 4*_h
"""


def watch(*guards, direct=False):
    return Watch([SizeDecision(guard, HERE, direct) for guard in guards], {"s3": 64})


def minima(text, seen=None):
    return suggested_minima(RuntimeError(text), seen or watch(), {"s3": "h"}, {"h": 64})


def test_a_smallest_size_is_read_from_the_suggestion():
    """torch names the dimension as the user does."""
    assert minima(RANGE) == {"h": 8}


def test_a_smallest_size_follows_from_what_must_not_be_one():
    """An image that three poolings reduce to more than one pixel has 16."""
    assert minima(ONE) == {"h": 16}
    assert is_about_one(RuntimeError(ONE))


@pytest.mark.parametrize("text", [TWO_DIMS, UPPER, BOTH, MULTIPLE, "something else"])
def test_nothing_else_is_taken_for_a_smallest_size(text):
    """An upper limit would be one the engines know nothing of."""
    assert minima(text) == {}


def test_a_limit_that_the_models_own_code_decides_on_is_none():
    """Below it the model takes a course that the graph does not have."""
    assert minima(RANGE, watch("s3 > 7", direct=True)) == {}
    assert minima(RANGE, watch("s3 > 7", direct=False)) == {"h": 8}
    assert minima(RANGE, watch("s9 > 7", direct=True)) == {"h": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RANGE, "needs h >= 8, at net.py:7: y = pool(x)"),
        (BOTH, "needs h >= 2 and h <= 8, at net.py:7"),
        (MULTIPLE, "needs h to be a multiple of 4, at net.py:7"),
        (ONE, "needs (h // 8) != 1, at net.py:7"),
        (
            "Constraints violated (b)!\n  - The values of b = L['y'].size()[0] and a = L['x'].size()[0] must always be equal.",
            "Dimensions 'b' and 'a' must always be equal in this model, at net.py:7",
        ),
        (
            "- You marked h as dynamic but your code specialized it to be a constant (64). If",
            "Dimension 'h' was asked to be dynamic, but the model fixes it to 64, at net.py:7",
        ),
    ],
)
def test_a_refusal_is_one_sentence_with_the_dimension_and_the_line(text, message):
    """In the user's names."""
    error = explain_refusal(RuntimeError(text), watch("Eq(s3, 64)"), {"s3": "h"})
    assert message in str(error)
    assert error.hint


def test_the_place_that_fixed_the_dimension_goes_before_others():
    """Not whichever equality came last."""
    other = CodeLocation("net.py", 99, "z")
    seen = watch("Eq(s3, 64)")
    seen.decisions.append(SizeDecision("Eq(s5, 2)", other, direct=False))
    text = "You marked h as dynamic but your code specialized it to be a constant (64)."
    assert "net.py:7" in str(explain_refusal(RuntimeError(text), seen, {"s3": "h"}))


def chained(*texts):
    error = None
    for text in reversed(texts):
        outer = RuntimeError(text)
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(
    ("texts", "message", "hint"),
    [
        (
            (
                "step 3/3",
                "translating node",
                "No ONNX function found for <OpOverload(op='a.b', overload='default')>. Failure message: x",
            ),
            "no ONNX translation of the operator a.b.",
            "standard operators",
        ),
        (
            (
                "Exporting the operator 'aten::x' to ONNX opset version 9 is not supported. Support for this operator was added in version 14, try",
            ),
            "aten::x cannot be written in opset 9",
            "--opset 14",
        ),
        (
            ("step 2/3", "boom.\nand a page more"),
            "The ONNX exporter fails: RuntimeError: boom.",
            "--legacy",
        ),
    ],
)
def test_what_cannot_be_translated_is_named(texts, message, hint):
    """From the innermost of a chain of errors."""
    error = explain_untranslated(chained(*texts))
    assert message in str(error)
    assert hint in error.hint
    assert "\n" not in str(error)
