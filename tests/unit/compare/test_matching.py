"""Which tensor of an engine is which of the golden: names first, numbers decide."""

import numpy as np
import pytest

from shipway.compare.fingerprints import agreement, is_distinctive, is_reordered, is_same
from shipway.compare.matching import Candidate, match_tensors
from shipway.engines.tapping import AS_WITHOUT, Tap
from shipway.errors import UsageError
from shipway.trace.statistics import summarize

RNG = np.random.default_rng(5)
VALUES = {name: RNG.standard_normal((2, 8, 4, 4)).astype(np.float32) for name in "abcde"}


def candidate(name, value, order, *, clean=False, **known):
    return Candidate(Tap(name, order, **known), value.shape, summarize(value), clean)


def goldens(values=VALUES):
    return [candidate(name, value, place) for place, (name, value) in enumerate(values.items())]


def test_equal_names_with_equal_numbers_are_shown() -> None:
    found = match_tensors(goldens(), goldens())
    assert {name: golden for name, (golden, _) in found.pairs.items()} == {n: n for n in VALUES}
    assert {(match.method, match.confidence) for _, match in found.pairs.values()} == {
        ("name", 1.0)
    }
    assert not found.unmatched


def test_a_wrong_tensor_keeps_its_name_and_is_not_shown() -> None:
    """The fault itself must not make a tensor disappear from the comparison."""
    wrong = {**VALUES, "c": VALUES["c"] * 1.5}
    found = match_tensors(goldens(), goldens(wrong))
    golden, match = found.pairs["c"]
    assert (golden, match.method, match.confidence) == ("c", "name", 0.5)


def test_a_name_that_holds_another_tensor_is_caught() -> None:
    """OpenVINO's conversion of a program gives some tensors the names of others."""
    swapped = [
        candidate("a", VALUES["a"], 0, clean=True),
        candidate("c", VALUES["b"], 1, clean=True),
        candidate("d", VALUES["d"], 2, clean=True),
    ]
    golden, match = match_tensors(goldens(), swapped).pairs["c"]
    assert golden == "b"
    assert match.method == "fingerprint"
    assert "'c'" in match.note


def test_the_engine_under_test_refutes_no_name() -> None:
    """A transpose or an activation that is left out looks like the tensor before it."""
    golden, match = match_tensors(goldens(), [candidate("c", VALUES["b"], 0)]).pairs["c"]
    assert (golden, match.confidence) == ("c", 0.5)


def test_a_fault_that_a_clean_build_has_too_is_not_lost() -> None:
    other = RNG.standard_normal((2, 8, 4, 4)).astype(np.float32)
    golden, match = match_tensors(goldens(), [candidate("c", other, 0, clean=True)]).pairs["c"]
    assert (golden, match.confidence) == ("c", 0.5)


@pytest.mark.parametrize("clean", [False, True])
def test_what_is_concluded_from_sizes_must_be_shown(clean) -> None:
    """AOTInductor keeps steps inside a normalization that are as large as its result."""
    step = RNG.standard_normal((2, 8, 4, 4)).astype(np.float32)
    surmised = {"names": ("b",), "covers": ("a", "b"), "surmised": True}
    found = match_tensors(goldens(), [candidate("buf4", step, 0, clean=clean, **surmised)])
    assert "by its size" in found.unmatched["buf4"]
    right = [candidate("buf4", VALUES["b"], 0, clean=clean, **surmised)]
    assert match_tensors(goldens(), right).pairs["buf4"][0] == "b"


def test_in_low_precision_numbers_tell_nothing() -> None:
    nameless = [candidate("MVN#1", VALUES["b"], 0)]
    found = match_tensors(goldens(), nameless, precision="bf16")
    assert "too coarse" in found.unmatched["MVN#1"]
    assert not found.moved
    clean = [candidate("MVN#1", VALUES["b"], 0, clean=True)]
    assert match_tensors(goldens(), clean, precision="bf16").pairs["MVN#1"][0] == "b"


def test_a_result_with_a_name_of_its_own_is_none_of_what_it_covers() -> None:
    actual = [candidate("Conv", VALUES["b"] * 2, 0, names=("relu.right",), covers=("a", "b"))]
    assert "'relu.right'" in match_tensors(goldens(), actual).unmatched["Conv"]


def test_what_is_called_so_goes_on_in_goldens_place() -> None:
    actual = [candidate("b", VALUES["b"], 0), candidate("reshaped", VALUES["b"].reshape(16, 16), 1)]
    assert match_tensors(goldens(), actual).standing({})["b"] == "b"


def test_what_was_changed_by_reading_it_goes_on_in_no_place() -> None:
    found = match_tensors(goldens(), goldens())
    perturbed = {"b": "in another way", "c": f"output differs; {AS_WITHOUT}"}
    assert set(found.standing(perturbed)) == {"a", "c", "d", "e"}


def test_of_equal_tensors_the_last_one_is_meant() -> None:
    """A view and its transpose back are one set of numbers; the later name is taken where it can be."""
    pool = goldens({"a": VALUES["a"], "b": VALUES["b"], "b_again": VALUES["b"], "d": VALUES["d"]})
    actual = [candidate("a", VALUES["a"], 0), candidate("x", VALUES["b"], 1)]
    assert match_tensors(pool, actual).pairs["x"][0] == "b_again"


def test_numbers_alone_find_a_tensor_under_another_shape() -> None:
    actual = [
        candidate("b", VALUES["b"], 0),
        candidate("reshaped_7", VALUES["c"].reshape(2, 1, 8, 16), 1),
        candidate("d", VALUES["d"], 2),
    ]
    golden, match = match_tensors(goldens(), actual).pairs["reshaped_7"]
    assert (golden, match.method) == ("c", "fingerprint")
    assert match.confidence == pytest.approx(0.9)


@pytest.mark.parametrize("clean", [False, True])
def test_the_same_numbers_in_another_order_are_another_tensor(clean) -> None:
    """Transposed, it must neither be compared element by element nor be fed to golden."""
    moved = VALUES["c"].transpose(0, 2, 3, 1).copy()
    found = match_tensors(goldens(), [candidate("t", moved, 0, clean=clean)])
    assert "those of 'c' in another order" in found.unmatched["t"]
    assert found.moved["t"] == ("c",)
    assert "c" not in match_tensors(goldens(), [candidate("c", moved, 0, clean=clean)]).pairs


@pytest.mark.parametrize("clean", [False, True])
def test_a_wrong_transpose_is_a_fault_unless_a_clean_build_does_it_too(clean) -> None:
    turned = VALUES["c"].transpose(0, 1, 3, 2).copy()
    found = match_tensors(goldens(), [candidate("c", turned, 0, clean=clean)])
    assert ("c" in found.unmatched) is clean


def test_of_equal_numbers_the_one_of_this_shape_is_taken() -> None:
    flat = VALUES["b"].reshape(2, -1)
    pool = goldens({"a": VALUES["a"], "b": VALUES["b"], "flat": flat, "d": VALUES["d"]})
    found = match_tensors(pool, [candidate("x", flat, 0), candidate("y", VALUES["b"], 1)])
    assert found.pairs["x"][0] == "flat"
    assert found.pairs["y"][0] == "b"


def test_the_engines_own_word_comes_after_names() -> None:
    actual = [candidate("Subgraph_3", VALUES["d"], 0, covers=("b", "c", "d"))]
    golden, match = match_tensors(goldens(), actual).pairs["Subgraph_3"]
    assert (golden, match.method, match.confidence) == ("d", "provenance", 1.0)


def test_links_lead_from_the_onnx_name_to_the_program() -> None:
    actual = [candidate("/layer/Relu_output_0", VALUES["e"], 0)]
    found = match_tensors(goldens(), actual, links={"/layer/Relu_output_0": "e"})
    assert found.pairs["/layer/Relu_output_0"][0] == "e"


def test_sanitized_names_are_found() -> None:
    """Ascend writes '/' and '.' as '_' in the names of its dump files."""
    pool = [candidate("/layer1.0/conv", VALUES["a"], 0)]
    assert match_tensors(pool, [candidate("_layer1_0_conv", VALUES["a"], 0)]).pairs


def test_the_users_word_is_final_and_must_name_tensors() -> None:
    found = match_tensors(goldens(), goldens(), user={"a": "b"})
    assert found.pairs["a"][0] == "b"
    assert found.pairs["a"][1].method == "user"
    with pytest.raises(UsageError, match="'nope'"):
        match_tensors(goldens(), goldens(), user={"a": "nope"})


def test_every_unmatched_tensor_has_a_reason() -> None:
    actual = [
        candidate("new", RNG.standard_normal(77).astype(np.float32), 0),
        candidate("constant", np.zeros(64, np.float32), 1),
        candidate("a", VALUES["a"][:1], 2),
    ]
    found = match_tensors(goldens(), actual).unmatched
    assert "none with these numbers" in found["new"]
    assert "too few different numbers" in found["constant"]
    assert "[1, 8, 4, 4]" in found["a"]


def test_several_of_the_engines_tensors_may_be_one_of_goldens() -> None:
    actual = [candidate("a", VALUES["a"], 0), candidate("a_reordered", VALUES["a"], 1)]
    assert match_tensors(goldens(), actual).by_golden()["a"] == ["a", "a_reordered"]


def test_fingerprints_know_another_order_for_one() -> None:
    value = RNG.standard_normal((3, 70000)).astype(np.float32)
    for shuffled in (RNG.permutation(value.ravel()), value.T, value[[0, 2, 1]]):
        assert agreement(summarize(value), summarize(shuffled)) < 1e-6
        assert is_reordered(summarize(value), summarize(shuffled), "bf16")
    noisy = value * (1 + RNG.standard_normal(value.shape).astype(np.float32) * 2**-9)
    assert is_same(summarize(value), summarize(noisy.reshape(-1, 7)), "bf16")
    assert not is_same(summarize(value), summarize(noisy), "f32")


def test_fingerprints_see_every_difference() -> None:
    value = RNG.standard_normal(4096).astype(np.float32)
    assert not is_same(summarize(value), summarize(value * 1.001), "f32")
    assert not is_same(summarize(value), summarize(value + 0.01), "f32")
    one_wrong = value.copy()
    one_wrong[np.argmax(value)] = 40
    assert not is_same(summarize(value), summarize(one_wrong), "f32")
    with_nan = value.copy()
    with_nan[3] = np.nan
    assert not is_same(summarize(value), summarize(with_nan), "bf16")
    assert not is_distinctive(summarize(np.ones(1000, np.float32)))
