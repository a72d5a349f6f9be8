"""What can be read off a program."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.program import (
    mutation_warnings,
    output_specs,
    program_bounds,
    program_state,
    symbol_names,
    tensor_outputs,
    user_inputs,
)
from shipway.tensors import parse_spec


def export(module, *tensors, dims=None):
    shapes = None if dims is None else tuple(dims)
    return torch.export.export(module.eval(), tensors, dynamic_shapes=shapes)


def dim(name, **limits):
    return torch.export.Dim(name, **{"min": 1, **limits})


def test_output_specs_have_the_users_symbols():
    """A size that is an expression is free in the spec; the ONNX file has the expression."""
    dims = ({0: dim("a"), 2: dim("b", min=5)},)
    program = export(nn.Conv1d(2, 3, 3, stride=2), torch.zeros(4, 2, 9), dims=dims)
    symbols = symbol_names(program, [parse_spec("input:[batch,2,time]")])
    assert set(symbols.values()) == {"batch", "time"}
    (spec,) = output_specs(program, ["y"], symbols)
    assert str(spec) == "y:float32[batch,3,?]"


def test_a_dimension_that_a_program_fixes_is_no_symbol():
    """For a program that somebody else exported."""
    program = torch.export.export(nn.Linear(4, 2), (torch.zeros(3, 4),))
    with pytest.raises(ExportError, match=r"'n' \(axis 0 of 'input'\) .* fixes it to 3"):
        symbol_names(program, [parse_spec("input:[n,4]")])


def test_a_dimension_that_a_program_keeps_dynamic_is_not_a_number():
    """It would be a promise that the file does not make."""
    program = export(nn.Linear(4, 2), torch.zeros(3, 4), dims=({0: dim("n")},))
    with pytest.raises(ExportError, match=r"Axis 0 of 'input' is dynamic in the program .* not 3"):
        symbol_names(program, [parse_spec("input:[3,4]")])


class Picks(nn.Module):
    def forward(self, x):
        return x[x > 0]


def test_a_symbol_of_torch_steps_aside_for_the_users():
    """Sizes that depend on data are called u0, u1 by torch."""
    program = export(Picks(), torch.ones(3), dims=({0: dim("n")},))
    symbols = symbol_names(program, [parse_spec("x:[u0]")])
    (spec,) = output_specs(program, ["y"], symbols)
    assert spec.shape == ("u0_",)


def test_bounds_are_what_limits():
    """A dimension without limits has none in the list."""
    dims = ({0: dim("a", min=2, max=9), 1: dim("b")},)
    program = export(nn.ReLU(), torch.zeros(3, 4), dims=dims)
    symbols = symbol_names(program, [parse_spec("input:[n,m]")])
    assert program_bounds(program, symbols) == {"n": (2, 9)}


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(2, 2)
        self.register_buffer("state", torch.zeros(2))
        self.register_buffer("cache", torch.zeros(2), persistent=False)

    def forward(self, x, flag=True, *, y):  # noqa: ARG002 -- a constant of the export
        self.state[:1].add_(1)
        return self.lin(x) + self.state + self.cache, 3, None, y.mul_(2)


def test_ends_state_and_mutations_are_told_apart():
    """Constants and None are neither inputs nor outputs; views lead to what they view."""
    program = torch.export.export(Mixed().eval(), (torch.zeros(2), True), {"y": torch.zeros(2)})
    assert [node.name for node in user_inputs(program)] == ["x", "y"]
    assert len(tensor_outputs(program)) == 2
    assert len(program_state(program)) == 2
    warnings = mutation_warnings(program)
    assert len(warnings) == 2
    assert "buffer 'state'" in warnings[0]
    assert "input 'y' in place" in warnings[1]
