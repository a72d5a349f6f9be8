"""The fault study: each kind of fault does what it says, and the truth about it is where it is."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from faults.broken import KINDS
from faults.graphs import KnownGraph, behind, nearest, run_all
from faults.injecting import draw_faults
from faults.rivals import RULES

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[1, 8, 6, 6] image) => (float[1, 6, 12] y)
<
    float[8, 8, 3, 3] kernel, float[8] kernel_bias, float[8, 8, 3, 3] other, float[12] scale, float[12] shift,
    float[48, 12] weight, float[48, 12] another, float[12] bias, float factor = {0.5}
>
{
    conv = Conv <pads = [1, 1, 1, 1]> (image, kernel, kernel_bias)
    relu = Relu (conv)
    again = Conv <pads = [1, 1, 1, 1]> (relu, other, kernel_bias)
    sum = Add (again, relu)
    moved = Transpose <perm = [0, 2, 1, 3]> (sum)
    shape = Constant <value = int64[3] {1, 6, 48}> ()
    flat = Reshape (moved, shape)
    query = MatMul (flat, weight)
    key = MatMul (flat, another)
    query_bias = Add (query, bias)
    key_moved = Transpose <perm = [0, 2, 1]> (key)
    scores = MatMul (query_bias, key_moved)
    scaled = Mul (scores, factor)
    chances = Softmax <axis = -1> (scaled)
    mixed = MatMul (chances, key)
    norm = LayerNormalization <axis = -1, epsilon = 1e-5> (mixed, scale, shift)
    gelu = Gelu (norm)
    gate = Sigmoid (norm)
    y = Mul (gelu, gate)
}
"""


@pytest.fixture(scope="module")
def graph():
    proto = onnx.parser.parse_model(MODEL)
    random = np.random.default_rng(0)
    for value in [*proto.graph.value_info]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = (random.standard_normal(shape) / 3).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del proto.graph.value_info[:]
    feeds = [{"image": random.standard_normal((1, 8, 6, 6)).astype(np.float32)} for _ in range(2)]
    return KnownGraph(proto, *feeds), feeds[0]


def test_every_kind_of_fault_changes_its_value_and_nothing_before_it(graph):
    known, feeds = graph
    faults = draw_faults(known, 40, seed=0)
    assert {fault.kind for fault in faults} == set(KINDS)
    for fault in faults:
        onnx.checker.check_model(fault.proto)
        values = run_all(fault.proto, feeds)
        later = behind(known, fault.values)
        for name, right in known.values.items():
            same = np.array_equal(values[name], right, equal_nan=True)
            assert same or name in later, (fault.kind, fault.detail, name)
        changed = [not np.array_equal(values[name], known.values[name]) for name in fault.values]
        assert any(changed), (fault.kind, fault.node, fault.detail)


def test_the_same_seed_draws_the_same_faults(graph):
    known, _ = graph
    draws = [
        [(fault.kind, fault.node, fault.detail) for fault in draw_faults(known, 20, seed)]
        for seed in (3, 3, 4)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_the_clean_graph_is_left_as_it_was(graph):
    known, _ = graph
    before = known.proto.SerializeToString(deterministic=True)
    draw_faults(known, 40, seed=1)
    assert known.proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("shown", "truth"),
    [
        ({"relu", "sum", "y"}, {"relu"}),
        ({"again", "sum", "y"}, {"again", "sum"}),  # two paths lead from relu
        ({"key", "scaled", "y"}, {"key", "scaled"}),
        ({"image"}, set()),
    ],
)
def test_truth_is_what_is_shown_first_on_each_path(graph, shown, truth):
    known, _ = graph
    assert nearest(known, ["conv"], shown) == truth


def test_the_rules_of_others_have_the_gaps_they_are_known_for():
    right = np.linspace(-1, 1, 1000, dtype=np.float32)
    assert not RULES["msit"](right, right * 1.04)  # passes all five thresholds
    assert RULES["msit"](right, -right)
    assert RULES["Polygraphy"](right, right * 1.0001)
    assert not RULES["Polygraphy"](right, right * 1.000001)
    broken = right.copy()
    broken[3] = np.nan
    assert not RULES["msit"](right, broken)
    assert RULES["Polygraphy"](right, broken)
    assert not RULES["torch.onnx"](right, broken)
    assert RULES["torch.onnx"](right, right + np.float32(0.02))
