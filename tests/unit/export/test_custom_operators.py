"""Custom operators through both exporters, in every form."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.model import export_model
from shipway.export.options import ExportOptions
from shipway.native import load_native, native_path
from shipway.ops import multi_scale_deformable_attn
from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn_op
from shipway.ops.widening import call_reference
from shipway.proof.export import prove_export
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec

BUILT = load_native() is not None
SPECS = (
    "value:f32[b,20,2,8]",
    "places:f32[b,q,2,1,3,2]",
    "weights:f32[b,q,2,1,3]",
)


class Attend(nn.Module):
    """One call of deformable attention over a 4x5 plane, sizes as buffers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shapes", torch.tensor([[4, 5]]))
        self.register_buffer("start", torch.tensor([0]))

    def forward(self, value, places, weights):
        return multi_scale_deformable_attn(value * 2, self.shapes, self.start, places, weights) + 1


def _export(folder, module=None, specs=SPECS, **options):
    inputs = tuple(parse_spec(text) for text in specs)
    source = LoadedSource("module", "test", inputs, (), module=(module or Attend()).eval())
    return export_model(source, folder, options=ExportOptions(**options))


def _operators(model):
    return {(node.domain, node.op_type) for node in onnx.load(model.onnx).graph.node}


@pytest.mark.parametrize("legacy", [False, True], ids=["torch.export", "legacy"])
@pytest.mark.parametrize(
    "form", ["node", "inline", pytest.param("function", marks=pytest.mark.slow)]
)
def test_each_form_is_exported_and_proved(tmp_path, form, legacy):
    """Node, node with body, standard operators: all agree with the reference at several sizes."""
    model = _export(tmp_path, custom_ops=form, legacy=legacy)
    has_node = ("shipway", "MultiScaleDeformableAttn") in _operators(model)
    assert has_node == (form != "inline")
    assert len(onnx.load(model.onnx).functions) == (form == "function")
    assert prove_export(model, input_sets=1).passed


def test_a_body_runs_without_any_library(tmp_path):
    """The file with a local function runs in a bare ONNX Runtime."""
    model = _export(tmp_path, custom_ops="function")
    session = ort.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    feeds = {
        "value": np.ones((3, 20, 2, 8), np.float32),
        "places": np.full((3, 7, 2, 1, 3, 2), 0.5, np.float32),
        "weights": np.full((3, 7, 2, 1, 3), 1 / 3, np.float32),
    }
    np.testing.assert_allclose(session.run(None, feeds)[0], 3, rtol=1e-6)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize(("domain", "opset"), [("npu", 11), ("", 11), (None, 11), (None, 20)])
def test_the_file_for_another_parser_runs_here(tmp_path, domain, opset):
    """What ATC's plugin registers, with int32 sizes, is the very file that runs in ONNX Runtime."""
    model = _export(tmp_path, opset=opset, legacy=opset < 18, custom_ops_domain=domain)
    expected = "shipway" if domain is None else domain
    assert (expected, "MultiScaleDeformableAttn") in _operators(model)
    casts = [node for node in onnx.load(model.onnx).graph.node if node.op_type == "Cast"]
    assert len([one for one in casts if one.attribute[0].i == onnx.TensorProto.INT32]) == (
        2 if domain is not None else 0
    )
    settings = ort.SessionOptions()
    settings.register_custom_ops_library(str(native_path()))
    ort.InferenceSession(str(model.onnx), settings, providers=["CPUExecutionProvider"])
    assert prove_export(model, input_sets=1).passed


def test_a_domain_that_does_not_know_it_is_refused(tmp_path):
    """With the domains that do."""
    with pytest.raises(ExportError, match="no name in the domain 'mmdeploy'") as caught:
        _export(tmp_path, custom_ops_domain="mmdeploy")
    assert "npu" in caught.value.hint


def test_an_operator_of_torch_library_is_inlined(tmp_path):
    """The habit torch.library.custom_op works unchanged: its function becomes standard operators."""

    @torch.library.custom_op("habit::twice", mutates_args=())
    def twice(x: torch.Tensor, k: float) -> torch.Tensor:
        return x * 2 + k

    @twice.register_fake
    def _(x, k):
        return torch.empty_like(x)

    class Net(nn.Module):
        def forward(self, x):
            return twice(x.relu(), 0.5)

    model = _export(tmp_path, Net(), ("x:f32[n,4]",))
    assert {domain for domain, _ in _operators(model)} == {""}
    assert prove_export(model, input_sets=1).passed
    assert ("habit", "twice") in _operators(
        _export(tmp_path / "node", Net(), ("x:f32[n,4]",), custom_ops="node")
    )


def test_symbolic_functions_work_with_the_old_tracer(tmp_path):
    """The habit torch.autograd.Function with `symbolic` writes the node it names."""

    class Invented(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x + 1

        @staticmethod
        def symbolic(g, x):
            return g.op("my::DynamicTRTResize", x)

    class Net(nn.Module):
        def forward(self, x):
            return Invented.apply(x)

    model = _export(tmp_path, Net(), ("x:f32[2,4]",), legacy=True, opset=11)
    assert _operators(model) == {("my", "DynamicTRTResize")}


class Plain(nn.Module):
    """The operator alone, with its sizes as inputs."""

    def forward(self, value, shapes, start, places, weights):
        return multi_scale_deformable_attn(value, shapes, start, places, weights)


@pytest.fixture(scope="module")
def seed_case():
    """Batch 2, one level 200x200, 8 heads, 4 points, 40,000 queries, 32 channels; rounded to half."""
    generator = np.random.default_rng(0)
    half = np.float16
    feeds = {
        "value": generator.uniform(-1, 1, (2, 40000, 8, 32)).astype(half),
        "shapes": np.array([[200, 200]]),
        "start": np.array([0]),
        "places": generator.uniform(-0.1, 1.1, (2, 40000, 8, 1, 4, 2)).astype(half),
        "weights": generator.uniform(0, 1, (2, 40000, 8, 1, 4)).astype(half),
    }
    wide = [
        torch.from_numpy(one.astype(np.float64) if one.dtype == half else one)
        for one in feeds.values()
    ]
    return feeds, call_reference(multi_scale_deformable_attn_op, *wide).numpy()


@pytest.mark.slow
@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("domain", ["", "npu", None], ids=["default", "npu", "own"])
def test_the_seed_case_at_its_size(tmp_path, seed_case, domain, dtype):
    """Opset 11: the file for ATC's plug-in runs in ONNX Runtime and agrees with float64."""
    feeds, golden = seed_case
    specs = (
        f"value:{dtype}[2,40000,8,32]",
        "shapes:i64[1,2]{200..200}",
        "start:i64[1]{0..0}",
        f"places:{dtype}[2,40000,8,1,4,2]",
        f"weights:{dtype}[2,40000,8,1,4]",
    )
    model = _export(tmp_path, Plain(), specs, legacy=True, opset=11, custom_ops_domain=domain)
    settings = ort.SessionOptions()
    settings.register_custom_ops_library(str(native_path()))
    session = ort.InferenceSession(str(model.onnx), settings, providers=["CPUExecutionProvider"])
    kind = np.float32 if dtype == "f32" else np.float16
    cast = {
        name: one.astype(kind) if one.dtype == np.float16 else one for name, one in feeds.items()
    }
    actual = session.run(None, cast)[0].astype(np.float64)
    error = np.linalg.norm(actual - golden) / np.linalg.norm(golden)
    assert error <= multi_scale_deformable_attn_op.tolerance(
        "float32" if dtype == "f32" else "float16"
    )
    print(f"{domain or 'default'} {dtype}: relative L2 {error:.1e}")


_TWIN = """
import sys
import torch
import shipway

@shipway.custom_op("twin::compress", schema="(Tensor x) -> Tensor", types="T->T")
def compress(x):
    return x * 2

class Net(torch.nn.Module):
    def forward(self, x):
        return compress(x)

from pathlib import Path
from shipway.export.model import export_model
from shipway.export.options import ExportOptions
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec

source = LoadedSource("module", "twin", (parse_spec("x:f32[n,3]"),), (), module=Net().eval())
export_model(source, Path(sys.argv[1]), options=ExportOptions())
"""


def test_an_operator_may_have_the_name_of_a_standard_one(tmp_path):
    """In a process of its own: onnx lists the schemas it knows once, and takes no name twice."""
    done = subprocess.run(
        [sys.executable, "-c", _TWIN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    model = onnx.load(next(tmp_path.glob("*.onnx")))
    assert {node.domain for node in model.graph.node} == {"twin"}
