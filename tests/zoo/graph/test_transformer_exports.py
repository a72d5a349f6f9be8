"""Layers as transformers have them, exported by torch and simplified for opset 23."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.graph.loading import load_graph
from shipway.graph.opsets import convert_opset
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph

HEADS, GROUPS, SIZE = 4, 2, 8
WIDTH = HEADS * SIZE


def halves(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * torch.cat((cos, cos), -1) + torch.cat((-second, first), -1) * torch.cat(
        (sin, sin), -1
    )


def apart(x, cos, sin):
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def neighbours(x, cos, sin):
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)


class Layer(nn.Module):
    """Attention with groups of queries, rotated, behind an RMS norm."""

    def __init__(self, rotate):
        super().__init__()
        self.rotate = rotate
        self.embed = nn.Embedding(50, WIDTH)
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(WIDTH))
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key, self.value = (nn.Linear(WIDTH, GROUPS * SIZE, bias=False) for _ in range(2))
        self.output = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("rates", 100.0 ** -(torch.arange(0, SIZE, 2) / SIZE))

    def forward(self, ids, mask):
        batch, tokens = ids.shape
        x = self.embed(ids)
        norm = self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        angles = torch.arange(tokens, device=x.device)[None, None, :, None] * self.rates
        query, key, value = (
            one(norm).view(batch, tokens, -1, SIZE).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        query, key = (self.rotate(one, angles.cos(), angles.sin()) for one in (query, key))
        key, value = (
            one[:, :, None]
            .expand(batch, GROUPS, HEADS // GROUPS, tokens, SIZE)
            .reshape(batch, HEADS, tokens, SIZE)
            for one in (key, value)
        )
        allowed = (
            torch.ones(tokens, tokens, dtype=torch.bool).tril() & mask[:, None, None, :].bool()
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return x + self.output(attended.transpose(1, 2).reshape(batch, tokens, WIDTH))


def export(module, path, *, dynamo):
    inputs = (torch.randint(0, 50, (2, 6)), torch.ones(2, 6, dtype=torch.int64))
    axes = {0: "batch", 1: "tokens"}
    how = {"dynamic_axes": dict.fromkeys(("ids", "mask"), axes), "opset_version": 17}
    if dynamo:
        free = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
        how = {"dynamic_shapes": (free, free), "opset_version": 18, "verbose": False}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), inputs, path, dynamo=dynamo, input_names=["ids", "mask"], **how
        )


def run(path: Path, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "tracer"])
@pytest.mark.parametrize("rotate", [halves, apart, neighbours])
def test_a_layer_becomes_the_operators_it_has(tmp_path: Path, rotate, dynamo: bool) -> None:
    torch.manual_seed(0)
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    export(Layer(rotate), before, dynamo=dynamo)
    model = load_graph(before)
    convert_opset(model, 23)
    result = simplify_graph(model, SimplifyOptions(profile="modern", nonempty=True))
    save_graph(model, after)
    onnx.checker.check_model(after)
    kinds = [node.op_type for node in model.graph]
    assert (kinds.count("RMSNormalization"), kinds.count("RotaryEmbedding")) == (1, 2)
    assert kinds.count("Attention") == 1
    assert "Softmax" not in kinds
    assert result.nodes_after < 0.6 * result.nodes_before
    generator = np.random.default_rng(1)
    for batch, tokens in ((1, 1), (2, 6), (3, 11)):
        mask = generator.integers(0, 2, (batch, tokens))
        mask[0] = 0  # nothing is left to look at
        feeds = {"ids": generator.integers(0, 50, (batch, tokens)), "mask": mask}
        np.testing.assert_allclose(run(after, feeds), run(before, feeds), rtol=1e-4, atol=1e-5)
