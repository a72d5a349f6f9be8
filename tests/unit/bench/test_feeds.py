"""batch_feeds: which dimension the batch is, and what is refused."""

import pytest

from shipway.bench.feeds import batch_feeds, check_batch
from shipway.errors import UsageError
from shipway.tensors import parse_spec


def shapes(specs: list[str], batch: int, **sizes: int) -> list[tuple[int, ...]]:
    feeds = batch_feeds([parse_spec(spec) for spec in specs], sizes)(batch)
    return [value.shape for value in feeds.values()]


def test_the_batch_is_the_first_axis_and_every_dimension_of_its_name() -> None:
    assert shapes(["x:f32[n,3]", "y:i64[n,t]"], 4, t=7) == [(4, 3), (4, 7)]


def test_a_batch_without_a_name_is_set_too() -> None:
    assert shapes(["x:f32[?,3]"], 4) == [(4, 3)]


def test_a_fixed_batch_is_measured_as_it_is_and_no_other() -> None:
    assert shapes(["x:f32[8,3]"], 8) == [(8, 3)]
    with pytest.raises(UsageError, match="fixed batch of 8"):
        shapes(["x:f32[8,3]"], 1)


@pytest.mark.parametrize("batch", [0, -1])
def test_no_sample_at_all_is_refused(batch: int) -> None:
    with pytest.raises(UsageError, match="cannot be measured"):
        shapes(["x:f32[n,3]"], batch)


def test_a_batch_beyond_its_bounds_is_refused() -> None:
    inputs = [parse_spec("x:f32[n,3]")]
    check_batch(inputs, 64, {"n": (1, 64)})
    with pytest.raises(UsageError, match=r"bounded to 1\.\.64"):
        check_batch(inputs, 65, {"n": (1, 64)})


def test_a_scalar_input_has_no_batch() -> None:
    assert shapes(["x:f32[]"], 1) == [()]
