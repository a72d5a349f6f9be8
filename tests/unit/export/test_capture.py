"""Modules as programs: dynamic dimensions kept or refused with their line, state left alone."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.capture import capture_program
from shipway.export.example import find_example
from shipway.export.program import program_bounds, program_state, symbol_names
from shipway.export.quiet import collect_warnings
from shipway.export.signature import bind_inputs
from shipway.tensors import parse_spec


def capture(module, *specs, bounds=None):
    """Bind, find an example, trace; return the binding and the capture."""
    module.eval()
    binding = bind_inputs(module.forward, [parse_spec(text) for text in specs])
    with collect_warnings():
        example = find_example(module, binding, bounds or {})
        return binding, capture_program(module, binding, example, bounds or {})


class Reshapes(nn.Module):
    def forward(self, x):
        return x.reshape(3, -1)


class Asks(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        if x.shape[0] > self.size:
            x = x + 1
        return x * 2


class Differs(nn.Module):
    def forward(self, x):
        if x.shape[0] != 7:
            x = x + 1
        return x * 2


class Reads(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x * 2


class Pairs(nn.Module):
    def forward(self, x):
        return x[:, ::2] + x[:, 1::2]


class Broken(nn.Module):
    def forward(self, x):
        return {"a": x}["b"]


class Adds(nn.Module):
    def forward(self, x, y):
        return x + y


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2)


@pytest.mark.parametrize(
    ("module", "spec", "message"),
    [
        (Reshapes(), "x:[batch,8]", r"'batch' .* fixes it to 3, at .*: return x.reshape\(3, -1\)"),
        (Asks(4), "x:[batch,8]", r"needs batch <= 4, at .*: if x.shape\[0\] > self.size:"),
        (Asks(2), "x:[batch,8]", r"needs batch >= 3, at .*: if x.shape\[0\] > self.size:"),
        (Differs(), "x:[batch,8]", r"needs batch != 7, at .*: if x.shape\[0\] != 7:"),
        (Reads(), "x:[batch,8]", r"value of a tensor.*, at .*: if x.sum\(\) > 0:"),
        (Pairs(), "x:[2,time]", r"needs time to be a multiple of 2"),
        (Broken(), "x:[batch,8]", r"fails on the inputs .*KeyError: 'b', at .*: return \{"),
        (Numpy(), "x:[batch,8]", r"cannot trace .*numpy.*, at .*: return torch.from_numpy"),
    ],
)
def test_a_model_that_does_not_take_every_size_is_refused_with_its_line(
    module, spec, message, capfd
):
    """Never silently fixed; torch's pages are cut down to one sentence, and none is printed."""
    with pytest.raises(ExportError, match=message) as caught:
        capture(module, spec)
    assert "test_capture.py:" in str(caught.value)
    assert caught.value.hint
    assert len(str(caught.value)) < 300
    assert capfd.readouterr() == ("", "")


def test_two_names_for_what_must_be_equal_are_refused():
    """The model itself fails where they differ; the hint says to use one name."""
    with pytest.raises(ExportError, match="must match the size") as caught:
        capture(Adds(), "x:[a,4]", "y:[b,4]")
    assert "one name" in caught.value.hint


def test_bounds_make_a_limited_model_exportable():
    """Within them the model takes one course."""
    binding, found = capture(Asks(4), "x:[batch,8]", bounds={"batch": (1, 4)})
    symbols = symbol_names(found.program, binding.specs)
    assert program_bounds(found.program, symbols) == {"batch": (1, 4)}
    assert found.warnings == []


def test_a_smallest_size_that_operators_need_is_taken_over_and_told():
    """Three poolings leave nothing of a small image; that is no decision of the model's code."""
    poolings = nn.Sequential(*(nn.MaxPool2d(2) for _ in range(3)))
    binding, found = capture(poolings, "input:[b,3,h,w]")
    limits = program_bounds(found.program, symbol_names(found.program, binding.specs))
    assert set(limits) == {"h", "w"}
    assert all(8 <= low <= 16 and high is None for low, high in limits.values())
    assert [text for text in found.warnings if "'h' must be at least" in text]
    smallest = torch.zeros(1, 3, limits["h"][0], limits["w"][0])
    assert found.program.module()(smallest)[0].shape == (
        1,
        3,
        limits["h"][0] // 8,
        limits["w"][0] // 8,
    )


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_the_length_of_a_sequence_stays_dynamic_through_recurrence(kind):
    """torch.export alone unrolls them and fixes it, and remembers how it did."""
    module = kind(4, 6, batch_first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about the weights of a recurrence
        torch.export.export(module, (torch.randn(2, 6, 4),))
    binding, found = capture(module, "input:[batch,length,4]")
    assert set(symbol_names(found.program, binding.specs).values()) == {"batch", "length"}
    x = torch.randn(2, 11, 4)
    with torch.no_grad():
        assert torch.equal(found.program.module()(x)[0], module(x)[0])
    assert len(found.program.range_constraints) == 2


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(2))

    def forward(self, x):
        self.calls[:1].add_(1)
        return x + self.calls.sum()


class Overwrites(nn.Module):
    def forward(self, x):
        return x.mul_(2)


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Counts(), "changes the buffer 'calls'"),
        (Overwrites(), "changes its input 'x' in place"),
        (Random(), "'output' on the same input: forward is random"),
    ],
)
def test_what_an_onnx_model_cannot_do_is_told(module, message):
    """A warning in the side-car, not a surprise in production."""
    _, found = capture(module, "x:[batch,2]")
    assert [text for text in found.warnings if message in text]


def test_the_state_of_a_model_is_as_it_was():
    """However often the export runs it; it is the state that is exported."""
    module = Counts()
    _, found = capture(module, "x:[batch,2]")
    assert module.calls.tolist() == [0, 0]
    assert [value.tolist() for value in program_state(found.program)] == [[0, 0]]
