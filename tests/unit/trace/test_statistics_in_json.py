"""Statistics survive JSON, whatever the numbers."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

from shipway.trace.statistics import Statistics, summarize


@pytest.mark.parametrize(
    "tensor",
    [
        np.zeros((), bool),
        np.zeros((0, 3), np.int64),
        np.array(np.nan),
        np.full((2, 2, 3), np.inf, np.float16),
        np.ones((2, 3), ml_dtypes.bfloat16),
        np.array([2**63], np.uint64),
    ],
)
def test_statistics_come_back_equal(tensor: np.ndarray) -> None:
    found = summarize(tensor)
    assert Statistics.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_sums_beyond_float64_are_infinite_and_still_json() -> None:
    """A mask of the smallest float64, as an attention has it in a golden of double precision."""
    found = summarize(np.full((3, 4), np.finfo(np.float64).min))
    assert found.min == np.finfo(np.float64).min
    assert found.l2 == math.inf
    read = Statistics.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert read.l2 == math.inf
    assert read.channel_l2 == (math.inf,) * 4
