"""Resizing by factors that are data, against torch's interpolate with the same factors."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shipway.export.model import export_model
from shipway.export.options import ExportOptions
from shipway.native import load_native, native_path
from shipway.ops import bicubic_resize
from shipway.proof.export import prove_export
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec

BUILT = load_native() is not None


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_against_interpolate(mode, align_corners):
    """Up, down, not at all, and where size times factor is just below a whole number."""
    generator = torch.Generator().manual_seed(0)
    for size, factors in (
        ((7, 9), (2.37, 0.61)),
        ((10, 20), (0.7, 1.3)),
        ((6, 5), (1.0, 1.0)),
        ((3, 8), (0.4, 3.9)),
        ((1, 1), (2.5, 7.0)),
    ):
        plane = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
        scales = torch.tensor(factors)
        golden = F.interpolate(
            plane,
            scale_factor=scales.tolist(),
            mode=mode,
            align_corners=align_corners,
            recompute_scale_factor=False,
        )
        actual = bicubic_resize(plane, scales, align_corners, mode)
        torch.testing.assert_close(actual, golden, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_interpolate():
    """Of the plane; the factors have none."""
    plane = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    scales = torch.tensor([1.5, 0.7], requires_grad=True)
    bicubic_resize(plane, scales).square().sum().backward()
    again = plane.detach().requires_grad_()
    factors = scales.tolist()
    F.interpolate(again, scale_factor=factors, mode="bicubic").square().sum().backward()
    torch.testing.assert_close(plane.grad, again.grad, rtol=1e-10, atol=1e-10)
    assert scales.grad is None


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize(
    ("plane", "scales", "message"),
    [
        ((1, 1, 3, 4), [0.2, 1.0], r"height 3 times scale 0\.2\d* is no size of an image"),
        ((1, 1, 3, 4), [1.0, -1.0], r"width 4 times scale -1\.0\d* is no size of an image"),
        ((1, 1, 3, 4), [float("nan"), 1.0], "height 3 times scale -?nan is no size"),
        ((1, 1, 3, 4), [1.0, 1.0, 2.0, 2.0], r"scales has shape \[4\], but must be \[2\]"),
        ((3, 4), [1.0, 1.0], r"input has shape \[3, 4\], but must be \[batch, channels"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(plane, scales, message):
    """The kernel says which axis, which size and which factor."""
    with pytest.raises(RuntimeError, match=message):
        bicubic_resize(torch.zeros(plane), torch.tensor(scales))


def test_another_mode_is_refused():
    """With the two that there are."""
    with pytest.raises(ValueError, match="mode is 'area', but must be bicubic or bilinear"):
        bicubic_resize(torch.zeros(1, 1, 2, 2), torch.ones(2), mode="area")


class Net(nn.Module):
    """One resize whose factors are an input of the model."""

    def forward(self, plane, scales):
        return bicubic_resize(plane.relu(), scales) + 1


@pytest.mark.parametrize(
    "legacy",
    [
        pytest.param(False, id="torch.export", marks=pytest.mark.slow),
        pytest.param(True, id="legacy"),
    ],
)
@pytest.mark.parametrize("form", ["node", "inline"])
def test_the_factors_stay_an_input_of_the_model(tmp_path, form, legacy):
    """An exported file follows them to sizes that nobody traced."""
    inputs = (parse_spec("plane:f32[n,3,h,w]"), parse_spec("scales:f32[2]{1..2}"))
    source = LoadedSource("module", "test", inputs, (), module=Net().eval())
    options = ExportOptions(custom_ops=form, legacy=legacy)
    model = export_model(source, tmp_path, options=options)
    assert prove_export(model, input_sets=1).passed
    settings = ort.SessionOptions()
    if form == "node":
        if not BUILT:
            pytest.skip("Shipway was installed without a C++ compiler")
        settings.register_custom_ops_library(str(native_path()))
    session = ort.InferenceSession(str(model.onnx), settings, providers=["CPUExecutionProvider"])
    plane = np.random.default_rng(0).standard_normal((2, 3, 10, 9)).astype(np.float32)
    for factors in ((0.7, 1.0), (3.1, 2.2)):
        scales = np.array(factors, np.float32)
        found = session.run(None, {"plane": plane, "scales": scales})[0]
        golden = Net()(torch.from_numpy(plane), torch.from_numpy(scales)).numpy()
        np.testing.assert_allclose(found, golden, rtol=1e-4, atol=1e-5)
