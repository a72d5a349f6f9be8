"""Tying input specs to the parameters of forward."""

from __future__ import annotations

import pytest

from shipway.errors import ExportError
from shipway.export.signature import bind_inputs, name_free_dims
from shipway.tensors import TensorSpec, parse_spec


def specs(*texts):
    return tuple(parse_spec(text) for text in texts)


def plain(image, mask=None, scale=1.0):
    return image, mask, scale


def keyword(a, scale=None, *, b):
    return a, scale, b


def variadic(*xs):
    return xs


def names(binding):
    return [spec.name for spec in binding.specs]


def test_names_decide_in_any_order():
    """The result has the order of the signature."""
    binding = bind_inputs(plain, specs("mask:[1]", "image:[2]"))
    assert names(binding) == ["image", "mask"]
    assert binding.matched == "by name"
    assert binding.arguments({"image": 1, "mask": 2}) == ((1, 2), {})


def test_a_gap_in_the_positions_is_bridged_with_keywords():
    """A parameter that is left to its default must stay at it."""
    binding = bind_inputs(plain, specs("scale:[1]", "image:[2]"))
    assert binding.arguments({"image": 1, "scale": 3}) == ((1,), {"scale": 3})


def test_keyword_only_parameters_are_passed_by_name():
    """They cannot be passed otherwise."""
    binding = bind_inputs(keyword, specs("b:[1]", "a:[2]"))
    assert binding.arguments({"a": 1, "b": 2}) == ((1,), {"b": 2})


def test_foreign_names_go_by_position_and_that_is_said():
    """The tensors keep the names of their specs."""
    binding = bind_inputs(plain, specs("input.1:[1]", "input.2:[2]"))
    assert names(binding) == ["input.1", "input.2"]
    assert binding.describe() == "by position: input.1 to image, input.2 to mask"


def test_a_single_spec_without_a_name_takes_the_first_parameter():
    """The shortest way to say it: --input 1x3x224x224."""
    assert names(bind_inputs(plain, specs("1x3x8x8"))) == ["image"]


def test_variadic_parameters_take_the_rest():
    """`forward(*xs)` is called with as many tensors as there are specs."""
    binding = bind_inputs(variadic, specs("a:[1]", "b:[1]", "c:[1]"))
    assert binding.arguments({"a": 1, "b": 2, "c": 3}) == ((1, 2, 3), {})


@pytest.mark.parametrize(
    ("forward", "given", "message"),
    [
        (plain, ("imge:[1]", "mask:[1]"), "no parameter imge"),
        (plain, ("a:[1]", "b:[1]", "c:[1]", "d:[1]"), "takes 3 by position, not 4"),
        (plain, ("mask:[1]",), "nothing is given for image"),
        (keyword, ("p:[1]",), "nothing is given for b"),
        (plain, ("image:[1]", "image:[2]"), "same name"),
    ],
)
def test_specs_that_do_not_fit_show_the_signature(forward, given, message):
    """The user sees what forward takes, and what to type."""
    with pytest.raises(ExportError, match=message) as caught:
        bind_inputs(forward, specs(*given))
    assert "forward(" in str(caught.value)
    assert "--input" in caught.value.hint


def test_no_specs_give_a_hint_made_from_the_signature():
    """With the required parameters only."""
    with pytest.raises(ExportError, match=r"forward\(image, mask=None, scale=1\.0\)") as caught:
        bind_inputs(plain, ())
    assert caught.value.hint.endswith('--input "image:float32[batch,...]".')


def test_free_dimensions_become_symbols_of_their_own():
    """Named after the input and the axis; characters no symbol can have are replaced."""
    (spec,) = name_free_dims([TensorSpec("a/b 1", "float32", ("?", 3, "n", "?"))])
    assert spec.shape == ("a_b_1_dim0", 3, "n", "a_b_1_dim3")
    (spec,) = name_free_dims([TensorSpec("0", "float32", ("?",))])
    assert spec.shape == ("_0_dim0",)


def test_a_name_given_by_the_signature_names_the_free_dimension_too():
    """`--input ?x3` on forward(image) gives image_dim0."""
    binding = bind_inputs(plain, specs("?x3"))
    assert binding.specs[0].shape == ("image_dim0", 3)


def test_an_input_of_unknown_rank_is_refused():
    """No example can be made for it."""
    with pytest.raises(ExportError, match="no known rank"):
        name_free_dims([TensorSpec("x", "float32", None)])
