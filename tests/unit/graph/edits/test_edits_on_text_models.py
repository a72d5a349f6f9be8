"""Every named edit on a small model: what it changes, and that the outputs stay."""

import numpy as np
import onnx_ir as ir
import pytest

from shipway.errors import ModelError, UsageError
from shipway.graph.edits.registry import all_edits, find_edit, run_edit

RANDOM = np.random.default_rng(1)


def weights(*shape):
    return "{" + ", ".join(f"{one:.4f}" for one in RANDOM.standard_normal(shape).reshape(-1)) + "}"


QKV = f"""
g (float[n,5,4] x) => (float[n,2,5,5] s, float[n,2,5,2] y)
<float[4,12] w = {weights(4, 12)}, float[12] b = {weights(12)}, int64[5] shape = {{0,5,3,2,2}},
 int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}>
{{
  m = MatMul(x, w) a = Add(m, b) r = Reshape(a, shape) t = Transpose<perm=[2,0,3,1,4]>(r)
  q = Gather<axis=0>(t, zero) k = Gather<axis=0>(t, one) y = Gather<axis=0>(t, two)
  kt = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, kt)
}}
"""
NORM = "float[3] s = {1,2,3}, float[3] h = {1,0,-1}, float[3] u = {0.5,0,1}, float[3] v = {1,2,4}"

# name, opset, options, operators after, model
CASES = [
    (
        "cast-indices",
        17,
        {},
        "Slice Cast Gather",
        """
g (float[n,4] x, float[2] i) => (float[n,2] y)
<int64[1] s = {1}, int64[1] e = {9223372036854775807}, int64[1] a = {1}>
{ c = Slice(x, s, e, a) f = Cast<to=7>(i) y = Gather<axis=1>(c, f) }""",
    ),
    (
        "convert-conv1d",
        17,
        {},
        "Unsqueeze Conv Relu Conv Squeeze",
        f"""
g (float[n,2,9] x) => (float[n,2,k] y)
<float[4,1,3] w = {weights(4, 1, 3)}, float[2,4,2] v = {weights(2, 4, 2)}, float[2] b = {{1,2}}>
{{ a = Conv<pads=[2,1], strides=[2], group=2>(x, w) r = Relu(a)
   y = Conv<dilations=[2], kernel_shape=[2]>(r, v, b) }}""",
    ),
    (
        "convert-conv1d",
        11,
        {},
        "Unsqueeze ConvTranspose Squeeze",
        f"""
g (float[n,2,5] x) => (float[n,3,k] y) <float[2,3,3] w = {weights(2, 3, 3)}>
{{ y = ConvTranspose<strides=[2], output_padding=[1], pads=[1,0]>(x, w) }}""",
    ),
    (
        "drop-empty-slices",
        17,
        {},
        "Concat",
        """
g (float[n,4] x) => (float[n,8] y) <int64[1] two = {2}, int64[1] one = {1}>
{ e = Slice(x, two, two, one) y = Concat<axis=1>(x, e, x) }""",
    ),
    (
        "fold-batchnorm",
        17,
        {},
        "Conv",
        f"""
g (float[n,2,4,4] x) => (float[n,3,2,2] y) <float[3,2,3,3] w = {weights(3, 2, 3, 3)}, {NORM}>
{{ c = Conv(x, w) y = BatchNormalization(c, s, h, u, v) }}""",
    ),
    (
        "fold-batchnorm",
        17,
        {},
        "Gemm",
        f"""
g (float[n,2] x) => (float[n,3] y)
<float[3,2] w = {weights(3, 2)}, float[3] b = {{1,2,3}}, {NORM}>
{{ c = Gemm<transB=1>(x, w, b) y = BatchNormalization(c, s, h, u, v) }}""",
    ),
    (
        "fold-batchnorm",
        17,
        {},
        "ConvTranspose",
        f"""
g (float[n,2,4] x) => (float[n,3,k] y)
<float[2,3,3] w = {weights(2, 3, 3)}, float[3] b = {{1,2,3}}, {NORM}>
{{ c = ConvTranspose(x, w, b) y = BatchNormalization(c, s, h, u, v) }}""",
    ),
    (
        "gather-to-slice",
        17,
        {},
        "Slice Squeeze Slice Gather",
        """
g (float[n,4] x) => (float[n] y, float[n,2] z, float[n,2] k)
<int64 last = {-1}, int64[2] row = {1,2}, int64[2] apart = {0,2}>
{ y = Gather<axis=1>(x, last) z = Gather<axis=1>(x, row) k = Gather<axis=1>(x, apart) }""",
    ),
    (
        "gather-to-slice",
        9,
        {},
        "Slice Squeeze",
        """
g (float[n,4] x) => (float[n] y) <int64 i = {2}> { y = Gather<axis=1>(x, i) }""",
    ),
    (
        "gather-to-split",
        18,
        {},
        "Split Squeeze Squeeze Add",
        """
g (float[2,n] x) => (float[n] y) <int64 zero = {0}, int64 last = {-1}>
{ a = Gather<axis=0>(x, zero) b = Gather<axis=0>(x, last) y = Add(a, b) }""",
    ),
    (
        "gather-to-split",
        11,
        {},
        "Split Squeeze Squeeze Add",
        """
g (float[2,n] x) => (float[n] y) <int64 zero = {0}, int64 last = {1}>
{ a = Gather<axis=0>(x, zero) b = Gather<axis=0>(x, last) y = Add(a, b) }""",
    ),
    (
        "merge-casts",
        17,
        {},
        "Cast Identity Cast Add",
        """
g (float16[n] x) => (float16[n] y, int32[n] z, float[n] s)
{ a = Cast<to=1>(x) y = Cast<to=10>(a) z = Cast<to=6>(a) b = Cast<to=1>(x) s = Add(a, b) }""",
    ),
    (
        "merge-casts",
        17,
        {},
        "Cast Cast",
        """
g (float[n] x) => (float[n] y) { a = Cast<to=10>(x) y = Cast<to=1>(a) }""",
    ),
    (
        "merge-concats",
        17,
        {},
        "Neg Concat",
        """
g (float[n,2] x) => (float[n,6] y)
{ k = Neg(x) a = Concat<axis=1>(x, k) y = Concat<axis=1>(a, x) }""",
    ),
    (
        "merge-slices",
        17,
        {},
        "Slice",
        """
g (float[n,4,4] x) => (float[n,2,1] y)
<int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}>
{ a = Slice(x, one, three, one) y = Slice(a, two, three, two) }""",
    ),
    (
        "merge-transposes",
        17,
        {},
        "Relu Transpose",
        """
g (float[n,2,3] x) => (float[3,n,2] y)
{ a = Transpose<perm=[2,1,0]>(x) r = Relu(a) y = Transpose<perm=[0,2,1]>(r) }""",
    ),
    (
        "merge-transposes",
        17,
        {},
        "Relu",
        """
g (float[n,2] x) => (float[n,2] y)
{ a = Transpose<perm=[1,0]>(x) r = Relu(a) y = Transpose<perm=[1,0]>(r) }""",
    ),
    (
        "replace-reflect-pad",
        17,
        {},
        "Gather Gather Concat Gather Concat",
        """
g (float[n,4,5] x) => (float[n,7,6] y) <int64[6] p = {0,2,0,0,1,1}>
{ y = Pad<mode="reflect">(x, p) }""",
    ),
    (
        "split-average-pool",
        17,
        {"limit": "8"},
        "AveragePool AveragePool",
        """
g (float[n,2,9,12] x) => (float[n,2,2,3] y)
{ y = AveragePool<kernel_shape=[4,4], strides=[4,4]>(x) }""",
    ),
    (
        "split-average-pool",
        17,
        {"limit": "8"},
        "AveragePool AveragePool",
        """
g (float[n,2,4,6] x) => (float[n,2,1,1] y) { y = GlobalAveragePool(x) }""",
    ),
    (
        "split-large-conv",
        17,
        {"limit": "2"},
        "Pad Slice Conv Slice Conv Slice Conv Sum",
        f"""
g (float[n,2,9] x) => (float[n,3,k] y)
<float[3,2,5] w = {weights(3, 2, 5)}, float[3] b = {{1,2,3}}>
{{ y = Conv<pads=[3,1], strides=[2], dilations=[2]>(x, w, b) }}""",
    ),
    ("split-qkv", 17, {}, "", QKV),
    (
        "transpose-large-conv",
        17,
        {"limit": "8"},
        "Transpose Conv Transpose",
        f"""
g (float[n,2,4,9] x) => (float[n,3,a,b] y)
<float[3,2,2,3] w = {weights(3, 2, 2, 3)}, float[3] b = {{1,2,3}}>
{{ y = Conv<pads=[1,0,0,2], strides=[1,2], dilations=[2,1]>(x, w, b) }}""",
    ),
]


def feeds_of(lab, model, size):
    found = {}
    for value in model.graph.inputs:
        shape = [one if isinstance(one, int) else size for one in value.shape]
        found[value.name] = lab.numbers(*shape, dtype=value.dtype.numpy())
    return found


@pytest.mark.parametrize(
    ("name", "opset", "options", "after", "text"),
    CASES,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)],
)
def test_outputs_stay_at_two_sizes(lab, name, opset, options, after, text):
    model = lab.make(text, opset)
    for node in model.graph:
        node.metadata_props["from"] = node.op_type
    if name == "cast-indices":
        feeds = [{"x": lab.numbers(size, 4), "i": np.array([0, 2], np.float32)} for size in (1, 3)]
    else:
        feeds = [feeds_of(lab, model, size) for size in (1, 3)]
    golden = [lab.run(model, **one) for one in feeds]
    signature = [one.name for one in (*model.graph.inputs, *model.graph.outputs)]
    result = run_edit(model, name, options)
    if after:
        assert lab.op_types(model) == after.split()
    assert result.changed > 0 or name == "merge-casts"
    assert signature == [one.name for one in (*model.graph.inputs, *model.graph.outputs)]
    assert all(node.metadata_props.get("from") for node in model.graph)
    for before, one in zip(golden, feeds, strict=True):
        assert lab.worst(before, lab.run(model, **one)) < 1e-6
    again = run_edit(model, name, options)
    assert again.changed == 0 or name == "convert-conv1d"


def test_query_key_and_value_are_three_products(lab):
    model = lab.make(QKV)
    assert run_edit(model, "split-qkv").changed == 1
    assert lab.op_types(model).count("MatMul") == 4
    assert "Gather" not in lab.op_types(model)


@pytest.mark.parametrize("name", [one.name for one in all_edits()])
def test_every_edit_says_what_it_does(name):
    edit = find_edit(name)
    assert edit.name == name
    assert edit.summary.endswith(".")
    assert edit.to_json()["class"] in {"exact", "reassociating", "changes-numerics"}


def test_all_surgeon_knowledges_have_an_answer():
    known = {one.knowledge for one in all_edits()} - {""}
    assert len(known) == 17


RESIZE = """
g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}>
{ y = Resize<mode="linear">(x, , s) }
"""


def test_what_changes_numbers_must_be_allowed(lab):
    model = lab.make(RESIZE)
    with pytest.raises(ModelError, match="changes what the model computes"):
        run_edit(model, "resize-to-nearest")
    assert run_edit(model, "resize-to-nearest", allow=True).changed == 1
    x = lab.numbers(1, 1, 2, 2)
    np.testing.assert_array_equal(lab.run(model, x=x)[0], x.repeat(2, 2).repeat(2, 3))


def test_constants_are_clamped_to_float16(lab):
    model = lab.make("g (float[2] x) => (float[2] y) <float[2] k = {-1e9, 3}> { y = Add(x, k) }")
    assert run_edit(model, "clamp-constants", allow=True).changed == 1
    y = lab.run(model, x=np.zeros(2, np.float32))[0]
    np.testing.assert_array_equal(y, [-65504, 3])


def test_a_scalar_k_becomes_what_onnx_asks_for(lab):
    model = lab.make(
        "g (float[5] x) => (float[2] y, int64[2] i) <int64 k = {2}> { y, i = TopK(x, k) }"
    )
    assert run_edit(model, "repair-topk").changed == 1
    x = lab.numbers(5)
    np.testing.assert_array_equal(lab.run(model, x=x)[0], np.sort(x)[:-3:-1])


def test_attention_of_one_chip_is_refused(lab):
    with pytest.raises(ModelError, match="not portable"):
        run_edit(lab.make(RESIZE), "fuse-attention", allow=True)


def test_a_batch_that_was_baked_in_becomes_free(lab):
    text = """
g (float[2,3,4] x) => (float[2,12] y) <int64[2] a = {6,4}, int64[2] b = {2,12}>
{ r = Reshape(x, a) n = Neg(r) y = Reshape(n, b) }"""
    model = lab.make(text)
    x = lab.numbers(5, 3, 4)
    golden = lab.run(model, x=x[:2])
    result = run_edit(model, "free-batch")
    assert result.changed >= 1
    assert lab.worst(golden, lab.run(model, x=x[:2])) == 0
    np.testing.assert_array_equal(lab.run(model, x=x)[0], -x.reshape(5, 12))


def test_edits_work_inside_branches(lab):
    model = lab.make("""
g (float[n,4] x, bool c) => (float[n] y) <int64 i = {-1}> {
  y = If(c) <then_branch = t () => (float[n] t1) { t1 = Gather<axis=1>(x, i) },
             else_branch = e () => (float[n] e1) { e1 = Gather<axis=1>(x, i) }> }""")
    feeds = {"x": lab.numbers(3, 4), "c": np.array(True)}
    golden = lab.run(model, **feeds)
    assert run_edit(model, "gather-to-slice").changed == 2
    assert lab.worst(golden, lab.run(model, **feeds)) == 0


@pytest.mark.parametrize(
    ("name", "text", "opset", "note"),
    [
        ("split-average-pool", "y = AveragePool<kernel_shape=[3,3]>(x)", 17, "overlap"),
        (
            "split-average-pool",
            "y = AveragePool<kernel_shape=[3,1], strides=[3,1]>(x)",
            17,
            "two factors",
        ),
        ("fold-batchnorm", "r = Relu(x) y = BatchNormalization(r, s, h, u, v)", 17, "follows Relu"),
    ],
)
def test_what_is_left_alone_is_told(lab, name, text, opset, note):
    model = lab.make(f"g (float[n,3,7,7] x) => (float[n,3,a,b] y) <{NORM}> {{ {text} }}", opset)
    options = {"limit": "2"} if name == "split-average-pool" else {}
    result = run_edit(model, name, options)
    assert result.changed == 0
    assert note in result.notes[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pad-tokens", {"too": "4"}, "It has --to, --at, --axis"),
        ("pad-tokens", {"to": "four"}, "takes a number"),
        ("set-domain", {}, "needs --domain"),
        (
            "rewrite-pattern",
            {"pattern": "a", "replacement": "b", "commute": "perhaps"},
            "yes or no",
        ),
    ],
)
def test_options_that_make_no_sense_are_told(lab, name, options, message):
    with pytest.raises(UsageError, match=message):
        run_edit(lab.make(RESIZE), name, options, allow=True)


def test_options_come_as_text(lab):
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["": 17, "mine": 1]> '
        "g (float[2] x) => (float[2] y) { m = mine.A(x) y = mine.B(m) }"
    )
    options = {"domain": "npu", "version": "2", "only": "A"}
    assert run_edit(model, "set-domain", options).changed == 1
    assert dict(model.opset_imports) == {"": 17, "mine": 1, "npu": 2}
