"""A shape rule is believed where it holds whatever the sizes are, and nowhere else."""

import pytest
import torch

from shipway.ops import custom_op
from shipway.ops.registry import find_operator
from shipway.ops.symbolic_shapes import infer_symbolic_shapes

N, M = {("n",): 1}, {("m",): 1}


def define(name, reference, schema="(Tensor x) -> Tensor", types="T->T", shape=None):
    return custom_op(f"symbolic::{name}", schema=schema, types=types, shape=shape)(reference)


def shapes(op, *inputs, **attributes):
    found = infer_symbolic_shapes(op, ["float32"] * len(inputs), inputs, attributes)
    return None if found is None else found[0]


def test_sizes_are_polynomials():
    op = define("twice", lambda x: torch.cat([x, x], 0).reshape(-1))
    assert shapes(op, [N, 3]) == ({("n",): 6},)
    assert shapes(op, [N, M]) == ({("m", "n"): 2},)
    assert shapes(op, [{("n",): 2, (): 1}, 3]) == ({("n",): 12, (): 6},)
    assert shapes(op, [5, 3]) == (30,)


def test_a_size_that_is_no_polynomial_is_unknown():
    op = define("half", lambda x: x[:, ::2].contiguous())
    assert shapes(op, [M, N]) == (M, None)


@pytest.mark.parametrize(
    "branches",
    [
        lambda x: x[: min(x.shape[0], 300)].contiguous(),
        lambda x: x.new_zeros(3) if x.shape[0] > 100 else x.new_zeros(x.shape[0]),
        lambda x: x.new_zeros(3) if x.shape[0] == 77 else x.new_zeros(x.shape[0]),
        lambda x: x.new_zeros(3) if x.shape[0] == 0 else x.new_zeros(x.shape[0]),
        lambda x: x.new_zeros(int(x.shape[0] ** 0.5)),
    ],
)
def test_a_rule_that_branches_on_a_size_says_nothing(branches, request):
    name = f"branches_{abs(hash(request.node.name))}"
    assert shapes(define(name, branches), [N]) is None


def test_broadcasting_that_differs_for_a_size_of_one_says_nothing():
    op = define("plus", lambda x, y: x + y, "(Tensor x, Tensor y) -> Tensor", "TT->T")
    assert shapes(op, [N, 4], [N, 4]) == (N, 4)
    assert shapes(op, [N, 4], [4]) == (N, 4)
    assert shapes(op, [N, 4], [M, 4]) is None


def test_a_rule_that_lies_about_small_sizes_is_found_out():
    """The size oblivious test of torch takes a symbol for no 0."""
    from torch.fx.experimental.symbolic_shapes import guard_or_false

    def rule(x):
        return x.new_empty(7) if guard_or_false(x.shape[0] == 0) else x.new_empty(x.shape[0])

    assert shapes(define("lies", lambda x: x.clone(), shape=rule), [N]) is None


def test_a_check_in_a_rule_is_no_branch():
    def rule(x, y):
        torch._check(x.shape[0] == y.shape[0], lambda: "one row each")
        return x.new_empty(x.shape[0], y.shape[1])

    op = define(
        "checked",
        lambda x, y: x[:, :1] * y,
        "(Tensor x, Tensor y) -> Tensor",
        "TT->T",
        shape=rule,
    )
    assert shapes(op, [N, 2], [N, M]) == (N, M)
    assert shapes(op, [3, 2], [4, M]) is None


def test_sizes_that_depend_on_data_have_names_of_their_own():
    nms = find_operator("shipway::nms")
    (kept,) = shapes(nms, [N, 4], [N], iou_threshold=0.5, offset=0)
    ((name,),) = kept
    assert name.startswith("new")
    voxels = find_operator("shipway::hard_voxelize")
    found = infer_symbolic_shapes(
        voxels,
        ["float32"],
        [[N, 5]],
        {
            "voxel_size": [1.0] * 3,
            "coors_range": [0.0] * 3 + [9.0] * 3,
            "max_points": 35,
            "max_voxels": 20,
        },
    )
    assert found is not None
    assert found[0][0] == found[1][0] == found[2][0]


def test_what_a_rule_refuses_says_nothing(capfd):
    op = define("square", lambda x: x @ x)
    assert shapes(op, [3, 4]) is None
    assert shapes(op, [N, 4, 5]) is None
    assert capfd.readouterr() == ("", "")


def test_many_names_are_left_unknown():
    op = define("copy", lambda x: x.clone())
    assert shapes(op, [{(f"n{index}",): 1} for index in range(8)]) is not None
    assert shapes(op, [{(f"n{index}",): 1} for index in range(9)]) is None
