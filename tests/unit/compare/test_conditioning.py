"""An operator that magnifies the last digit of its input is no fault; a wrong one still is."""

import numpy as np
import pytest
from small_graph import SmallPiece, Step

from shipway.compare.conditioning import explains_conditioning
from shipway.compare.verdict import limits_for

RNG = np.random.default_rng(0)
DEEP = RNG.uniform(-20, -12, (4, 300)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def piece(function=sigmoid):
    return SmallPiece("y", ("x",), [Step("y", "Sigmoid", function, ("x",))])


def bf16(x):
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def explain(actual, given, precision="bf16", function=sigmoid):
    limits = limits_for(precision, local=True)
    return explains_conditioning(piece(function), {"x": given}, actual, limits, precision)


def test_digits_that_could_not_be_read_are_no_fault() -> None:
    """The engine held the logits in f32; what is read of them is bf16."""
    assert "rounding what it is computed from" in explain(sigmoid(DEEP), bf16(DEEP))


def test_golden_may_be_the_one_that_rounds() -> None:
    exact = sigmoid(DEEP.astype(np.float64))
    assert "golden rounded" in explain(exact.astype(np.float32), DEEP)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_faults_are_not_excused(precision) -> None:
    given = RNG.standard_normal((16, 64)).astype(np.float32)
    right = sigmoid(given)
    for wrong in (right * 1.05, right + 0.05, sigmoid(-given), np.where(right > 0.6, 0.6, right)):
        assert explain(wrong.astype(np.float32), given, precision) == ""
    assert explain((sigmoid(DEEP) * 1.2).astype(np.float32), DEEP, precision) == ""


def test_nan_is_never_excused() -> None:
    actual = sigmoid(DEEP)
    actual[1, 2] = np.nan
    assert explain(actual, bf16(DEEP)) == ""
