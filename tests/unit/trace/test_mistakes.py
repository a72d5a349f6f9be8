"""The usual mistakes with one operator: each runs, keeps the shape, and is what it says."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.compare.causes import CAUSES
from shipway.export.portable import PortableModel
from shipway.source.programs import program_inputs
from shipway.tensors import TensorSpec, random_feeds
from shipway.trace.mistakes.table import _TABLES
from shipway.trace.program_golden import open_program_golden

WEIGHT = torch.linspace(0.5, 1.5, 4)
SQUARE = torch.linspace(-1, 1, 16).reshape(4, 4)
KERNEL = torch.linspace(-1, 1, 4 * 4 * 9).reshape(4, 4, 3, 3)
GRID = torch.linspace(-1.2, 1.2, 2 * 3 * 3 * 2).reshape(2, 3, 3, 2)
TABLE = torch.linspace(-1, 1, 20).reshape(5, 4)
IMAGE = (2, 4, 6, 6)
RNN = (2, 5, 4)


def lstm_of(kind):
    torch.manual_seed(0)
    layer = kind(4, 3, batch_first=True, bidirectional=True)
    return lambda x: layer(x)[0]


# Name of the case: shape of each input, the function, and what must be among its mistakes.
CASES = {
    "layer norm": ([(2, 3, 4)], lambda x: functional.layer_norm(x, (4,), WEIGHT, WEIGHT - 1), {
        ("approximation", "layer_norm with eps 0.0001 instead of 1e-05"),
        ("gain", "layer_norm without its weight"),
        ("offset", "layer_norm without its bias"),
    }),
    "rms norm": ([(2, 3, 4)], lambda x: functional.rms_norm(x, (4,), WEIGHT, 1e-5), {
        ("approximation", "rms_norm with eps 1e-06 instead of 1e-05"),
    }),
    "batch norm": (
        [IMAGE],
        lambda x: functional.batch_norm(x, WEIGHT - 1, WEIGHT, WEIGHT, WEIGHT),
        {
            ("approximation", "batch_norm with eps 0.001 instead of 1e-05"),
            ("input", "batch norm with the statistics of this batch"),
        },
    ),
    "group norm": ([IMAGE], lambda x: functional.group_norm(x, 2, WEIGHT, WEIGHT), {
        ("input", "group_norm with num_groups 4 instead of 2"),
    }),
    "instance norm": ([IMAGE], functional.instance_norm, {
        ("approximation", "instance_norm with eps 0.0001 instead of 1e-05"),
    }),
    "epsilon by hand": ([(2, 4)], lambda x: x / (x.square().mean(-1, True) + 1e-6).sqrt(), {
        ("approximation", "add with other 1e-05 instead of 1e-06"),
    }),
    "relu": ([(2, 4)], torch.relu, {
        ("activation", "leaky relu 0.01 instead of relu"),
        ("activation", "identity instead of relu"),
        ("saturation", "relu6 instead of relu"),
    }),
    "relu in place": ([(2, 4)], lambda x: (x * 1).relu_(), {
        ("activation", "leaky relu 0.01 instead of relu"),
    }),
    "gelu": ([(2, 4)], functional.gelu, {
        ("approximation", "gelu in its tanh form"),
        ("approximation", "quick gelu instead of gelu"),
    }),
    "silu": ([(2, 4)], functional.silu, {("approximation", "hardswish instead of silu")}),
    "hardswish": ([(2, 4)], functional.hardswish, {
        ("approximation", "silu instead of hardswish"),
    }),
    "sigmoid": ([(2, 4)], torch.sigmoid, {
        ("approximation", "hardsigmoid instead of sigmoid"),
    }),
    "hardsigmoid": ([(2, 4)], functional.hardsigmoid, {
        ("approximation", "hardsigmoid of slope 0.2 instead of hardsigmoid"),
    }),
    "tanh": ([(2, 4)], torch.tanh, {("saturation", "hardtanh instead of tanh")}),
    "mish": ([(2, 4)], functional.mish, {("activation", "silu instead of mish")}),
    "softplus": ([(2, 4)], functional.softplus, {("activation", "relu instead of softplus")}),
    "exp": ([(2, 4)], torch.exp, {("activation", "identity instead of exp")}),
    "abs": ([(2, 4)], torch.abs, {("activation", "identity instead of abs")}),
    "leaky relu": ([(2, 4)], lambda x: functional.leaky_relu(x, 0.2), {
        ("activation", "leaky_relu with negative_slope 0.01 instead of 0.2"),
    }),
    "elu": ([(2, 4)], functional.elu, {("activation", "relu instead of elu")}),
    "prelu": ([IMAGE], lambda x: functional.prelu(x, WEIGHT / 4), {
        ("activation", "relu instead of prelu"),
    }),
    "relu6": ([(2, 4)], functional.relu6, None),
    "clamp": ([(2, 4)], lambda x: x.clamp(-0.5, 0.7), {
        ("saturation", "clamp without its bounds -0.5..0.7"),
        ("saturation", "clamp without its max 0.7"),
        ("saturation", "clamp to 0..6 instead of -0.5..0.7"),
    }),
    "clamp from below": ([(2, 4)], lambda x: x.clamp(min=0.1), {
        ("saturation", "clamp without its bounds 0.1..None"),
    }),
    "hardtanh": ([(2, 4)], lambda x: functional.hardtanh(x, -0.5, 0.5), {
        ("saturation", "hardtanh to -1..1 instead of -0.5..0.5"),
    }),
    "softmax": ([(2, 3, 4)], lambda x: x.softmax(-1), {
        ("layout", "softmax along axis 1 instead of 2"),
        ("layout", "softmax along axis 0 instead of 2"),
    }),
    "cumsum": ([(2, 3)], lambda x: x.cumsum(1), {("layout", "cumsum along axis 0 instead of 1")}),
    "mean": ([(3, 3, 2)], lambda x: x.mean(0), {
        ("layout", "mean over axes [1] instead of [0]"),
        ("gain", "sum instead of mean"),
    }),
    "mean of two axes, kept": ([(2, 3, 3)], lambda x: x.mean((0, 1), keepdim=True), None),
    "argmax": ([(3, 3)], lambda x: x.argmax(0), {
        ("layout", "argmax over axes [1] instead of [0]"),
    }),
    "sum": ([(3, 3)], lambda x: x.sum(1), {("layout", "sum over axes [0] instead of [1]")}),
    "permute": ([(3, 3, 3)], lambda x: x.permute(2, 0, 1), {
        ("layout", "permute to [1, 2, 0] instead of [2, 0, 1]"),
        ("layout", "reshaped where it should be transposed"),
    }),
    "transpose": ([(3, 3, 4)], lambda x: x.transpose(1, 2), {
        ("layout", "axes in the order [1, 2, 0] instead of [0, 2, 1]"),
        ("layout", "reshaped where it should be transposed"),
    }),
    "t": ([(3, 3)], lambda x: x.t(), {("layout", "axes in the order [0, 1] instead of [1, 0]")}),
    "reshape": ([(2, 3, 4)], lambda x: x.reshape(6, 4), {
        ("layout", "reshape after axes 0 and 1 were swapped"),
    }),
    "flatten": ([(2, 3, 4)], lambda x: x.flatten(1), {
        ("layout", "flatten after axes 1 and 2 were swapped"),
    }),
    "cat": ([(2, 3), (2, 3)], lambda x, y: torch.cat([x, y], 1), {
        ("layout", "cat in the order [1, 0]"),
    }),
    "stack": ([(2, 3), (2, 3)], lambda x, y: torch.stack([x, y]), {
        ("layout", "stack in the order [1, 0]"),
    }),
    "flip": ([(2, 3)], lambda x: x.flip(1), {("layout", "flip left out")}),
    "roll": ([(2, 3)], lambda x: x.roll(1, 1), {("layout", "roll the other way")}),
    "pixel shuffle": ([(1, 8, 2, 3)], lambda x: functional.pixel_shuffle(x, 2), {
        ("layout", "pixel shuffle in DCR order instead of CRD"),
    }),
    "chunk": ([(2, 6)], lambda x: x.chunk(3, 1)[1], {
        ("input", "part 0 instead of 1"),
        ("input", "part 2 instead of 1"),
    }),
    "select": ([(3, 4)], lambda x: x[1], {("input", "select with index 2 instead of 1")}),
    "sub": ([(2, 3), (2, 3)], lambda x, y: x - y, {
        ("input", "sub with self and other swapped"),
        ("input", "sum instead of difference"),
    }),
    "sub of a number": ([(2, 3)], lambda x: x - 1.5, {("input", "sum instead of difference")}),
    "div": ([(2, 3), (2, 3)], lambda x, y: x / y, {("input", "div with self and other swapped")}),
    "add": ([(2, 3), (2, 3)], lambda x, y: x + y, {
        ("input", "only the first of two summands"),
        ("input", "only the second of two summands"),
        ("input", "difference instead of sum"),
    }),
    "add, broadcast": ([(2, 3), (3,)], lambda x, y: y + x, {
        ("input", "difference instead of sum"),
        ("input", "only the second of two summands"),
    }),
    "mul": ([(2, 3), (2, 3)], lambda x, y: x * y, {("input", "only the second of two factors")}),
    "pow": ([(2, 3), (2, 3)], lambda x, y: x.abs() ** y, {
        ("input", "pow with self and exponent swapped"),
    }),
    "where": ([(2, 3), (2, 3)], lambda x, y: torch.where(x > 0, x, y), {
        ("input", "where with self and other swapped"),
        ("input", "not gt"),
    }),
    "matmul": ([(3, 3), (3, 3)], torch.matmul, {("input", "matmul with self and other swapped")}),
    "matmul, not square": ([(3, 4), (4, 3)], torch.matmul, None),
    "bmm": ([(2, 3, 3), (2, 3, 3)], torch.bmm, {("input", "bmm with self and mat2 swapped")}),
    "linear": ([(2, 4)], lambda x: functional.linear(x, SQUARE, WEIGHT), {
        ("offset", "linear without its bias"),
        ("layout", "linear with its weight transposed"),
    }),
    "conv": ([IMAGE], lambda x: functional.conv2d(x, KERNEL, WEIGHT, padding=1), {
        ("offset", "conv2d without its bias"),
        ("layout", "conv2d with its kernel mirrored"),
        ("layout", "conv2d with height and width of its kernel swapped"),
        ("layout", "conv2d with its padding at the end only"),
        ("layout", "conv2d with input and output channels of its weight swapped"),
    }),
    "transposed conv": ([IMAGE], lambda x: functional.conv_transpose2d(x, KERNEL, WEIGHT), {
        ("offset", "conv_transpose2d without its bias"),
    }),
    "addmm": ([(2, 4)], lambda x: torch.addmm(WEIGHT, x, SQUARE), {
        ("offset", "addmm without its bias"),
    }),
    "attention": (
        [(2, 2, 3, 4)] * 3,
        functional.scaled_dot_product_attention,
        {
            ("input", "attention scaled by 1 instead of 0.5"),
            ("input", "attention scaled by 0.25 instead of 0.5"),
            ("layout", "attention with its softmax along axis 2 instead of 3"),
            ("input", "attention with a causal mask"),
            ("input", "scaled_dot_product_attention with query and key swapped"),
        },
    ),
    "embedding": ([(2, 3)], lambda x: functional.embedding((x > 0).long(), TABLE), {
        ("input", "embedding of the next index"),
    }),
    "average pooling": ([IMAGE], lambda x: functional.avg_pool2d(x, 3, 2, 1), {
        ("input", "avg_pool2d with count_include_pad False instead of True"),
        ("input", "largest instead of average"),
    }),
    "largest pooling": ([IMAGE], lambda x: functional.max_pool2d(x, 2), {
        ("input", "average instead of largest"),
    }),
    "adaptive pooling": ([IMAGE], lambda x: functional.adaptive_avg_pool2d(x, 2), {
        ("input", "adaptive largest pooling in its place"),
    }),
    "bilinear": ([IMAGE], lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), {
        ("approximation", "upsample_bilinear2d with align_corners True instead of False"),
        ("approximation", "nearest instead of bilinear interpolation"),
    }),
    "nearest": ([IMAGE], lambda x: functional.interpolate(x, (9, 5)), {
        ("approximation", "nearest-exact instead of nearest interpolation"),
        ("approximation", "bilinear instead of nearest interpolation"),
    }),
    "grid sample": ([IMAGE], lambda x: functional.grid_sample(x, GRID, align_corners=False), {
        ("approximation", "grid_sampler with align_corners True instead of False"),
        ("approximation", "grid sample with nearest instead of bilinear"),
        ("approximation", "grid sample with border instead of zeros"),
    }),
    "pad": ([IMAGE], lambda x: functional.pad(x, (1, 0, 2, 1)), {
        ("layout", "pad on the other side"),
        ("input", "padding with reflect instead of constant"),
    }),
    "round": ([(2, 4)], lambda x: (3 * x).round(), {("approximation", "floor instead of round")}),
    "lstm": ([RNN], lstm_of(nn.LSTM), {
        ("layout", "lstm with its gates in the order [0, 3, 1, 2]"),
        ("offset", "lstm without its biases"),
        ("layout", "lstm with its directions swapped"),
    }),
    "gru": ([RNN], lstm_of(nn.GRU), {("layout", "gru with its gates in the order [1, 0, 2]")}),
}  # fmt: skip


def golden_of(folder, shapes, function):
    class Net(nn.Module):
        def forward(self, *tensors):
            return function(*tensors)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants of the test that are no buffers
        program = torch.export.export(Net(), tuple(torch.randn(shape) for shape in shapes))
    torch.export.save(program, folder / "net.pt2")
    dtype = "int64" if "argmax" in str(program.graph) else "float32"
    inputs = program_inputs(program, folder / "net.pt2")
    model = PortableModel(inputs, (TensorSpec("out", dtype, None),), program=folder / "net.pt2")
    return open_program_golden(model, threads=1), random_feeds(inputs, seed=1)


@pytest.mark.parametrize("name", CASES)
def test_every_mistake_runs_and_is_what_it_says(tmp_path, name):
    """It keeps shape and dtype, its title is its own, and nearly all of them change the result."""
    shapes, function, wanted = CASES[name]
    golden, feeds = golden_of(tmp_path, shapes, function)
    seen = {step.tap.name: step.value for step in golden.walk(feeds, lambda _name: None)}
    end = golden.outputs["out"]
    piece = golden.piece(end, ())
    inputs = {one: seen[one] for one in piece.inputs}
    right = piece.run(inputs)
    np.testing.assert_array_equal(right, seen[end])
    found, same = {}, 0
    for variant in piece.variants():
        result = variant.run(inputs)
        assert (result.shape, result.dtype) == (right.shape, right.dtype), variant.title
        assert variant.cause in CAUSES
        assert variant.operator in {operator.name for operator in piece.operators}
        assert (variant.operator, variant.title) not in found
        found[variant.operator, variant.title] = variant.cause
        same += result.tobytes() == right.tobytes()
    titles = {(cause, title) for (_, title), cause in found.items()}
    assert (wanted or set()) <= titles
    if name == "matmul, not square":
        assert not found
    assert same <= max(3, len(found) // 3), f"{same} of {len(found)} do nothing"
    np.testing.assert_array_equal(piece.run(inputs), right)  # no mistake has stayed behind


def test_the_numbers_of_a_mistake_are_those_of_the_other_operator(tmp_path):
    """Three of them, computed by hand."""
    golden, feeds = golden_of(
        tmp_path, [(2, 3, 4)], lambda x: functional.gelu(functional.layer_norm(x, (4,))).softmax(-1)
    )
    list(golden.walk(feeds, lambda _name: None))
    piece = golden.piece(golden.outputs["out"], ())
    (name,) = piece.inputs
    x = next(iter(feeds.values()))
    results = {variant.title: variant.run({name: x}) for variant in piece.variants()}
    tensor = torch.from_numpy(x)
    norm = functional.layer_norm(tensor, (4,))
    by_hand = {
        "layer_norm with eps 0.1 instead of 1e-05": functional.gelu(
            functional.layer_norm(tensor, (4,), eps=0.1)
        ).softmax(-1),
        "gelu in its tanh form": functional.gelu(norm, approximate="tanh").softmax(-1),
        "softmax along axis 1 instead of 2": functional.gelu(norm).softmax(1),
    }
    for title, expected in by_hand.items():
        np.testing.assert_allclose(results[title], expected.numpy(), rtol=1e-6)


def test_every_entry_of_the_tables_names_an_operator():
    """A name that torch does not have would never be met."""
    for table in _TABLES:
        for name in table:
            assert hasattr(torch.ops.aten, name), name
