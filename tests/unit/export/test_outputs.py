"""Whatever forward returns, as named tensors."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.outputs import flat_outputs, flatten_outputs, name_outputs

T = torch.zeros(1)


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclass
class Result:
    boxes: torch.Tensor
    scores: list[torch.Tensor]
    count: int = 3


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (T, ("output",)),
        ([T], ("output",)),
        ((T, T), ("output_0", "output_1")),
        ({"logits": T}, ("logits",)),
        (OrderedDict(b=T, a=T), ("b", "a")),
        (Pair(T, T), ("left", "right")),
        (Result(T, [T, T]), ("boxes", "scores_0", "scores_1")),
        ((T, {"aux": (T, T)}), ("output_0", "output_1_aux_0", "output_1_aux_1")),
        ({1: T, "deep": {"er": T}}, ("1", "deep_er")),
    ],
)
def test_outputs_are_named_by_where_they_are(value, names):
    """Keys and fields first; a number only where there is nothing else."""
    assert flatten_outputs(value).names == names


def test_what_is_no_tensor_is_left_out_and_listed():
    """By name and kind, so that nobody looks for it in vain."""
    flat = flatten_outputs({"z": T, "n": 3, "none": None, "nested": [T, "text"]})
    assert flat.names == ("z", "nested_0")
    assert flat.left_out == {"n": "int", "none": "None", "nested_1": "str"}


def test_names_are_made_unique_and_kept_apart_from_inputs():
    """ONNX has one name a value."""
    assert name_outputs(("a_0", "a_0", "x"), (), ("x",)) == ("a_0", "a_0_out", "x_out")


def test_the_users_names_are_taken_as_they_are():
    """In order."""
    assert name_outputs(("output_0", "output_1"), ("p", "q"), ("x",)) == ("p", "q")


@pytest.mark.parametrize(
    ("derived", "wanted", "message"),
    [
        ((), (), "returns no tensor"),
        (("a", "b"), ("p",), "returns 2 tensors: a, b"),
        (("a",), ("x",), "'x' is the name of an input"),
    ],
)
def test_names_that_cannot_be_are_refused(derived, wanted, message):
    """With what the model does return."""
    with pytest.raises(ExportError, match=message):
        name_outputs(derived, wanted, ("x",))


class Odd(nn.Module):
    def forward(self, x, scale=2):
        return Result(x * scale, [x])


def test_a_module_is_flat_inside_the_block_and_itself_again_afterwards():
    """Also when an attribute of the instance shadowed forward before."""
    module = Odd()
    with flat_outputs(module):
        assert [t.item() for t in module(torch.ones(()))] == [2.0, 1.0]
    assert isinstance(module(T), Result)
    assert "forward" not in vars(module)
    module.forward = mine = lambda x: x
    with flat_outputs(module):
        assert isinstance(module(T), tuple)
    assert module.forward is mine
    with pytest.raises(ValueError, match="stop"), flat_outputs(module):
        raise ValueError("stop")
    assert module.forward is mine


def test_a_module_can_be_called_by_position_alone():
    """The old tracer knows no keywords."""
    module = Odd()
    with flat_outputs(module, lambda tensors: ((tensors[0],), {"scale": tensors[1]})):
        assert module(torch.tensor(3.0), torch.tensor(4.0))[0] == 12
