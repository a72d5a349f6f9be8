"""Which sizes an export is proved at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shipway.proof.sizes import plan_sizes


def anything(_):
    return ""


def test_one_dimension_is_tried_at_its_smallest_at_the_exports_and_larger():
    """1 is where broadcasting hides mistakes."""
    plan = plan_sizes({"batch": 3}, {}, anything)
    assert plan.sets == [{"batch": 3}, {"batch": 1}, {"batch": 6}]
    assert plan.notes == []


def test_several_dimensions_are_also_mixed():
    """Each at its smallest while the others are large."""
    plan = plan_sizes({"batch": 3, "time": 8}, {}, anything)
    assert {"batch": 1, "time": 16} in plan.sets
    assert {"batch": 6, "time": 1} in plan.sets


def test_no_dynamic_dimension_gives_one_set():
    """There is nothing to vary."""
    assert plan_sizes({}, {}, anything).sets == [{}]


def test_what_golden_refuses_is_left_out_and_said():
    """An image smaller than the kernel is nobody's mistake; the next size up is tried."""
    plan = plan_sizes({"h": 64}, {}, lambda sizes: "" if sizes["h"] >= 5 else "too small")
    assert plan.sets == [{"h": 64}, {"h": 8}, {"h": 128}]
    assert plan.notes == [
        f"not tried: h={size}, which PyTorch refuses: too small" for size in (1, 2, 4)
    ]


def test_a_golden_that_takes_only_the_exports_sizes_is_proved_there():
    """With a note for each of the others."""
    plan = plan_sizes({"h": 8}, {}, lambda sizes: "" if sizes["h"] == 8 else "no")
    assert plan.sets == [{"h": 8}]
    assert len(plan.notes) == 4


EXAMPLES = st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 40), min_size=1)


@given(EXAMPLES, st.data())
def test_sizes_stay_within_bounds(example, data):
    """The user said what the model is for."""
    bounds = {
        name: (data.draw(st.integers(1, size)), data.draw(st.none() | st.integers(size, 3 * size)))
        for name, size in example.items()
    }
    plan = plan_sizes(example, bounds, anything)
    assert plan.sets[0] == example
    for sizes in plan.sets:
        assert set(sizes) == set(example)
        for name, size in sizes.items():
            low, high = bounds[name]
            assert size >= low
            assert high is None or size <= high
    assert len(plan.sets) == len({tuple(sizes.items()) for sizes in plan.sets})
