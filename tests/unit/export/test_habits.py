"""Habits of those who wrote symbolic functions for torch's old tracer: the file has what they wrote."""

import contextlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shipway.errors import ExportError
from shipway.export.model import export_model
from shipway.export.options import CUSTOM_OPS, ExportOptions
from shipway.ops import modulated_deform_conv2d, registry
from shipway.ops.adoption import adopt_operator
from shipway.ops.onnx_schema import register_schema
from shipway.ops.registry import known_operator
from shipway.proof.export import prove_export
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec


def _export(folder, module, *specs, **options):
    inputs = tuple(parse_spec(text) for text in specs)
    source = LoadedSource("module", "test", inputs, (), module=module.eval())
    return export_model(source, folder, options=ExportOptions(legacy=True, **options))


def _nodes(model):
    """Return the nodes of a file but for its constants."""
    return [node for node in onnx.load(model.onnx).graph.node if node.op_type != "Constant"]


def _attributes(node):
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


@contextlib.contextmanager
def _symbolic(name, function, opset=9):
    """Register a symbolic function as users do, for the length of the block."""
    torch.onnx.register_custom_op_symbolic(name, function, opset)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(name, opset)


class TensorResize(torch.autograd.Function):
    """A resize whose scales are an input, as in many a tutorial."""

    @staticmethod
    def symbolic(g, plane, scales):
        return g.op(
            "Resize",
            plane,
            g.op("Constant", value_t=torch.tensor([], dtype=torch.float32)),
            scales,
            coordinate_transformation_mode_s="half_pixel",
            cubic_coeff_a_f=-0.75,
            mode_s="cubic",
            nearest_mode_s="floor",
        )

    @staticmethod
    def forward(_, plane, scales):
        return F.interpolate(plane, scale_factor=scales.tolist()[-2:], mode="bicubic")


class Resizing(nn.Module):
    """A convolution between two resizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, plane, scales):
        return self.conv(TensorResize.apply(plane, scales))


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_resize_by_tensor_scales(tmp_path, opset):
    """Its scales stay an input of the model; sizes follow them that nobody traced."""
    torch.manual_seed(0)
    module = Resizing()
    model = _export(tmp_path, module, "x:f32[1,2,6,7]", "s:f32[4]{1..2}", opset=opset)
    resize = _nodes(model)[0]
    assert (resize.op_type, resize.input[0], resize.input[2]) == ("Resize", "x", "s")
    assert _attributes(resize) == {
        "coordinate_transformation_mode": b"half_pixel",
        "cubic_coeff_a": -0.75,
        "mode": b"cubic",
        "nearest_mode": b"floor",
    }
    session = ort.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    plane = torch.randn(1, 2, 6, 7)
    for factors in ((1.0, 1.0, 2.0, 2.0), (1.0, 1.0, 1.5, 3.0)):
        scales = torch.tensor(factors)
        found = session.run(None, {"x": plane.numpy(), "s": scales.numpy()})[0]
        with torch.no_grad():
            golden = module(plane, scales).numpy()
        np.testing.assert_allclose(found, golden, rtol=1e-4, atol=1e-5)


class SizeResize(torch.autograd.Function):
    """A resize to the size of another tensor, as a node that a TensorRT plugin implements."""

    @staticmethod
    def symbolic(g, plane, like, align_corners=False):
        return g.op("my::DynamicTRTResize", plane, like, align_corners_i=align_corners)

    @staticmethod
    def forward(_, plane, like, align_corners=False):
        size = [like.size(-2), like.size(-1)]
        return F.interpolate(plane, size=size, mode="bicubic", align_corners=align_corners)


class Invented(nn.Module):
    """The invented node between two that are known."""

    def forward(self, x, like):
        return SizeResize.apply(x.relu(), like, True).exp()


@pytest.mark.parametrize("form", CUSTOM_OPS)
def test_an_invented_node(tmp_path, form):
    """It has its domain, inputs and attribute, whatever is to become of Shipway's operators."""
    opset = 18 if form == "function" else 11
    specs = ("x:f32[1,2,h,w]", "like:f32[1,1,k,m]")
    model = _export(tmp_path, Invented(), *specs, opset=opset, custom_ops=form)
    nodes = _nodes(model)
    assert [node.op_type for node in nodes] == ["Relu", "DynamicTRTResize", "Exp"]
    assert nodes[1].domain == "my"
    assert list(nodes[1].input) == [nodes[0].output[0], "like"]
    assert _attributes(nodes[1]) == {"align_corners": 1}


class Asinh(nn.Module):
    """An operator of torch that the tracer did not know for long."""

    def forward(self, x):
        return torch.asinh(x)


def test_a_symbolic_for_an_operator_of_torch(tmp_path):
    """A user's own asinh, at the opset of the time, with numbers that are right."""
    with _symbolic("aten::asinh", lambda g, x: g.op("Asinh", x)):
        model = _export(tmp_path, Asinh(), "x:f32[n,4]", opset=9)
    assert [node.op_type for node in _nodes(model)] == ["Asinh"]
    assert prove_export(model, input_sets=1).passed


@pytest.mark.parametrize("form", CUSTOM_OPS)
def test_it_goes_before_the_tracers_own(tmp_path, form):
    """Where the tracer has one too."""
    opset = 18 if form == "function" else 11
    with _symbolic("aten::relu", lambda g, x: g.op("my::Relu", x, slope_f=0.5)):
        model = _export(tmp_path, nn.ReLU(), "x:f32[n,4]", opset=opset, custom_ops=form)
    (node,) = _nodes(model)
    assert (node.domain, node.op_type, _attributes(node)) == ("my", "Relu", {"slope": 0.5})


@pytest.fixture
def adopt(monkeypatch):
    """Have Shipway know an operator of somebody else's, as after an export through torch.export."""
    monkeypatch.setattr(registry, "_OPERATORS", dict(registry._OPERATORS))

    def take_in(name, overload, inputs):
        if known_operator(name) is None:
            register_schema(adopt_operator(name, overload, (["float32"] * inputs, ["float32"])))

    return take_in


@pytest.fixture(scope="module")
def torchvision_operator():
    """torchvision's deform_conv2d with its schema; the package itself is not needed."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(
        "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
        "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, "
        "SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor"
    )

    def compute(value, weight, offset, mask, bias, *rest):
        stride, padding, dilation = rest[:2], rest[2:4], rest[4:6]
        return modulated_deform_conv2d(
            value, offset, mask, weight, bias, stride, padding, dilation, *rest[6:8]
        )

    library.impl("deform_conv2d", compute, "CompositeExplicitAutograd")
    yield torch.ops.torchvision.deform_conv2d.default
    library._destroy()


class Deformed(nn.Module):
    """What torchvision.ops.DeformConv2d calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2, 3, 3))
        self.bias = nn.Parameter(torch.zeros(3))
        self.offset, self.mask = nn.Conv2d(2, 18, 3, padding=1), nn.Conv2d(2, 9, 3, padding=1)

    def forward(self, x):
        tensors = (x, self.weight, self.offset(x), self.mask(x).sigmoid(), self.bias)
        return torch.ops.torchvision.deform_conv2d(*tensors, 1, 1, 1, 1, 1, 1, 1, 1, True)


@torch.onnx.symbolic_helper.parse_args(*"vvvvv", *"iiiiiiii", "b")
def _deform_conv2d(  # noqa: PLR0917 -- the schema's
    g, value, weight, offset, mask, bias, stride_h, stride_w, _h, _w, _dh, _dw, groups, _og, _mask
):
    """Write what many inference engines of one's own read."""
    return g.op(
        "torchvision::deform_conv2d",
        value,
        offset,
        mask,
        weight,
        bias,
        stride_i=[stride_h, stride_w],
        groups_i=groups,
    )


@pytest.mark.parametrize("form", CUSTOM_OPS)
@pytest.mark.parametrize("known", [False, True])
def test_a_symbolic_for_torchvision(tmp_path, torchvision_operator, adopt, form, known):
    """The node has the order of inputs and the attributes that the user chose."""
    name = "torchvision::deform_conv2d"
    if known:
        adopt(name, torchvision_operator, 5)
    opset = 18 if form == "function" else 11
    with _symbolic(name, _deform_conv2d):
        model = _export(tmp_path, Deformed(), "x:f32[1,2,8,9]", opset=opset, custom_ops=form)
    node = _nodes(model)[-1]
    assert (node.domain, node.op_type) == ("torchvision", "deform_conv2d")
    assert (node.input[0], *node.input[3:]) == ("x", "weight", "bias")
    assert _attributes(node) == {"stride": [1, 1], "groups": 1}
    assert not onnx.load(model.onnx).functions


@torch.library.custom_op("habits::twice", mutates_args=())
def twice(x: torch.Tensor, k: float = 0.5) -> torch.Tensor:
    """An operator in Python that depends on a size."""
    return x * 2 + k * x.shape[0]


@twice.register_fake
def _(x, k=0.5):
    return torch.empty_like(x)


class Twice(nn.Module):
    """One call, with an argument by name."""

    def forward(self, x):
        return twice(x.relu(), k=0.25)


@pytest.mark.parametrize(("opset", "form"), [(11, "auto"), (11, "inline"), (18, "auto")])
def test_an_operator_of_torch_library_becomes_standard_ones(tmp_path, opset, form):
    """Through the old tracer too, at several sizes, whatever the opset."""
    model = _export(tmp_path, Twice(), "x:f32[n,4]", opset=opset, custom_ops=form)
    assert {node.domain for node in _nodes(model)} == {""}
    assert prove_export(model, input_sets=1).passed


@pytest.mark.parametrize("form", CUSTOM_OPS)
@pytest.mark.parametrize("written", ["mine::Twice", "habits::twice"])
def test_its_symbolic_goes_before_its_function(tmp_path, adopt, written, form):
    """Also where the node has the very name of the operator, and Shipway knows that."""
    adopt("habits::twice", torch.ops.habits.twice.default, 1)
    opset = 18 if form == "function" else 11
    with _symbolic("habits::twice", lambda g, x, _: g.op(written, x, factor_f=3.0)):
        model = _export(tmp_path, Twice(), "x:f32[n,4]", opset=opset, custom_ops=form)
    node = _nodes(model)[-1]
    assert (f"{node.domain}::{node.op_type}", _attributes(node)) == (written, {"factor": 3.0})
    assert not onnx.load(model.onnx).functions


@torch.library.custom_op("habits::leaves_torch", mutates_args=())
def leaves_torch(x: torch.Tensor) -> torch.Tensor:
    """An operator that computes with numpy: the tracer would see a constant."""
    return torch.from_numpy(np.sin(x.numpy()))


@leaves_torch.register_fake
def _(x):
    return torch.empty_like(x)


def test_a_function_that_leaves_torch_is_refused(tmp_path):
    """Instead of becoming a constant without a word."""

    class Leaving(nn.Module):
        def forward(self, x):
            return leaves_torch(x)

    with pytest.raises(ExportError, match="The function of habits::leaves_torch cannot be traced"):
        _export(tmp_path, Leaving(), "x:f32[n,4]", opset=11)
