"""Sizes an exported program was made for are read from it and enforced."""

import numpy as np
import pytest
import torch

from shipway.engines.limits import AxisLimit, check_limits, read_limits
from shipway.errors import TensorError
from shipway.tensors import TensorSpec


class Join(torch.nn.Module):
    def forward(self, x, y, z):
        return x + y[::2], z * 2


@pytest.fixture(scope="module")
def limits():
    """x is [n, 3], y is [2*n, 3], z is [m]: 4 <= n <= 16."""
    n = torch.export.Dim("n", min=4, max=16)
    program = torch.export.export(
        Join(),
        (torch.ones(5, 3), torch.ones(10, 3), torch.ones(7)),
        dynamic_shapes=({0: n}, {0: 2 * n}, {0: torch.export.Dim.DYNAMIC}),
    )
    return read_limits(program, ["x", "y", "z"])


SPECS = tuple(TensorSpec(name, "float32", None) for name in "xyz")


def feeds(x=(5, 3), y=(10, 3), z=(7,)):
    return {name: np.ones(shape, np.float32) for name, shape in zip("xyz", (x, y, z), strict=True)}


def test_limits_survive_json(limits):
    """They travel in the side-car."""
    assert tuple(AxisLimit.from_json(limit.to_json()) for limit in limits) == limits


@pytest.mark.parametrize(
    "good", [{}, {"x": (4, 3), "y": (8, 3)}, {"x": (16, 3), "y": (32, 3)}, {"z": (0,)}, {"z": (1,)}]
)
def test_sizes_inside_the_range_pass(limits, good):
    """Both ends of the range; and 0 and 1 where the exporter set no range."""
    check_limits(SPECS, limits, feeds(**good))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"x": (17, 3), "y": (34, 3)}, r"'x': axis 0 is 17; .* 4 to 16"),
        ({"x": (3, 3), "y": (6, 3)}, r"'x': axis 0 is 3; .* 4 to 16"),
        ({"x": (5, 4)}, r"'x': axis 1 is 4; .* 3"),
        ({"y": (9, 3)}, r"'y': axis 0 is 9; .* = 10"),
    ],
    ids=["above", "below", "fixed", "derived"],
)
def test_sizes_outside_are_named_with_what_was_allowed(limits, bad, said):
    """Above and below the range, another fixed size, another multiple."""
    with pytest.raises(TensorError, match=said):
        check_limits(SPECS, limits, feeds(**bad))


def test_one_symbol_has_one_size():
    """Two axes that share a symbol must agree even where their specs say nothing."""
    shared = (AxisLimit(0, 0, "s0"), AxisLimit(1, 0, "s0"))
    check_limits(SPECS, shared, feeds(x=(5,), y=(5,)))
    with pytest.raises(TensorError, match=r"'y': axis 0 is 6.*5 as elsewhere"):
        check_limits(SPECS, shared, feeds(x=(5,), y=(6,)))


def test_a_multiple_of_a_symbol_nothing_else_shows_is_not_judged():
    """2*s0 alone leaves s0 unknown: any size may be right."""
    check_limits(SPECS, (AxisLimit(0, 0, "2*s0"),), feeds(x=(6,)))
