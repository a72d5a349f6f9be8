"""KL divergence of softmax outputs against scipy, whatever the blocks; PSNR by its formula."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from shipway.compare.accumulator import Accumulator
from shipway.compare.metrics import measure

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 9))


def logits(shape):
    return hnp.arrays(np.float64, shape, elements=st.floats(-20, 20))


PAIRS = SHAPES.flatmap(lambda shape: st.tuples(logits(shape), logits(shape)))


@given(PAIRS)
def test_divergence_of_softmax_outputs_is_that_of_scipy(pair):
    golden, actual = (special.softmax(side, axis=-1) for side in pair)
    found = measure(golden, actual).kl_divergence
    assert found == pytest.approx(stats.entropy(golden, actual, axis=-1).mean(), abs=1e-12)


@given(PAIRS, st.floats(0, 2), st.floats(-0.5, 0.5))
def test_the_side_under_test_is_taken_as_it_is(pair, factor, shift):
    """Not normalised: scaled and shifted is another distribution, or none at all."""
    golden = special.softmax(pair[0], axis=-1)
    actual = factor * special.softmax(pair[1], axis=-1) + shift
    expected = special.rel_entr(golden, actual).sum(axis=-1).mean()
    found = measure(golden, actual).kl_divergence
    assert found == expected or found == pytest.approx(expected, rel=1e-11, abs=1e-11)


@given(PAIRS, st.integers(1, 30))
def test_divergence_does_not_depend_on_the_block_size(pair, block_size):
    golden, actual = (special.softmax(side, axis=-1) for side in pair)
    small = Accumulator(block_size=block_size)
    small.add(golden, actual)
    expected = measure(golden, actual).kl_divergence
    assert small.metrics().kl_divergence == pytest.approx(expected, abs=1e-12)


@given(PAIRS, PAIRS)
def test_divergence_of_several_sets_is_the_mean_over_all_rows(first, second):
    parts = [Accumulator(block_size=5), Accumulator()]
    rows = []
    for sums, pair in zip(parts, (first, second), strict=True):
        golden, actual = (special.softmax(side, axis=-1) for side in pair)
        sums.add(golden, actual)
        rows.extend(stats.entropy(golden, actual, axis=-1).ravel())
    parts[0].merge(parts[1])
    assert parts[0].metrics().kl_divergence == pytest.approx(np.mean(rows), abs=1e-12)


def test_one_set_that_is_no_distribution_leaves_no_divergence():
    both = Accumulator()
    for golden in (np.full((2, 4), 0.25), np.ones((2, 4))):
        other = Accumulator()
        other.add(golden, golden)
        both.merge(other)
    assert both.metrics().kl_divergence is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("outcomes", [2, 1000, 40_000])
def test_a_rounded_softmax_is_a_distribution(dtype, outcomes):
    scores = np.random.default_rng(0).standard_normal((3, outcomes))
    golden = special.softmax(scores, axis=-1).astype(dtype)
    assert measure(golden, golden).kl_divergence == 0


def test_no_chance_where_there_is_one_is_infinite():
    golden = np.array([[0.5, 0.5, 0.0]])
    assert measure(golden, np.array([[1.0, 0.0, 0.0]])).kl_divergence == math.inf
    assert measure(golden, np.array([[1.1, -0.1, 0.0]])).kl_divergence == math.inf
    assert measure(golden, np.array([[0.5, 0.25, 0.25]])).kl_divergence == pytest.approx(
        math.log(2) / 2
    )


@pytest.mark.parametrize(
    "golden",
    [
        np.array([[0.5, 0.5], [0.5, 0.4]]),
        np.array([[1.5, -0.5]]),
        np.array([[1.0], [1.0]]),
        np.array(1.0),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.array([[math.nan, 1.0]]),
        np.array([[1, 0]]),
        np.array([[True, False]]),
    ],
    ids=str,
)
def test_what_is_no_distribution_has_no_divergence(golden):
    assert measure(golden, golden).kl_divergence is None


def test_a_row_that_is_none_is_found_behind_many_that_are():
    golden = np.full((20_000, 4), 0.25)
    golden[-1] = 0.3
    assert measure(golden, golden).kl_divergence is None


def test_nan_on_the_side_under_test_leaves_no_divergence():
    golden = np.full((2, 4), 0.25)
    actual = golden.copy()
    actual[0, 0] = math.nan
    assert measure(golden, actual).kl_divergence is None


@given(
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=5).flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32))] * 2
        )
    )
)
def test_peak_signal_to_noise_follows_its_formula(pair):
    golden, actual = (side.astype(np.float64) for side in pair)
    lost = ((golden - actual) ** 2).mean()
    found = measure(*pair).psnr_db
    if golden.any() and lost:
        expected = 20 * math.log10(np.abs(golden).max()) - 10 * math.log10(lost)
        assert found == pytest.approx(expected, abs=1e-9)
    else:
        assert found is None


def test_the_peak_may_lie_where_there_is_no_error():
    golden = np.array([-8.0, 1.0])
    assert measure(golden, np.array([-8.0, 2.0])).psnr_db == pytest.approx(10 * math.log10(64 * 2))
