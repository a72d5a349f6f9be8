"""The operators that come with Shipway, against something written without them."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shipway.errors import EngineError
from shipway.native import load_native
from shipway.ops import all_operators, ball_query, kernel_library, multi_scale_deformable_attn
from shipway.ops.kernel_library import library_of
from shipway.proof.operator import ENGINES, prove_operator

BUILT = load_native() is not None
OURS = [op for op in all_operators() if op.namespace == "shipway"]


@pytest.mark.parametrize("op", OURS, ids=lambda op: op.short_name)
def test_the_kernel_agrees_with_the_reference(op):
    """In torch and ONNX Runtime, every dtype; empty, NaN, outside; gradient and shape rule."""
    done = _passed(op, ("torch", "onnxruntime"))
    assert {"torch", "onnxruntime", "non-contiguous", "opcheck"} <= done


@pytest.mark.slow
@pytest.mark.parametrize("op", OURS, ids=lambda op: op.short_name)
def test_every_engine_agrees_with_the_reference(op):
    """The same with the portable body, which is traced anew for every shape."""
    assert {"torch", "portable", "onnxruntime", "openvino"} <= _passed(op, ENGINES[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("op", OURS, ids=lambda op: op.short_name)
def test_the_body_agrees_where_there_is_no_kernel(op, monkeypatch):
    """In ONNX Runtime and OpenVINO, as on a machine that Shipway was installed on without a compiler."""
    monkeypatch.setattr(kernel_library, "native_path", lambda: None)
    monkeypatch.setattr(kernel_library, "_PORTABLE", {})
    proof = prove_operator(replace(op, floats=("float32",)), engines=("onnxruntime", "openvino"))
    assert proof.passed, [check.failures for check in proof.checks if check.failures]
    runs = {one.runs for one in proof.checks if one.what in {"onnxruntime", "openvino"}}
    assert runs == {"portable body"}


def _passed(op, engines):
    proof = prove_operator(op, engines=engines)
    assert proof.passed, [check.failures for check in proof.checks if check.failures]
    return {check.what for check in proof.checks if check.verdict == "pass"}


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_the_native_kernel_really_runs():
    """The library counts its calls; the reference would not."""
    library = load_native()
    library.shipway_calls.restype = ctypes.c_int64
    before = library.shipway_calls()
    ball_query(0.0, 1.0, 2, torch.zeros(1, 3, 3), torch.zeros(1, 1, 3))
    assert library.shipway_calls() == before + 1


def test_ball_query_against_loops():
    """Points in their own order, the first one repeated."""
    generator = np.random.default_rng(0)
    points, centers = generator.uniform(-1, 1, (1, 30, 3)), generator.uniform(-1, 1, (1, 4, 3))
    found = ball_query(0.2, 0.7, 6, torch.from_numpy(points), torch.from_numpy(centers)).numpy()
    for at, center in enumerate(centers[0]):
        distances = np.sqrt(((points[0] - center) ** 2).sum(1))
        inside = [k for k, far in enumerate(distances) if far == 0 or 0.2 <= far < 0.7][:6]
        inside += [inside[0] if inside else 0] * (6 - len(inside))
        assert found[0, at].tolist() == inside


def test_deformable_attention_against_grid_sample():
    """Each level sampled by torch's grid_sample in float64, weighted and summed."""
    generator = torch.Generator().manual_seed(1)
    levels, heads, channels, queries, points = [(7, 9), (4, 3)], 2, 5, 6, 3
    pixels = sum(h * w for h, w in levels)
    value = torch.randn(2, pixels, heads, channels, generator=generator, dtype=torch.float64)
    size = (2, queries, heads, len(levels), points)
    places = torch.rand(*size, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(*size, generator=generator, dtype=torch.float64)
    golden = torch.zeros(2, queries, heads, channels, dtype=torch.float64)
    start = 0
    for at, (height, width) in enumerate(levels):
        plane = value[:, start : start + height * width].permute(0, 2, 3, 1)
        plane = plane.reshape(2 * heads, channels, height, width)
        grid = (
            2 * places[:, :, :, at].permute(0, 2, 1, 3, 4).reshape(2 * heads, queries, points, 2)
            - 1
        )
        sampled = F.grid_sample(plane, grid, align_corners=False)
        sampled = sampled.reshape(2, heads, channels, queries, points)
        golden += torch.einsum("bhcqp,bqhp->bqhc", sampled, weights[:, :, :, at])
        start += height * width
    actual = multi_scale_deformable_attn(
        value, torch.tensor(levels), torch.tensor([0, 63]), places, weights
    )
    torch.testing.assert_close(actual, golden.reshape(2, queries, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_a_level_past_the_end_is_refused():
    """The kernel reads nothing outside value, and says which level it is."""
    with pytest.raises(
        RuntimeError, match=r"level 0 starts at pixel 1 .* does not fit into the value's 9"
    ):
        multi_scale_deformable_attn(
            torch.zeros(1, 9, 1, 8),
            torch.tensor([[3, 3]]),
            torch.tensor([1]),
            torch.zeros(1, 1, 1, 1, 1, 2),
            torch.zeros(1, 1, 1, 1, 1),
        )


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_a_kernel_that_means_something_else_is_refused():
    """Descriptor and definition are held against each other."""
    wrong = replace(next(op for op in OURS if op.short_name == "ball_query"), types="TT->l")
    with pytest.raises(EngineError, match="says its outputs are"):
        library_of(wrong)
