"""Examples: found, converted, and without a trace in the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.example import find_example, keep_state, to_numpy, to_torch
from shipway.export.signature import bind_inputs
from shipway.tensors import parse_spec, random_feeds


def example(module, *specs, bounds=None):
    binding = bind_inputs(module.forward, [parse_spec(text) for text in specs])
    return find_example(module.eval(), binding, bounds or {})


class Unet(nn.Module):
    """Halves the image twice and adds what it had before: only multiples of 4 fit."""

    def forward(self, x):
        half = nn.functional.max_pool2d(x, 4)
        return x + nn.functional.interpolate(half, scale_factor=4.0)


def test_sizes_are_tried_until_the_model_accepts_some():
    """64 and 96 do."""
    assert example(Unet(), "x:[batch,3,h,w]").sizes == {"batch": 4, "h": 64, "w": 96}


def test_a_smaller_size_than_usual_comes_from_the_bounds():
    """The user knows the model."""
    sizes = example(Unet(), "x:[1,3,h,h]", bounds={"h": (8, 12)}).sizes
    assert sizes == {"h": 8}


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x):
        self.seen.add_(x.shape[0])
        return self.seen


def test_the_model_is_as_it_was_and_the_outputs_are_what_it_returned():
    """Also where it returns its own state."""
    module = Keeps()
    found = example(module, "x:[n]")
    assert module.seen.tolist() == [0, 0]
    assert found.outputs.tensors[0].tolist() == [found.sizes["n"]] * 2


def test_state_is_put_back_after_an_error():
    """And only where it changed."""
    value = torch.zeros(2)
    with pytest.raises(RuntimeError, match="size of tensor"), keep_state([value]):
        value.add_(1).add_(torch.zeros(3))
    assert value.tolist() == [0, 0]


def test_complex_outputs_are_refused():
    """No engine takes them."""

    class Spectrum(nn.Module):
        def forward(self, x):
            return {"f": torch.fft.fft(x)}

    with pytest.raises(ExportError, match=r"'f' has dtype torch\.complex64"):
        example(Spectrum(), "x:[batch,8]")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "bool", "uint16"])
def test_arrays_become_tensors_and_come_back(dtype):
    """Bit for bit, as copies."""
    array = random_feeds([parse_spec(f"x:{dtype}[2,3]")], seed=1)["x"]
    tensor = to_torch(array)
    assert str(tensor.dtype) == f"torch.{dtype}"
    back = to_numpy(tensor)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    tensor.zero_()
    assert back.tobytes() == array.tobytes()
