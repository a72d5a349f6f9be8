"""Programs that somebody else exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.program_binding import bind_program
from shipway.tensors import parse_spec


class Nested(nn.Module):
    def forward(self, pair, scale, flag=True):
        return pair["a"] + pair["b"][0] * scale if flag else scale


@pytest.fixture(scope="module")
def program():
    pair = {"a": torch.zeros(3, 2), "b": [torch.zeros(3, 2)]}
    n = torch.export.Dim("n", min=1)
    shapes = {"pair": {"a": {0: n}, "b": [{0: n}]}, "scale": None, "flag": None}
    return torch.export.export(Nested(), (pair, torch.zeros(2), True), dynamic_shapes=shapes)


def specs(*texts):
    return [parse_spec(text) for text in texts]


def test_without_specs_the_program_speaks_for_itself(program):
    """Its dynamic dimensions are named after the input."""
    binding = bind_program(program, ())
    assert [str(spec) for spec in binding.specs] == [
        "pair_a:float32[pair_a_dim0,2]",
        "pair_b_0:float32[pair_b_0_dim0,2]",
        "scale:float32[2]",
    ]


def test_arguments_are_nested_as_the_program_takes_them(program):
    """Constants of the export are put back in."""
    binding = bind_program(program, specs("a:[n,2]", "b:[n,2]", "s:[2]"))
    args, kwargs = binding.arguments(
        {"a": torch.ones(4, 2), "b": torch.ones(4, 2), "s": torch.ones(2)}
    )
    assert kwargs == {}
    assert program.module()(*args).shape == (4, 2)


def test_names_of_the_program_decide_in_any_order(program):
    """Else the position does."""
    binding = bind_program(program, specs("scale:[2]", "pair_b_0:[n,2]", "pair_a:[n,2]"))
    assert [spec.name for spec in binding.specs] == ["pair_a", "pair_b_0", "scale"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:[n,2]",), r"takes 3 tensors \(pair_a, pair_b_0, scale\); 1 inputs"),
        (("a:[n,2]", "b:[n,2]", "s:i64[2]"), r"takes scale:float32\[2\], not s:int64\[2\]"),
        (("a:[n]", "b:[n,2]", "s:[2]"), r"takes pair_a"),
    ],
)
def test_specs_of_another_program_are_refused(given, message, program):
    """With what the program takes."""
    with pytest.raises(ExportError, match=message):
        bind_program(program, specs(*given))
