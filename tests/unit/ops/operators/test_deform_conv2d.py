"""Deformable convolution against loops over single pixels, and against torch's convolution."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F

from shipway.engines.openvino import OpenVinoEngine
from shipway.engines.operator_model import families, inline_model, make_calls, write_model
from shipway.native import load_native
from shipway.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    find_operator,
    modulated_deform_conv2d,
)

BUILT = load_native() is not None
CASES = {
    "plain": {},
    "stride": {"stride": (2, 1)},
    "padding": {"padding": (0, 2)},
    "dilation": {"dilation": (1, 2)},
    "groups": {"groups": 2},
    "offset groups": {"deform_groups": 4},
    "all": {
        "stride": (1, 2),
        "padding": (2, 1),
        "dilation": (2, 1),
        "groups": 2,
        "deform_groups": 2,
    },
}


def _pixel(plane, y, x):
    """Return what lies between the four pixels around a point; a pixel outside is zero."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def _loops(value, offset, mask, weight, bias, **settings):
    """Convolve one tap of one channel at a time."""
    stride, dilation = settings.get("stride", (1, 1)), settings.get("dilation", (1, 1))
    padding = settings.get("padding", (0, 0))
    groups, deform_groups = settings.get("groups", 1), settings.get("deform_groups", 1)
    filters, each, kernel_height, kernel_width = weight.shape
    batch, channels = value.shape[:2]
    result = np.zeros((batch, filters, *offset.shape[2:]))
    for index in np.ndindex(*result.shape):
        image, filter_, row, column = index
        total = bias[filter_]
        for c, ky, kx in np.ndindex(each, kernel_height, kernel_width):
            channel = filter_ // (filters // groups) * each + c
            part = channel // (channels // deform_groups)
            tap = part * kernel_height * kernel_width + ky * kernel_width + kx
            y = (
                row * stride[0]
                - padding[0]
                + ky * dilation[0]
                + offset[image, 2 * tap, row, column]
            )
            x = (
                column * stride[1]
                - padding[1]
                + kx * dilation[1]
                + offset[image, 2 * tap + 1, row, column]
            )
            read = _pixel(value[image, channel], y, x) * mask[image, tap, row, column]
            total += weight[filter_, c, ky, kx] * read
        result[index] = total
    return result


def _inputs(seed=0, **settings):
    generator = np.random.default_rng(seed)
    value = generator.standard_normal((2, 4, 5, 6))
    weight = generator.standard_normal((6, 4 // settings.get("groups", 1), 2, 3))
    out = F.conv2d(
        torch.from_numpy(value),
        torch.from_numpy(weight),
        **{name: one for name, one in settings.items() if name != "deform_groups"},
    ).shape[2:]
    taps = settings.get("deform_groups", 1) * 6
    offset = generator.uniform(-2.5, 2.5, (2, 2 * taps, *out))
    mask = generator.uniform(0, 1, (2, taps, *out))
    return value, offset, mask, weight, generator.standard_normal(6)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_with_a_mask_against_loops(settings):
    """Every attribute alone, and all together, with offsets that leave the plane."""
    inputs = _inputs(**settings)
    golden = _loops(*inputs, **settings)
    actual = modulated_deform_conv2d(*map(torch.from_numpy, inputs), **settings)
    np.testing.assert_allclose(actual, golden, rtol=1e-11, atol=1e-11)


def test_without_a_mask_against_loops():
    """The first version, by position as mmcv's users call it."""
    value, offset, mask, weight, bias = _inputs(stride=(2, 1), deform_groups=2)
    golden = _loops(value, offset, mask * 0 + 1, weight, bias * 0, stride=(2, 1), deform_groups=2)
    tensors = map(torch.from_numpy, (value, offset, weight))
    actual = deform_conv2d(*tensors, (2, 1), 0, 1, 1, 2, False, 64)
    np.testing.assert_allclose(actual, golden, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("channels", [3, 300])
def test_offsets_of_zero_make_a_convolution(channels):
    """In float32, with more channels and filters than one block of the kernel holds."""
    generator = torch.Generator().manual_seed(channels)
    value = torch.randn(2, channels, 13, 11, generator=generator)
    weight = torch.randn(37, channels, 3, 3, generator=generator)
    actual = deform_conv2d(value, torch.zeros(2, 18, 7, 6), weight, 2, 1)
    golden = F.conv2d(value.double(), weight.double(), stride=2, padding=1)
    assert torch.linalg.norm(actual - golden) <= 1e-6 * torch.linalg.norm(golden)


def test_the_modules_hand_everything_on():
    """Settings, mask and bias reach the operator; the offsets come from the module's own layer."""
    settings = {"stride": 2, "padding": 1, "dilation": 1, "groups": 2, "deform_groups": 2}
    torch.manual_seed(0)
    value, taps = torch.randn(1, 4, 6, 7), 2 * 9
    offset, mask = torch.randn(1, 2 * taps, 3, 4), torch.rand(1, taps, 3, 4)
    first = DeformConv2d(4, 6, 3, **settings)
    golden = deform_conv2d(value, offset, first.weight, 2, 1, 1, 2, 2)
    torch.testing.assert_close(first(value, offset), golden)
    second = ModulatedDeformConv2d(4, 6, 3, **settings)
    torch.nn.init.normal_(second.bias)
    golden = modulated_deform_conv2d(value, offset, mask, second.weight, second.bias, 2, 1, 1, 2, 2)
    torch.testing.assert_close(second(value, offset, mask), golden)
    pack = DeformConv2dPack(4, 6, 3, **settings)
    torch.nn.init.normal_(pack.conv_offset.weight)
    golden = DeformConv2d.forward(pack, value, pack.conv_offset(value))
    torch.testing.assert_close(pack(value), golden)
    pack = ModulatedDeformConv2dPack(4, 6, 3, **settings)
    torch.nn.init.normal_(pack.conv_offset.weight)
    found = pack.conv_offset(value)
    golden = ModulatedDeformConv2d.forward(
        pack, value, found[:, : 2 * taps], found[:, 2 * taps :].sigmoid()
    )
    torch.testing.assert_close(pack(value), golden)


def test_a_new_pack_is_a_convolution():
    """Its offsets are zero, and each mask one half, as in mmcv; so are the names of its weights."""
    torch.manual_seed(0)
    value = torch.randn(1, 3, 5, 5)
    pack = DeformConv2dPack(3, 2, 3, padding=1)
    torch.testing.assert_close(pack(value), F.conv2d(value, pack.weight, padding=1))
    pack = ModulatedDeformConv2dPack(3, 2, 3, padding=1)
    torch.testing.assert_close(pack(value), F.conv2d(value, pack.weight / 2, pack.bias, padding=1))
    assert list(pack.state_dict()) == [
        "weight",
        "bias",
        "conv_offset.weight",
        "conv_offset.bias",
    ]


@pytest.mark.parametrize("make", [DeformConv2d, DeformConv2dPack])
def test_a_bias_is_refused_where_mmcv_has_none(make):
    """By the modules and by the function."""
    with pytest.raises(ValueError, match="has no bias"):
        make(3, 2, 3, bias=True)
    with pytest.raises(ValueError, match="has no bias"):
        deform_conv2d(*[torch.zeros(1, 1, 1, 1)] * 3, bias=True)
    with pytest.raises(ValueError, match="do not divide into 2 groups"):
        DeformConv2d(3, 2, 3, groups=2)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"offset": (1, 18, 4, 5)},
            r"offset has shape \[1, 18, 4, 5\], but must be \[1, 18, 3, 3\]",
        ),
        ({"mask": (1, 8, 3, 3)}, r"mask has shape \[1, 8, 3, 3\], but must be \[1, 9, 3, 3\]"),
        ({"bias": (3,)}, r"bias has shape \[3\], but must be \[4\]"),
        (
            {"weight": (4, 3, 3, 3)},
            r"weight has shape \[4, 3, 3, 3\], but must be \[\?, 2, \?, \?\]",
        ),
        ({"weight": (4, 2, 0, 3)}, "weight has no taps"),
        ({"stride": 0}, r"stride is \[0, 0\], but must be two numbers from 1 on"),
        ({"groups": 3}, "2 channels and 4 filters do not divide into groups=3"),
        ({"deform_groups": 0}, "deform_groups is 0, but both must be 1 or more"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    """The kernel names the input, its shape and the shape it must have."""
    shapes = {
        "input": (1, 2, 5, 5),
        "offset": (1, 18, 3, 3),
        "mask": (1, 9, 3, 3),
        "weight": (4, 2, 3, 3),
        "bias": (4,),
    }
    arguments = {name: torch.zeros(change.get(name, shape)) for name, shape in shapes.items()}
    rest = {name: value for name, value in change.items() if name not in shapes}
    with pytest.raises(RuntimeError, match=message):
        modulated_deform_conv2d(**arguments, **rest)


@pytest.fixture
def node_model(tmp_path):
    """One deformable convolution as a node of Shipway's own."""
    op = find_operator("deform_conv2d")
    family = families(op, "float32", make_calls(op, "float32", 0)[:1])[0]
    return lambda opset: (write_model(family, tmp_path, opset=opset)[0], family)


def _types(path):
    return {node.op_type for node in onnx.load(path).graph.node}


def test_standard_operators_have_it(node_model):
    """As DeformConv, from opset 19 on."""
    model, family = node_model(20)
    assert "DeformConv" in _types(inline_model(model, family).onnx)


@pytest.mark.slow
def test_before_opset_19_the_body_is_made_of_gathers(node_model):
    """And computes the same in ONNX Runtime."""
    model, family = node_model(18)
    path = inline_model(model, family).onnx
    assert "DeformConv" not in _types(path)
    call = family.calls[0]
    feeds = {spec.name: one.numpy() for spec, one in zip(model.inputs, call.tensors, strict=True)}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, feeds)[0], call.golden[0], rtol=1e-4, atol=1e-5)


def test_openvino_gets_a_body_that_it_runs(node_model, tmp_path, monkeypatch):
    """Its frontend has no rule for DeformConv, so the reference is traced instead."""
    monkeypatch.setattr("shipway.engines.openvino.engine.library_of", lambda _: None)
    model, _ = node_model(20)
    types = _types(OpenVinoEngine().lower(model, tmp_path / "lowered").onnx)
    assert "DeformConv" not in types
    assert "Gather" in types
