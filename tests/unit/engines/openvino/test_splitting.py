"""Which tensors are read together: within memory, and without changing the result."""

from hypothesis import given
from hypothesis import strategies as st

from shipway.engines.openvino.splitting import chunks_of, separate

NAMES = tuple(f"t{at}" for at in range(24))
some = st.sets(st.sampled_from(NAMES), max_size=6)


@given(st.lists(st.integers(0, 100), max_size=40), st.integers(0, 200), st.integers(1, 40))
def test_chunks_keep_the_order_and_the_limit(sizes, max_bytes, most):
    """Nothing is lost; a chunk over the limit is one tensor, unless there would be too many chunks."""
    names = tuple(map(str, range(len(sizes))))
    held = dict(zip(names, sizes, strict=True))
    chunks = chunks_of(names, held, max_bytes, most)
    assert tuple(name for chunk in chunks for name in chunk) == names
    assert len(chunks) <= most
    free = chunks_of(names, held, max_bytes, len(names) + 1)
    assert all(
        len(chunk) == 1 or sum(held[name] for name in chunk) <= max(max_bytes, 1) for chunk in free
    )


@given(some, some, st.integers(0, 80))
def test_every_tensor_is_read_once_and_the_guilty_ones_alone(guilty, suspects, attempts):
    """However few attempts there are; those that are called harmless are harmless."""
    asked = []

    def keeps(group):
        asked.append(group)
        return guilty.isdisjoint(group)

    found, left = separate(NAMES, keeps, attempts, suspects)
    assert sorted(name for group in found.groups for name in group) == sorted(NAMES)
    assert len(asked) + left == attempts
    assert all(guilty.isdisjoint(group) for group in found.together)
    assert set(found.perturbing) <= guilty
    if left:
        assert not found.undecided
        assert set(found.perturbing) == guilty
        assert len(found.together) <= 1


def test_tensors_that_disturb_only_together_are_read_apart():
    """Each half is harmless: two runs, none perturbed."""
    found, _ = separate(NAMES, lambda group: not {"t1", "t20"} <= set(group), 20)
    assert len(found.together) == 2
    assert not found.perturbing
    assert not found.undecided


def test_known_suspects_cost_one_attempt_each():
    """Halving would cost more."""
    guilty = {"t3", "t9", "t15"}
    _, left = separate(NAMES, guilty.isdisjoint, 50, guilty)
    assert 50 - left == 1 + len(guilty)
    _, blind = separate(NAMES, guilty.isdisjoint, 50)
    assert 50 - blind > 10
