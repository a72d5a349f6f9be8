"""Pieces of a program: cut, run, rounded, saved."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.errors import TensorError, UsageError
from shipway.export.portable import PortableModel
from shipway.ops.defining import custom_op
from shipway.source.programs import program_inputs
from shipway.tensors import TensorSpec, random_feeds
from shipway.trace.program_golden import open_program_golden


class Net(nn.Module):
    """Convolution, batch norm in place, attention, an LSTM; written to through views."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.norm = nn.LayerNorm(4)
        self.attn = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, image):
        x = self.act(self.bn(self.conv(image)))
        x[:, 0] = x[:, 0].sigmoid() * 2
        x[..., 1:3].add_(0.5)
        x = self.norm(x.flatten(2).transpose(1, 2))
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return self.lstm(functional.gelu(x))[0] + torch.rand(3)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The golden of Net with a dynamic batch, feeds, and every tensor of a walk."""
    return open_net(tmp_path_factory.mktemp("net"))


def open_net(folder, *, double=False):
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an LSTM's flat weights
        program = torch.export.export(
            Net().eval(), (torch.randn(2, 3, 6, 6),), dynamic_shapes=({0: batch},)
        )
    torch.export.save(program, folder / "net.pt2")
    inputs = program_inputs(program, folder / "net.pt2")
    model = PortableModel(inputs, (TensorSpec("out", "float32", None),), program=folder / "net.pt2")
    golden = open_program_golden(model, threads=1, double=double)
    feeds = random_feeds(inputs, sizes=dict.fromkeys(inputs[0].dynamic_dims, 3))
    return golden, feeds, tensors_of(golden, feeds)


def tensors_of(golden, feeds):
    return {step.tap.name: step.value for step in golden.walk(feeds, lambda _name: None)}


def find(golden, op):
    return next(tap.name for tap in golden.taps if tap.op == op)


def test_every_operator_alone_gives_the_tensor_of_the_walk(setting):
    """From golden's own tensors, bit for bit: dynamic sizes, random draws and writes in place too."""
    golden, _, seen = setting
    names = [tap.name for tap in golden.taps if tap.kind != "input"]
    for name in names:
        piece = golden.piece(name, names)
        assert piece.output == name
        assert piece.operators[-1].name == name
        assert set(piece.inputs) <= set(seen)
        given = {one: seen[one].copy() for one in piece.inputs}
        np.testing.assert_array_equal(piece.run(given), seen[name], err_msg=name)
        for one, value in given.items():
            np.testing.assert_array_equal(value, seen[one])  # the caller's arrays are left alone


def test_a_piece_begins_where_a_start_is_met(setting):
    """It holds what lies between, in order, with the weights each operator reads."""
    golden, _, seen = setting
    conv, norm = find(golden, "aten.conv2d.default"), find(golden, "aten.batch_norm.default")
    piece = golden.piece(norm, [])
    assert piece.inputs == ("image",)
    assert [operator.name for operator in piece.operators] == [conv, norm]
    assert piece.operators[0].inputs == ("image", "p_conv_weight", "p_conv_bias")
    assert piece.operators[0].module == "conv"
    assert piece.operators[0].code == "x = self.act(self.bn(self.conv(image)))"
    assert golden.piece(norm, [conv]).inputs == (conv,)
    assert golden.piece(norm, [norm, conv]).inputs == (conv,)
    np.testing.assert_array_equal(piece.run({"image": seen["image"]}), seen[norm])


def test_the_whole_model_is_a_piece_too(setting):
    """From its input to its output."""
    golden, feeds, seen = setting
    end = golden.outputs["out"]
    np.testing.assert_array_equal(golden.piece(end, ()).run(feeds), seen[end])


def test_a_write_in_place_between_start_and_end_is_part_of_the_piece(setting):
    """`flatten` reads memory that was written to after `relu_`, under other names."""
    golden, _, seen = setting
    relu, flatten = find(golden, "aten.relu_.default"), find(golden, "aten.flatten.using_ints")
    piece = golden.piece(flatten, [relu])
    assert piece.inputs == (relu,)
    assert {"aten.copy_.default", "aten.add_.Tensor"} <= {item.op for item in piece.operators}
    np.testing.assert_array_equal(piece.run({relu: seen[relu]}), seen[flatten])
    # What an engine gives for the written part takes its place in the memory.
    add = find(golden, "aten.add_.Tensor")
    piece = golden.piece(flatten, [relu, add])
    assert set(piece.inputs) == {relu, add}
    other = piece.run({relu: seen[relu], add: np.full_like(seen[add], 7)})
    assert (other.reshape(seen[relu].shape)[..., 1:3] == 7).all()


def test_rounding_makes_the_error_of_that_precision(setting):
    """bf16 more than f16, f64 the least; integers and shapes stay."""
    golden, _, seen = setting
    gelu, norm = find(golden, "aten.gelu.default"), find(golden, "aten.layer_norm.default")
    piece = golden.piece(gelu, [norm])
    feeds = {norm: seen[norm]}
    exact = piece.run(feeds, "f64")
    assert exact.dtype == np.float64
    errors = {
        rounding: np.linalg.norm(piece.run(feeds, rounding) - exact) / np.linalg.norm(exact)
        for rounding in ("f32", "f16", "bf16")
    }
    assert errors["f32"] < 1e-6 < errors["f16"] < 2e-3 < errors["bf16"] < 2e-2
    np.testing.assert_array_equal(piece.run(feeds), seen[gelu])
    with pytest.raises(UsageError, match="No rounding 'int8'"):
        piece.run(feeds, "int8")


def test_a_golden_in_double_has_pieces_in_double(tmp_path):
    """ "f32" is what the golden computes in, whatever that is."""
    golden, _, seen = open_net(tmp_path, double=True)
    name = find(golden, "aten.gelu.default")
    piece = golden.piece(name, ["layer_norm"])
    value = piece.run({"layer_norm": seen["layer_norm"].astype(np.float32)})
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, seen[name], rtol=1e-3, atol=1e-5)


def test_what_does_not_fit_is_refused(setting):
    """Unknown tensors, inputs, missing feeds, feeds of another size."""
    golden, _, seen = setting
    with pytest.raises(UsageError, match="computes 'gelo'"):
        golden.piece("gelo", ())
    with pytest.raises(UsageError, match="computes 'image'"):
        golden.piece("image", ())
    piece = golden.piece("gelu", ["layer_norm"])
    with pytest.raises(TensorError, match="'layer_norm', which is not given"):
        piece.run({})
    with pytest.raises(TensorError, match=r"'layer_norm' is \[2\]; golden's is \[3, 36, 4\]"):
        piece.run({"layer_norm": np.ones(2, np.float32)})
    assert piece.run({"layer_norm": seen["layer_norm"].ravel()}).shape == seen["gelu"].shape


def test_a_piece_keeps_the_sizes_of_its_walk(setting, tmp_path):
    """A later walk on another batch does not reach into it."""
    golden, feeds, seen = open_net(tmp_path)
    piece = golden.piece("gelu", ["layer_norm"])
    tensors_of(golden, {"image": feeds["image"][:1]})
    given = {"layer_norm": seen["layer_norm"]}
    np.testing.assert_array_equal(piece.run(given), seen["gelu"])


@pytest.mark.parametrize("op", ["aten.gelu.default", "aten.flatten.using_ints"])
def test_a_saved_piece_is_a_program_of_its_own(setting, tmp_path, op):
    """torch.export.load reads it, and it gives the same tensor."""
    golden, _, seen = setting
    name = find(golden, op)
    piece = golden.piece(name, ["layer_norm", "relu_"])
    path = piece.save(tmp_path / "new" / "folder")
    assert path.name == "piece.pt2"
    module = torch.export.load(path).module()
    with torch.no_grad():
        result = module(*(torch.from_numpy(seen[one].copy()) for one in piece.inputs))
    np.testing.assert_allclose(result.numpy(), seen[name], rtol=1e-6, atol=1e-6)


def test_a_piece_that_torch_refuses_is_saved_as_text_and_weights(setting, tmp_path, monkeypatch):
    """The nodes to read, the weights to load."""
    golden, _, _ = setting

    def refuse(*_args, **_options):
        raise RuntimeError("no")

    monkeypatch.setattr(torch.export, "export", refuse)
    path = golden.piece("batch_norm", []).save(tmp_path)
    assert path.name == "piece.txt"
    text = path.read_text()
    assert "inputs: image" in text
    assert "torch.ops.aten.conv2d.default" in text
    with np.load(tmp_path / "piece.npz") as weights:
        assert weights["p_conv_weight"].shape == (4, 3, 3, 3)


def test_a_custom_operator_in_a_piece_is_its_reference(tmp_path):
    """It runs, has no variants of its own, and is saved as what the reference is made of."""

    @custom_op("piece_test::cube", schema="(Tensor x) -> Tensor", types="T->T")
    def cube(x):
        return x * x * x

    class Calls(nn.Module):
        def forward(self, x):
            return cube(x + 1)

    program = torch.export.export(Calls(), (torch.randn(2, 3),))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    spec = (TensorSpec("x", "float32", (2, 3)), TensorSpec("out", "float32", (2, 3)))
    golden = open_program_golden(PortableModel(spec[:1], spec[1:], program=path))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen = tensors_of(golden, {"x": x})
    piece = golden.piece(golden.outputs["out"], ["add"])
    assert [operator.op for operator in piece.operators] == ["piece_test.cube.default"]
    np.testing.assert_array_equal(piece.run({"add": seen["add"]}), (x + 1) ** 3)
    assert list(piece.variants()) == []
    saved = torch.export.load(piece.save(tmp_path / "piece"))
    assert {node.op for node in saved.graph.nodes} == {"placeholder", "call_function", "output"}
    assert "piece_test" not in str(saved.graph)
