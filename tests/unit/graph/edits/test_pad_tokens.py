"""A small vision transformer whose tokens are padded: with the mask nothing changes."""

import numpy as np
import onnx_ir as ir
import pytest

from shipway.errors import ModelError, UsageError
from shipway.graph.edits import token_padding
from shipway.graph.edits.registry import run_edit

HEADS, SIZE, TOKENS = 2, 4, 10
WIDTH = HEADS * SIZE
BLOCK = """
  n{i} = LayerNormalization<axis=-1>({x}, g, b)
  m{i} = MatMul(n{i}, wq{i}) a{i} = Add(m{i}, bq)
  r{i} = Reshape(a{i}, parts) t{i} = Transpose<perm=[2,0,3,1,4]>(r{i})
  q{i} = Gather<axis=0>(t{i}, zero) k{i} = Gather<axis=0>(t{i}, one) v{i} = Gather<axis=0>(t{i}, two)
  kt{i} = Transpose<perm=[0,1,3,2]>(k{i}) s{i} = MatMul(q{i}, kt{i}) d{i} = Mul(s{i}, scale)
  p{i} = Softmax<axis=-1>(d{i})
  o{i} = MatMul(p{i}, v{i}) c{i} = Transpose<perm=[0,2,1,3]>(o{i}) j{i} = Reshape(c{i}, joined)
  l{i} = MatMul(j{i}, wo{i}) e{i} = Add(l{i}, bo) x{i} = Add({x}, e{i})
"""


@pytest.fixture
def vit(lab):
    def weight(name, *shape, seed):
        return f"float[{','.join(map(str, shape))}] {name} = {lab.literal(lab.numbers(*shape, seed=seed))}"

    constants = [
        weight("patch", WIDTH, 1, 2, 2, seed=1),
        weight("cls", 1, 1, WIDTH, seed=2),
        weight("pos", 1, TOKENS, WIDTH, seed=3),
        weight("g", WIDTH, seed=4),
        weight("b", WIDTH, seed=5),
        weight("bq", 3 * WIDTH, seed=6),
        weight("bo", WIDTH, seed=7),
        weight("head", WIDTH, 5, seed=8),
        *(weight(f"wq{i}", WIDTH, 3 * WIDTH, seed=9 + i) for i in range(2)),
        *(weight(f"wo{i}", WIDTH, WIDTH, seed=11 + i) for i in range(2)),
        f"int64[3] flat = {{0,{WIDTH},-1}}, int64[5] parts = {{0,{TOKENS},3,{HEADS},{SIZE}}}",
        f"int64[3] joined = {{0,{TOKENS},{WIDTH}}}, float scale = {{0.5}}",
        f"int64[3] many = {{2,1,{WIDTH}}}",
        "int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 last = {-1}",
    ]
    text = f"""
g (float[2,1,6,6] image) => (float[2,5] y, float[2,{WIDTH}] mean, float[2,{WIDTH}] tail)
<{", ".join(constants)}>
{{
  f = Conv<strides=[2,2]>(image, patch) u = Reshape(f, flat) h = Transpose<perm=[0,2,1]>(u)
  many_cls = Expand(cls, many) tokens = Concat<axis=1>(many_cls, h) x = Add(tokens, pos)
{BLOCK.format(i=0, x="x")}{BLOCK.format(i=1, x="x0")}
  z = LayerNormalization<axis=-1>(x1, g, b) first = Gather<axis=1>(z, zero) y = MatMul(first, head)
  mean = ReduceMean<axes=[1], keepdims=0>(z) tail = Gather<axis=1>(z, last)
}}"""
    return lab.make(text)


def test_with_the_mask_nothing_changes(lab, vit):
    image = lab.numbers(2, 1, 6, 6, seed=20)
    golden = lab.run(vit, image=image)
    result = run_edit(vit, "pad-tokens", {"to": "16"})
    assert result.notes[:2] == ("10 -> 16 tokens at 'tokens'", "masked in 2 Softmax")
    assert lab.worst(golden, lab.run(vit, image=image)) < 1e-5


def test_only_what_needs_all_tokens_is_cut(vit):
    notes = run_edit(vit, "pad-tokens").notes[2:]
    assert len(notes) == 1
    assert "(ReduceMean)" in notes[0]


def test_without_the_mask_it_would_be_per_cent(lab, vit, monkeypatch):
    image = lab.numbers(2, 1, 6, 6, seed=20)
    golden = lab.run(vit, image=image)
    monkeypatch.setattr(token_padding, "_MASK", 0.0)
    run_edit(vit, "pad-tokens")
    assert lab.worst(golden, lab.run(vit, image=image)) > 1e-2


def test_tokens_that_fit_are_left_alone(lab, vit):
    assert run_edit(vit, "pad-tokens", {"to": "5"}).changed == 0


def test_an_operator_without_a_rule_sees_the_old_tokens(lab):
    model = lab.make(
        """
g (float[1,3,4] x) => (float[1,3,4] y, float[1,3,4] z)
{ a = Identity(x) t = Transpose<perm=[0,2,1]>(a) s = MatMul(a, t) p = Softmax(s) y = MatMul(p, a)
  z = CumSum(y, k) }""".replace("{ a", "<int64 k = {1}> { a")
    )
    x = lab.numbers(1, 3, 4)
    golden = lab.run(model, x=x)
    result = run_edit(model, "pad-tokens", {"at": "a", "to": "4"})
    assert [note for note in result.notes if "cut back" in note]
    assert lab.worst(golden, lab.run(model, x=x)) < 1e-6


def test_a_model_without_attention_is_refused_and_kept(lab):
    model = lab.make("""
g (float[1,3,4] x) => (float[1,6,4] y) { c = Concat<axis=1>(x, x) y = Relu(c) }""")
    before = ir.to_onnx_text(model)
    with pytest.raises(ModelError, match="No Softmax"):
        run_edit(model, "pad-tokens", {"to": "4"})
    assert ir.to_onnx_text(model) == before
    with pytest.raises(UsageError, match="no fixed number of tokens"):
        run_edit(
            lab.make("g (float[n] x) => (float[n] y) { y = Relu(x) }"),
            "pad-tokens",
            {"at": "x", "axis": "0"},
        )


def test_a_mixer_over_tokens_pads_its_weight_with_zeros(lab):
    model = lab.make(f"""
g (float[1,3,4] x) => (float[1,3,4] y) <float[3,3] w = {lab.literal(lab.numbers(3, 3))}>
{{ a = Identity(x) t = Transpose<perm=[0,2,1]>(a) s = MatMul(a, t) p = Softmax(s) o = MatMul(p, a)
  c = Cos(o) v = Exp(o) u = Transpose<perm=[0,2,1]>(v) m = MatMul(u, w)
  r = Transpose<perm=[0,2,1]>(m) y = Add(r, c) }}""")
    x = lab.numbers(1, 3, 4)
    golden = lab.run(model, x=x)
    notes = run_edit(model, "pad-tokens", {"at": "a", "to": "4"}).notes
    assert [note for note in notes if "(Cos)" in note]
    assert lab.worst(golden, lab.run(model, x=x)) < 1e-6
    assert np.all(np.isfinite(lab.run(model, x=x)[0]))
