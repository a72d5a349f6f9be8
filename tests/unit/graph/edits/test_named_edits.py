"""Every named edit on a model it is for: it changes the graph, and the outputs stay."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from shipway.errors import ModelError, UsageError
from shipway.graph.edits.registry import all_edits, find_edit, run_edit
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph

NUMBERS = np.random.default_rng(0)


def floats(*shape):
    return NUMBERS.standard_normal(shape).astype(np.float32)


HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
CASES = {
    "cast-indices": (
        "(float[n,6] x) => (float[n,2] y) <int64[2] i = {1,4}> { y = Gather<axis=1>(x, i) }",
        {},
        {},
    ),
    "convert-conv1d": (
        "(float[n,3,9] x) => (float[n,4,7] y) <float[4,3,3] w> { y = Conv(x, w) }",
        {},
        {"w": floats(4, 3, 3)},
    ),
    "drop-empty-slices": (
        (
            "(float[n,6] x) => (float[n,6] y) <int64[1] z = {0}, int64[1] one = {1}> "
            "{ a = Slice(x, z, z, one)  y = Concat<axis=1>(x, a) }"
        ),
        {},
        {},
    ),
    "fold-batchnorm": (
        (
            "(float[n,3,5,5] x) => (float[n,4,3,3] y) <float[4,3,3,3] w, float[4] s, float[4] b, float[4] m, float[4] v> "
            "{ a = Conv(x, w)  y = BatchNormalization(a, s, b, m, v) }"
        ),
        {},
        {
            "w": floats(4, 3, 3, 3),
            "s": floats(4),
            "b": floats(4),
            "m": floats(4),
            "v": np.full(4, 0.5, np.float32),
        },
    ),
    "gather-to-slice": (
        "(float[n,6] x) => (float[n] y) <int64 i = {4}> { y = Gather<axis=1>(x, i) }",
        {},
        {},
    ),
    "gather-to-split": (
        (
            "(float[n,2] x) => (float[n] y, float[n] z) <int64 i = {0}, int64 j = {1}> "
            "{ y = Gather<axis=1>(x, i)  z = Gather<axis=1>(x, j) }"
        ),
        {},
        {},
    ),
    "merge-casts": (
        "(float16[n] x) => (float16[n] y) { a = Cast<to=1>(x)  b = Cast<to=11>(a)  y = Cast<to=10>(b) }",
        {},
        {},
    ),
    "merge-concats": (
        "(float[n,2] x) => (float[n,6] y) { a = Concat<axis=1>(x, x)  y = Concat<axis=1>(a, x) }",
        {},
        {},
    ),
    "merge-slices": (
        (
            "(float[n,6,5] x) => (float[n,3,2] y) <int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4}> "
            "{ a = Slice(x, one, four, one)  y = Slice(a, two, four, two) }"
        ),
        {},
        {},
    ),
    "merge-transposes": (
        (
            "(float[n,3,4] x) => (float[n,3,4] y) "
            "{ a = Transpose<perm=[0,2,1]>(x)  b = Relu(a)  y = Transpose<perm=[0,2,1]>(b) }"
        ),
        {},
        {},
    ),
    "replace-reflect-pad": (
        (
            "(float[n,1,5,5] x) => (float[n,1,7,7] y) <int64[8] p = {0,0,1,1,0,0,1,1}> "
            '{ y = Pad<mode="reflect">(x, p) }'
        ),
        {},
        {},
    ),
    "split-average-pool": (
        "(float[n,1,8,8] x) => (float[n,1,1,1] y) { y = AveragePool<kernel_shape=[8,8]>(x) }",
        {"limit": "16"},
        {},
    ),
    "split-large-conv": (
        "(float[n,1,9] x) => (float[n,2,4] y) <float[2,1,6] w> { y = Conv(x, w) }",
        {"limit": "4"},
        {"w": floats(2, 1, 6)},
    ),
    "split-qkv": (
        (
            "(float[n,5,8] x) => (float[n,2,5,4] q, float[n,2,5,4] k, float[n,2,5,4] v) <float[8,24] w, float[24] b, "
            "int64[5] s = {-1,5,3,2,4}, int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}> {\n"
            "  m = MatMul(x, w)\n  a = Add(m, b)\n  r = Reshape(a, s)\n  t = Transpose<perm=[2,0,3,1,4]>(r)\n"
            "  q = Gather<axis=0>(t, i0)\n  k = Gather<axis=0>(t, i1)\n  v = Gather<axis=0>(t, i2)\n}"
        ),
        {},
        {"w": floats(8, 24), "b": floats(24)},
    ),
    "convert-opset": (
        "(float[n,4] x) => (float[n,4] y) { a = Relu(x)  y = Softmax<axis=-1>(a) }",
        {"version": "13"},
        {},
    ),
}


@pytest.fixture
def edited(tmp_path):
    def run(name, text, options, weights, **flags):
        proto = onnx.parser.parse_model(HEAD + text)
        for one, array in weights.items():
            proto.graph.initializer.append(numpy_helper.from_array(array, one))
        before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
        onnx.save(proto, before)
        model = load_graph(before)
        result = run_edit(model, name, options, **flags)
        save_graph(model, after)
        onnx.checker.check_model(after)
        return result, proto, before, after

    return run


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_stay(edited, session, hostile, name):
    text, options, weights = CASES[name]
    result, proto, before, after = edited(name, text, options, weights)
    assert result.changed > 0
    golden, actual = session(before), session(after)
    for size in (1, 3):
        feeds = hostile(proto, size, 0)
        for expected, found in zip(golden.run(None, feeds), actual.run(None, feeds), strict=True):
            assert expected.shape == found.shape
            assert expected.dtype == found.dtype
            if find_edit(name).kind == "exact":
                np.testing.assert_array_equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_domain_is_set():
    text = HEAD.replace('"" : 20', '"" : 20, "mine" : 1')
    proto = onnx.parser.parse_model(text + "(float[n] x) => (float[n] y) { y = mine.Twice(x) }")
    model = ir.serde.deserialize_model(proto)
    run_edit(model, "set-domain", {"domain": "npu", "version": "2"})
    assert [node.domain for node in model.graph] == ["npu"]
    assert model.opset_imports["npu"] == 2


VIT = (
    "(float[n,5,8] x) => (float[n,8] y) <float[1,1,8] cls, float[1,6,8] pos, float[8,8] q, float[8,8] k, float[8,8] v, "
    "int64 first = {0}, int64[3] s = {-1,1,8}, float scale> {\n"
    "  c0 = Shape<start=0, end=1>(x)\n  t = Concat<axis=0>(c0, one, eight)\n  c = Expand(cls, t)\n"
    "  a = Concat<axis=1>(c, x)\n  p = Add(a, pos)\n  qq = MatMul(p, q)\n  kk = MatMul(p, k)\n  vv = MatMul(p, v)\n"
    "  kt = Transpose<perm=[0,2,1]>(kk)\n  sc = MatMul(qq, kt)\n  sm = Mul(sc, scale)\n  pr = Softmax<axis=-1>(sm)\n"
    "  o = MatMul(pr, vv)\n  r = Add(p, o)\n  y = Gather<axis=1>(r, first)\n}"
)
VIT_WEIGHTS = {
    "cls": floats(1, 1, 8),
    "pos": floats(1, 6, 8),
    "q": floats(8, 8),
    "k": floats(8, 8),
    "v": floats(8, 8),
    "scale": np.float32(0.35),
    "one": np.array([1], np.int64),
    "eight": np.array([8], np.int64),
}


def test_padded_tokens_are_masked(edited, session, hostile):
    """Padding without a mask moves the outputs by per cent; with one they are the same."""
    result, proto, before, after = edited("pad-tokens", VIT, {"to": "16"}, VIT_WEIGHTS)
    assert result.changed > 0
    golden, actual = session(before), session(after)
    feeds = hostile(proto, 3, 0)
    expected, found = golden.run(None, feeds)[0], actual.run(None, feeds)[0]
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    weights = onnx.load(after).graph.initializer
    assert any(16 in tensor.dims for tensor in weights)


def test_what_changes_numerics_has_to_be_allowed(edited):
    text = "(float[n,1,4,4] x) => (float[n,1,8,8] y) <float[4] s = {1.,1.,2.,2.}> { y = Resize(x, , s) }"
    with pytest.raises(ModelError, match="changes what the model computes"):
        edited(
            "resize-to-nearest", text.replace(", , s", ", r, s"), {}, {"r": np.zeros(0, np.float32)}
        )


def test_names_that_are_wrong_are_corrected(edited):
    with pytest.raises(UsageError, match="Nearest: merge-casts"):
        find_edit("merge-cast")
    with pytest.raises(UsageError, match="has no option --size"):
        edited("merge-casts", CASES["merge-casts"][0], {"size": "3"}, {})
    with pytest.raises(UsageError, match="needs --version"):
        edited("convert-opset", CASES["convert-opset"][0], {}, {})


def test_every_edit_says_what_it_does():
    for edit in all_edits():
        assert edit.kind in {"exact", "reassociating", "changes-numerics"}
        assert edit.summary.endswith((".", '"'))


def test_the_documentation_lists_every_edit():
    text = (Path(__file__).parents[4] / "docs" / "how-to" / "edit-a-graph.md").read_text()
    assert all(f"| `{edit.name}` |" in text for edit in all_edits())
