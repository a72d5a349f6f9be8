"""What the file declares and what the user says: joined where they agree, refused where not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import TensorError, UsageError
from shipway.source.binding import bind_inputs, check_names
from shipway.tensors import ANY, TensorSpec, parse_spec

PATH = Path("net.onnx")
IMAGE = TensorSpec("image", "float32", ("n", 3, "h", "w"))
IDS = TensorSpec("ids", "int64", ("n", 77))
SPECS = st.lists(
    st.builds(
        TensorSpec,
        name=st.text("abc", min_size=1),
        dtype=st.sampled_from(["float32", "int64"]),
        shape=st.none()
        | st.lists(st.integers(0, 9) | st.sampled_from(["n", "h", ANY]), max_size=4).map(tuple),
    ),
    max_size=4,
    unique_by=lambda spec: spec.name,
)


def bind(*texts: str, declared: tuple[TensorSpec, ...] = (IMAGE, IDS)) -> list[str]:
    return [str(spec) for spec in bind_inputs(declared, [parse_spec(text) for text in texts], PATH)]


def test_without_a_word_from_the_user_the_file_stands():
    assert bind() == ["image:float32[n,3,h,w]", "ids:int64[n,77]"]


def test_a_size_is_bound_everywhere_it_occurs():
    assert bind("image:[4,3,?,w]") == ["image:float32[4,3,h,w]", "ids:int64[4,77]"]


def test_sizes_may_be_renamed_even_into_each_other():
    assert bind("image:[n,3,w,h]") == ["image:float32[n,3,w,h]", "ids:int64[n,77]"]
    assert bind("ids:int64[batch,77]") == ["image:float32[batch,3,h,w]", "ids:int64[batch,77]"]


def test_the_users_order_does_not_matter_and_ranges_are_kept():
    assert bind("ids:int64[n,77]{0..9}", "image:[n,3,8,8]") == [
        "image:float32[n,3,8,8]",
        "ids:int64[n,77]{0..9}",
    ]


def test_a_free_dimension_and_a_free_rank_take_what_the_user_says():
    assert bind("x:[4,b]", declared=(TensorSpec("x", "float32", (ANY, ANY)),)) == ["x:float32[4,b]"]
    assert bind("x:[4]", declared=(TensorSpec("x", "float32", None),)) == ["x:float32[4]"]
    assert bind("x:[]", declared=(TensorSpec("x", "float32", None),)) == ["x:float32[]"]
    assert bind("x:[...]", declared=(TensorSpec("x", "float32", (2,)),)) == ["x:float32[2]"]


def test_the_only_input_needs_no_name():
    assert bind("2x3x8x8", declared=(IMAGE,)) == ["image:float32[2,3,8,8]"]


@given(SPECS)
def test_saying_what_the_file_says_changes_nothing(specs: list[TensorSpec]):
    assert bind_inputs(specs, specs, PATH) == tuple(specs)
    assert bind_inputs(specs, [], PATH) == tuple(specs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imag:1x3x8x8", "net.onnx has no input 'imag'."),
        ("1x3x8x8", "net.onnx has several inputs: say which one is meant."),
        ("ids:1x77", "--input ids:float32[1,77] contradicts net.onnx: its dtype is int64."),
        ("image:3x8x8", "--input image:float32[3,8,8] contradicts net.onnx: it has 4 dimensions."),
        (
            "image:1x1x8x8",
            "--input image:float32[1,1,8,8] contradicts net.onnx: axis 1 is fixed at 3.",
        ),
        (
            "image:[n,c,8,8]",
            "--input image:float32[n,c,8,8] contradicts net.onnx: axis 1 is fixed at 3.",
        ),
    ],
)
def test_a_contradiction_is_told_with_both_sides(text: str, message: str):
    with pytest.raises(TensorError) as caught:
        bind(text)
    assert str(caught.value) == message
    assert "image:float32[n,3,h,w]" in caught.value.hint or "ids:int64[n,77]" in caught.value.hint


def test_a_near_name_is_proposed():
    with pytest.raises(TensorError) as caught:
        bind("imag:1x3x8x8")
    assert caught.value.hint.startswith("Did you mean 'image'? ")


def test_one_size_cannot_be_two():
    with pytest.raises(TensorError, match="'n' is 4 elsewhere"):
        bind("image:4x3x8x8", "ids:int64[5,77]")
    with pytest.raises(TensorError, match="'n' is 4 elsewhere"):
        bind("x:4x5", declared=(TensorSpec("x", "float32", ("n", "n")),))


def test_an_input_given_twice_is_refused():
    with pytest.raises(UsageError, match="'image' is given 2 times"):
        bind("image:[n,3,8,8]", "image:[n,3,8,8]")
    with pytest.raises(UsageError, match="'image' is given 2 times"):
        bind("[n,3,8,8]", "image:[n,3,8,8]", declared=(IMAGE,))
    with pytest.raises(UsageError, match="'x' is given 2 times"):
        check_names([parse_spec("x:1x2"), parse_spec("x:1x2")])
