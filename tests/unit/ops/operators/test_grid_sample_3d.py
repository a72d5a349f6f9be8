"""Samples of a volume, against torch's own grid_sample."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F

from shipway.engines.openvino import OpenVinoEngine
from shipway.engines.operator_model import families, inline_model, make_calls, write_model
from shipway.native import load_native
from shipway.ops import find_operator, grid_sample_3d

BUILT = load_native() is not None
MODES = ("bilinear", "nearest")
PADDINGS = ("zeros", "border", "reflection")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_against_torch(mode, padding_mode, align_corners):
    """Points that reach out to three times the volume, on each side and in each corner."""
    generator = torch.Generator().manual_seed(0)
    for sides in ((4, 3, 5), (1, 2, 1), (6, 1, 3)):
        volume = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64)
        grid = 6 * torch.rand(2, 4, 5, 6, 3, generator=generator, dtype=torch.float64) - 3
        golden = F.grid_sample(volume, grid, mode, padding_mode, align_corners)
        actual = grid_sample_3d(volume, grid, mode, padding_mode, align_corners)
        torch.testing.assert_close(actual, golden, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_on_edges_and_middles(mode, padding_mode, align_corners):
    """Points on the voxels, half way between them and on the border: the nearest one is the even one."""
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(1, 2, 4, 4, 8, generator=generator, dtype=torch.float64)
    steps = torch.arange(-8, 9, dtype=torch.float64) / 4
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1)[None]
    golden = F.grid_sample(volume, grid, mode, padding_mode, align_corners)
    actual = grid_sample_3d(volume, grid, mode, padding_mode, align_corners)
    torch.testing.assert_close(actual, golden, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_coordinates_that_are_none(mode, padding_mode):
    """NaN and infinity give what torch gives: nothing, or the last voxel."""
    volume = torch.arange(1.0, 25.0, dtype=torch.float64).reshape(1, 1, 2, 3, 4)
    grid = torch.zeros(1, 1, 3, 3, 3, dtype=torch.float64)
    for axis in range(3):
        grid[0, 0, axis, :, axis] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    golden = F.grid_sample(volume, grid, mode, padding_mode, align_corners=False)
    actual = grid_sample_3d(volume, grid, mode, padding_mode)
    torch.testing.assert_close(actual, golden)


@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_the_gradient_is_that_of_torch(padding_mode):
    """Of volume and grid."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for function in (grid_sample_3d, F.grid_sample):
        generator.manual_seed(2)
        volume = torch.randn(1, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
        grid = 3 * torch.rand(1, 3, 3, 3, 3, generator=generator, dtype=torch.float64) - 1.5
        volume.requires_grad_()
        grid.requires_grad_()
        function(
            volume, grid, "bilinear", padding_mode, align_corners=False
        ).square().sum().backward()
        found.append((volume.grad, grid.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_modes_that_there_are_not_are_refused():
    """With those that there are."""
    tensors = (torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 1, 1, 3))
    with pytest.raises(ValueError, match="mode is 'bicubic', but must be one of bilinear, nearest"):
        grid_sample_3d(*tensors, "bicubic")
    with pytest.raises(ValueError, match="padding_mode is 'wrap', but must be one of zeros"):
        grid_sample_3d(*tensors, padding_mode="wrap")


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize(
    ("volume", "grid", "settings", "message"),
    [
        ((1, 2, 3, 3), (1, 1, 1, 1, 3), {}, r"input has shape \[1, 2, 3, 3\], but must be \[batch"),
        (
            (2, 2, 3, 3, 3),
            (1, 1, 1, 1, 3),
            {},
            r"grid has shape \[1, .* but must be \[2, out depth",
        ),
        ((1, 2, 3, 3, 3), (1, 1, 1, 1, 2), {}, r"grid has shape \[1, 1, 1, 1, 2\], but must be"),
        ((1, 2, 0, 3, 3), (1, 1, 1, 1, 3), {"padding_mode": 1}, "a volume without voxels has no"),
        ((1, 2, 3, 3, 3), (1, 1, 1, 1, 3), {"padding_mode": 3}, "padding_mode is 3, but must be"),
        ((1, 2, 3, 3, 3), (1, 1, 1, 1, 3), {"interpolation_mode": 2}, "_mode is 2, but must be"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(volume, grid, settings, message):
    """The kernel names the input, its shape and the shape it must have."""
    with pytest.raises(RuntimeError, match=message):
        find_operator("grid_sample_3d")(torch.zeros(volume), torch.zeros(grid), **settings)


def _model(folder, opset):
    op = find_operator("grid_sample_3d")
    family = families(op, "float32", make_calls(op, "float32", 0)[:1])[0]
    return write_model(family, folder, opset=opset)[0], family


def _types(path):
    return {node.op_type for node in onnx.load(path).graph.node}


def test_standard_operators_have_it(tmp_path):
    """As GridSample, from opset 20 on."""
    model, family = _model(tmp_path, 20)
    assert "GridSample" in _types(inline_model(model, family).onnx)


@pytest.mark.slow
def test_before_opset_20_the_body_is_made_of_gathers(tmp_path):
    """And computes the same in ONNX Runtime."""
    model, family = _model(tmp_path, 18)
    path = inline_model(model, family).onnx
    assert "GridSample" not in _types(path)
    call = family.calls[0]
    feeds = {spec.name: one.numpy() for spec, one in zip(model.inputs, call.tensors, strict=True)}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, feeds)[0], call.golden[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_openvino_gets_a_body_that_it_runs(tmp_path, monkeypatch):
    """Its GridSample takes planes only, so the reference is traced instead."""
    monkeypatch.setattr("shipway.engines.openvino.engine.library_of", lambda _: None)
    model, _ = _model(tmp_path, 20)
    types = _types(OpenVinoEngine().lower(model, tmp_path / "lowered").onnx)
    assert "GridSample" not in types
    assert "Gather" in types
