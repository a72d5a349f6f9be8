"""The bfloat16 rewriting, run eagerly: nothing here is compiled."""

import pytest
import torch
from torch import nn

from shipway.engines.aotinductor.narrowing import dynamic_axes, narrow_program, tensor_examples
from shipway.engines.exported import Signature


def narrow(module, *args, names=("x",), **options):
    """Export, rewrite, and return both programs."""
    program = torch.export.export(module.eval(), args, **options)
    signature = Signature(names, (None,) * len(names), (0,), mutates=False)
    return program, narrow_program(program, signature)


def dtypes_of(program, part):
    """Output dtypes of the operators whose name contains `part`."""
    return {
        node.meta["val"].dtype
        for node in program.graph.nodes
        if node.op == "call_function" and part in str(node.target)
    }


def relative_l2(actual, golden):
    return ((actual - golden).norm() / golden.norm()).item()


def run(program, *args):
    (result,) = program.module()(*args)
    return result


class Mixed(nn.Module):
    """Convolution, normalisation, a deliberate upcast, a float32 position table, attention."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.norm = nn.LayerNorm(16)
        self.query = nn.Linear(16, 16)
        self.pos = nn.Parameter(torch.randn(1, 64, 16))

    def forward(self, x):
        x = self.bn(self.stem(x)).relu().flatten(2).transpose(1, 2) + self.pos
        x = x * torch.arange(64, dtype=torch.float32)[:, None].sin()
        q = self.query(self.norm(x.float()))
        x = nn.functional.scaled_dot_product_attention(q, q, x)
        return torch.softmax(x.float(), -1).to(x.dtype)


def test_products_are_narrow_and_both_ends_are_wide():
    """Convolution, linear and attention in bfloat16; the answer is float32, close and not equal."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    program, narrowed = narrow(Mixed(), x)
    for part in ("conv2d", "linear", "scaled_dot_product_attention"):
        assert dtypes_of(program, part) == {torch.float32}
        assert dtypes_of(narrowed, part) == {torch.bfloat16}, part
    actual, golden = run(narrowed, x), program.module()(x)
    assert actual.dtype == torch.float32
    assert 1e-5 < relative_l2(actual, golden) < 2e-2


def test_normalisation_keeps_its_weights_in_float32():
    """Running variances and scales lose too much as bfloat16; other weights are narrow."""
    _, narrowed = narrow(Mixed(), torch.randn(2, 3, 8, 8))
    kept = {
        name.rpartition("program.")[2]: value.dtype for name, value in narrowed.state_dict.items()
    }
    wide = {name for name, dtype in kept.items() if dtype == torch.float32}
    assert wide == {
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "norm.weight",
        "norm.bias",
    }


def test_a_position_table_is_computed_in_float32():
    """sin(63) in bfloat16 arguments would be another angle."""
    _, narrowed = narrow(Mixed(), torch.randn(2, 3, 8, 8))
    assert dtypes_of(narrowed, "aten.sin.default") == {torch.float32}


def test_the_given_program_is_not_changed():
    """It still computes in float32, bit for bit."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    module = Mixed().eval()
    before = module(x)
    program, _ = narrow(module, x)
    assert torch.equal(program.module()(x), before)
    assert {value.dtype for value in program.state_dict.values()} <= {torch.float32, torch.int64}


def test_dynamic_sizes_stay_dynamic():
    """Two free axes, one of them shared, take new sizes after the rewriting."""
    n, m = torch.export.Dim("n"), torch.export.Dim("m")

    class Joins(nn.Module):
        def forward(self, x, y):
            return x @ y

    args = torch.randn(3, 5), torch.randn(5, 7)
    program, narrowed = narrow(Joins(), *args, names=("x", "y"), dynamic_shapes=({0: n}, {1: m}))
    signature = Signature(("x", "y"), (None, None), (0,), mutates=False)
    assert dynamic_axes(program, signature) == [(0,), (1,)]
    assert run(narrowed, torch.randn(9, 5), torch.randn(5, 2)).shape == (9, 2)


def test_integers_and_booleans_pass_untouched():
    """Only float32 is narrowed."""

    class Picks(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids, mask):
            return self.table(ids) * mask[:, None]

    ids, mask = torch.tensor([7, 9, 1]), torch.tensor([True, False, True])
    program, narrowed = narrow(Picks(), ids, mask, names=("ids", "mask"))
    assert relative_l2(run(narrowed, ids, mask), program.module()(ids, mask)) < 1e-2
    assert dtypes_of(narrowed, "embedding") == {torch.bfloat16}


@pytest.mark.parametrize("example", [(torch.ones(2),), (torch.ones(2), 3)])
def test_examples_are_the_tensors_among_the_arguments(example):
    """Constants are left out."""

    class First(nn.Module):
        def forward(self, x, scale=2):
            return x * scale

    assert len(tensor_examples(torch.export.export(First(), example))) == 1
