"""Reading the tensors inside a model without changing what OpenVINO answers."""

import logging
from dataclasses import replace

import numpy as np
import onnx
import pytest

from shipway.engines import operator_model
from shipway.engines.base import EngineOptions
from shipway.engines.openvino import OpenVinoEngine, kernels
from shipway.engines.openvino import taps as module
from shipway.engines.operator_model import families, make_calls, to_array
from shipway.engines.tapping import Tappable
from shipway.errors import EngineError, ModelError, TensorError
from shipway.tensors import random_feeds

KINDS = ("residual", "transformer", "recurrent")
TOLERANCE = {"f32": 1e-5, "bf16": 3e-2, "f16": 4e-3}


def relative(golden, actual):
    golden, actual = golden.astype(np.float64), actual.astype(np.float64)
    floor = 1e-3 * np.sqrt(golden.size)  # a sigmoid of -20 is right when it is small
    return np.linalg.norm(actual - golden) / (np.linalg.norm(golden) + floor)


def same_bits(first, second):
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_the_name_says_and_the_answer_stays(
    open_model, everything, kind, precision
):
    """Against ONNX Runtime's values of the same names, and the untapped session's answer."""
    opened = open_model(kind, precision)
    feeds = random_feeds(opened.model.inputs, sizes={"n": 3})
    golden = everything(opened.model.onnx, feeds)
    values = opened.read(feeds)
    session = opened.session
    assert list(values) == [tap.name for tap in session.taps]
    assert [tap.order for tap in session.taps] == list(range(len(session.taps)))
    compared = 0
    for tap in session.taps:
        for name in tap.names:
            assert values[tap.name].shape == golden[name].shape, name
            assert relative(golden[name], values[tap.name]) < TOLERANCE[precision], name
            compared += 1
    assert compared >= 6
    assert same_bits(opened.plain.run(feeds), values)
    assert session.check.identical == (not session.check.perturbed)
    assert precision != "f32" or session.check.identical


def test_names_kinds_and_what_is_fused(open_model):
    """A tap is the end of a fused node; the values on the way are listed, the plumbing is explained."""
    opened = open_model("residual")
    taps = {tap.name: tap for tap in opened.session.taps}
    assert (taps["x"].kind, taps["x"].order) == ("input", 0)
    assert (taps["y"].kind, taps["y"].order) == ("output", len(taps) - 1)
    assert taps["on1"].op == "Convolution"
    assert taps["on1"].covers == ("a2", "s1")
    assert "a2" not in taps
    assert "a2" not in opened.session.untapped
    assert all(opened.session.untapped.values())
    assert isinstance(OpenVinoEngine(), Tappable)


def test_what_a_node_computes_without_saying_so(open_model):
    """A swish names its product alone; the sigmoid can be nowhere else, so it is no missing tensor."""
    opened = open_model(
        "(float[2,8] x) => (float[2,4] y) {\n"
        "up = MatMul(x, w0[8,8])\n gate = Sigmoid(up)\n on = Mul(up, gate)\n y = MatMul(on, w1[8,4])\n}"
    )
    taps = {tap.name: tap for tap in opened.session.taps}
    inside = {"up", "gate"} - set(taps)
    assert inside
    assert inside <= set(taps["on"].covers)
    assert not {"up", "gate", "on"} & set(opened.session.untapped)


def test_a_bfloat16_tensor_is_handed_out_as_one(open_model):
    """Not as float32, and not as the float16 that OpenVINO's own view pretends."""
    opened = open_model("transformer", "bf16")
    values = opened.read(random_feeds(opened.model.inputs))
    assert values["mixed"].dtype.name == "bfloat16"
    assert 0.1 < np.abs(values["mixed"].astype(np.float32)).mean() < 10
    assert values["y"].dtype == np.float32


def test_what_changes_the_answer_is_read_alone_and_said_so(open_model):
    """In bfloat16, an operand of an addition fused into a convolution: the others are not perturbed."""
    opened = open_model("residual", "bf16")
    feeds = random_feeds(opened.model.inputs)
    opened.read(feeds)
    check = opened.session.check
    assert set(check.perturbed) <= {"on", "on1"}
    if check.identical:
        pytest.skip("this processor fuses nothing here")
    for reason in check.perturbed.values():
        assert "changes output 'y' (relative L2" in reason
        assert "all up to it is executed as without" in reason
    opened.read(feeds, [tap.name for tap in opened.session.taps if tap.name not in check.perturbed])
    assert opened.session.check.identical


def test_the_second_stream_compiles_nothing(open_model, monkeypatch):
    """What was found out and compiled stays."""
    opened = open_model("residual", "bf16")
    feeds = random_feeds(opened.model.inputs)
    first = opened.read(feeds)

    def fail(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(module.TappedModels, "_with_outputs", fail)
    assert same_bits(first, opened.read(feeds))


def test_little_memory_means_several_runs_with_the_same_values(open_model, monkeypatch):
    """Each run holds no more than max_bytes of tensors."""
    largest = 16 * 32 * 32 * 4
    whole = open_model("residual")
    feeds = random_feeds(whole.model.inputs)
    expected = whole.read(feeds)
    narrow = open_model(whole.model, max_bytes=2 * largest)
    asked = []
    compiled = narrow.session._models.compiled

    def watch(names):
        asked.append(names)
        return compiled(names)

    monkeypatch.setattr(narrow.session._models, "compiled", watch)
    assert same_bits(expected, narrow.read(feeds))
    assert narrow.session.check.identical
    assert len(asked) > 2
    assert all(sum(expected[name].nbytes for name in names) <= 2 * largest for names in asked)


def test_more_memory_than_allowed_is_said(open_model, caplog):
    """A single tensor may be larger than the limit."""
    opened = open_model("residual", max_bytes=100)
    with caplog.at_level(logging.WARNING, logger="shipway.engines"):
        opened.read(random_feeds(opened.model.inputs))
    assert "more than 32 runs would be needed" in caplog.text


def test_only_the_names_asked_for(open_model):
    """In the order of execution; inputs and outputs alone need no second model."""
    opened = open_model("transformer")
    feeds = random_feeds(opened.model.inputs)
    whole = opened.read(feeds)
    part = opened.read(feeds, {"y", "attended", "image"})
    assert list(part) == ["image", "attended", "y"]
    assert same_bits(part, whole)
    assert list(opened.read(feeds, ["y"])) == ["y"]


def test_a_name_it_cannot_show_is_an_error_with_the_reason(open_model):
    """Where the engine knows what became of it, the hint says so."""
    opened = open_model("transformer")
    feeds = random_feeds(opened.model.inputs)
    with pytest.raises(TensorError, match="shows no tensor 'nothing'"):
        opened.read(feeds, ["nothing"])
    with pytest.raises(TensorError) as caught:
        opened.read(feeds, ["scores"])
    assert "computed inside the one that ends in 'joined'" in caught.value.hint
    name, reason = next(iter(opened.session.untapped.items()))
    with pytest.raises(TensorError) as caught:
        opened.read(feeds, [name])
    assert caught.value.hint.lower() == f"{reason}.".lower()


def test_feeds_that_do_not_fit_are_refused_before_anything_runs(open_model):
    """As the plain session refuses them; at the call, not at the first tensor."""
    opened = open_model("recurrent")
    with pytest.raises(TensorError, match="'x'"):
        opened.session.stream({"x": np.ones((2, 5, 7), np.float32)})
    with pytest.raises(TensorError):
        opened.session.stream({})


def test_another_batch_size_runs_through_the_same_session(open_model, everything):
    """Free sizes: what is held in memory is counted anew for each."""
    opened = open_model("recurrent")
    for size in (1, 4):
        feeds = random_feeds(opened.model.inputs, sizes={"n": size})
        values = opened.read(feeds)
        assert values["joined"].shape == (5, size, 8)
        assert relative(everything(opened.model.onnx, feeds)["joined"], values["joined"]) < 1e-5


def test_a_stream_that_is_left_early_has_checked_nothing(open_model):
    """The check is of the last finished stream."""
    opened = open_model("residual")
    feeds = random_feeds(opened.model.inputs)
    opened.read(feeds)
    assert opened.session.check is not None
    stream = opened.session.stream(feeds)
    next(stream)
    stream.close()
    assert opened.session.check is None


def test_arrays_belong_to_the_receiver(open_model):
    """Inputs and outputs too: writing to them changes nothing."""
    opened = open_model("residual")
    feeds = random_feeds(opened.model.inputs)
    kept = feeds["x"].copy()
    for item in opened.session.stream(feeds):
        item.value.fill(7)
    np.testing.assert_array_equal(feeds["x"], kept)
    assert opened.session.check.identical


def test_integers_booleans_scalars_and_names_with_a_comma(open_model):
    """OpenVINO joins names by commas; the values keep the dtype of the model."""
    text = """(float[n,4] "x, in") => (float[n,4] "y, out") {
    "top, k", index = TopK("x, in", <int64[1] = {2}>)
    "index, twice" = Add(index, index)
    picked = GatherElements<axis=1>("x, in", index)
    even = Equal("top, k", picked)
    total = ReduceMax<keepdims=0>("x, in")
    both = ReduceMax<keepdims=0>("index, twice")
    as_float = Cast<to=1>(both)
    half = Mul(as_float, total)
    some = Where(even, "top, k", half)
    spread = Concat<axis=1>(some, picked)
    "y, out" = Mul(spread, half)
}"""
    opened = open_model(text)
    feeds = random_feeds(opened.model.inputs, sizes={"n": 3})
    values = opened.read(feeds)
    assert opened.session.check.identical
    assert values["index, twice"].dtype == np.int64
    np.testing.assert_array_equal(values["index, twice"], np.argsort(-feeds["x, in"])[:, :2] * 2)
    assert values["total"].shape == ()
    assert values["total"] == feeds["x, in"].max()


def test_an_empty_batch(open_model):
    """No elements, no error."""
    opened = open_model("(float[n,2] x) => (float[n,2] y) {\n h = Sin(x)\n y = Softmax(h)\n}")
    values = opened.read({"x": np.zeros((0, 2), np.float32)})
    assert all(value.shape == (0, 2) for value in values.values())


def test_an_output_that_is_an_input_and_one_that_is_constant(open_model):
    """No node computes them; they are there all the same."""
    opened = open_model(
        "(float[2] x) => (float[2] same, float[2] fixed, float[2] y) {\n"
        "same = Identity(x)\n fixed = Neg(w0[2])\n y = Sin(x)\n}"
    )
    feeds = random_feeds(opened.model.inputs)
    values = opened.read(feeds)
    assert set(values) == {"x", "same", "fixed", "y"}
    np.testing.assert_array_equal(values["same"], feeds["x"])
    assert {tap.kind for tap in opened.session.taps} == {"input", "output"}


def test_a_layer_norm_of_ones_and_zeros_keeps_its_name(open_model, everything):
    """OpenVINO drops the product with 1 and the sum with 0, and the name of their result."""
    text = """(float[2,8] x) => (float[2,8] y) {
    normed = LayerNormalization(x, one, zero)
    y = Sin(normed)
}"""
    ones, zeros = ("<float[8] = {" + ",".join([value] * 8) + "}>" for value in "10")
    opened = open_model(text.replace("one", ones).replace("zero", zeros))
    model = opened.model
    feeds = random_feeds(model.inputs)
    (tap,) = [tap for tap in opened.session.taps if tap.kind == "value"]
    assert tap.names == ("normed",)
    assert relative(everything(model.onnx, feeds)["normed"], opened.read(feeds)[tap.name]) < 1e-5
    assert "normed" not in opened.session.untapped


def test_an_engine_that_answers_by_chance_is_not_blamed_on_the_taps(open_model):
    """Two untapped runs differ already: said once, without a search for the guilty tensor."""
    opened = open_model(
        "(float[64] x) => (float[64] y) {\n"
        "noise = RandomUniformLike(x)\n sum = Add(noise, x)\n y = Sin(sum)\n}"
    )
    feeds = random_feeds(opened.model.inputs)
    if same_bits(opened.plain.run(feeds), opened.plain.run(feeds)):
        pytest.skip("this OpenVINO gives the same random numbers each time")
    opened.read(feeds)
    assert not opened.session.check.identical
    assert all("from run to run" in why for why in opened.session.check.perturbed.values())


def test_a_closed_session_says_so(open_model):
    """And closing twice does nothing."""
    opened = open_model("residual")
    with opened.session as session:
        pass
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.stream(random_feeds(opened.model.inputs))


def test_an_artifact_that_changed_is_refused(tmp_path, write):
    """As load refuses it."""
    options = EngineOptions(threads=1)
    artifact = OpenVinoEngine().compile(write("residual"), options, tmp_path / "out")
    weights = artifact.path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match="changed after"):
        OpenVinoEngine().open_taps(artifact, options)


@pytest.mark.parametrize("carried", ["by the extension", "by Python"])
def test_custom_operators_keep_their_kernels(probe, tmp_path, monkeypatch, carried):
    """The models with more outputs are compiled by a Core that knows the operator."""
    if carried == "by Python":
        monkeypatch.setattr(kernels, "_build", lambda: (None, "no compiler"))
    family = families(probe.combine, "float32", make_calls(probe.combine, "float32", 0))[-1]
    model, names = operator_model.write_model(family, tmp_path, opset=20)
    present = [to_array(one) for one in family.calls[0].tensors if one is not None]
    feeds = dict(zip(names, present, strict=True))
    proto = onnx.load(model.onnx)
    first = proto.graph.output[0].name
    proto.graph.node.append(onnx.helper.make_node("Sin", [first], ["after"]))
    proto.graph.output[0].name = "after"
    onnx.save(proto, model.onnx)
    model = replace(model, outputs=(replace(model.outputs[0], name="after"), *model.outputs[1:]))
    engine, options = OpenVinoEngine(), EngineOptions(threads=1)
    artifact = engine.compile(model, options, tmp_path / "out")
    with engine.open_taps(artifact, options) as session:
        values = {item.tap.name: item.value for item in session.stream(feeds)}
        assert session.check.identical
        assert "probe::combine" in session.effective["custom_ops"]
    np.testing.assert_allclose(np.sin(values[first]), values["after"], rtol=1e-5)


@pytest.mark.assets
@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["yunet_n_640", "fsmn_vad_offline"])
def test_real_models(assets, open_model, everything, name, precision):
    """A detector, and a speech model with free sizes."""
    opened = open_model(assets / "models" / f"{name}.onnx", precision)
    feeds = random_feeds(opened.model.inputs, sizes={"logits_dynamic_axes_1": 4})
    golden = everything(opened.model.onnx, feeds)
    values = opened.read(feeds)
    named = [(tap.name, name) for tap in opened.session.taps for name in tap.names]
    assert len(named) > 30
    worst = max(relative(golden[name], values[tap]) for tap, name in named)
    assert worst < {"f32": 1e-4, "bf16": 0.1}[precision]
    assert len(opened.session.check.perturbed) <= 8
    assert precision != "f32" or opened.session.check.identical
