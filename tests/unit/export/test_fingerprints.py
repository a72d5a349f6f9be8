"""Fingerprints tell tensors apart and recognise them again."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from shipway.export.fingerprints import Fingerprint, fingerprint_program


def of(array):
    array = np.asarray(array, dtype=np.float64)
    return Fingerprint(array.shape, "torch.float32", array.reshape(-1))


def test_rounding_agrees_and_another_scale_does_not():
    """A thousandth of the tensor's own size is the line."""
    values = np.linspace(-2, 2, 50)
    assert of(values).agrees(of(values * (1 + 1e-6)))
    assert not of(values).agrees(of(values * 1.01))


def test_shape_dtype_and_places_of_nan_count():
    """Equal numbers in another shape are another tensor."""
    values = np.arange(6.0)
    assert not of(values).agrees(of(values.reshape(2, 3)))
    assert of([1, np.nan, np.inf]).agrees(of([1, np.nan, np.inf]))
    assert not of([1, np.nan]).agrees(of([1, 2]))


def test_constants_are_not_distinctive():
    """Many tensors are all zero."""
    assert not of(np.zeros(100)).is_distinctive
    assert of(np.linspace(0, 1, 100)).is_distinctive


def test_samples_are_scattered():
    """Every n-th element of an image may be padding."""
    program = torch.export.export(nn.ZeroPad2d(1), (torch.randn(4, 3, 30, 30),))
    found = fingerprint_program(program, [torch.randn(4, 3, 30, 30)])
    assert all(fingerprint.is_distinctive for fingerprint in found.values())


def test_random_operators_draw_the_same_each_time_and_leave_the_generator_alone():
    """Otherwise nothing after a dropout could be matched."""

    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    x = torch.zeros(100)
    program = torch.export.export(Noisy(), (x,))
    state = torch.get_rng_state()
    first, second = (fingerprint_program(program, [x]) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(first[name].agrees(second[name]) for name in first)


def test_a_program_that_cannot_run_gives_nothing():
    """The map then says that nothing was confirmed."""
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(2, 3),))
    assert fingerprint_program(program, [torch.zeros(2, 4)]) == {}
