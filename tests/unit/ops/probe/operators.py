"""Operators that use everything an adapter has to carry."""

from pathlib import Path

import torch

from shipway.ops import Kernel, Sample, custom_op

KERNEL = Kernel(sources=(Path(__file__).parent / "probe.cpp",))


def _combine_samples(generator):
    def tensor(*shape):
        return torch.from_numpy(generator.standard_normal(shape))

    index = torch.tensor([3, 4])
    others = {"scale": -1.5, "pads": [7], "gains": [0.25, 1.0], "negate": True}
    yield Sample("defaults", (tensor(3, 5), tensor(3, 5), index))
    yield Sample("absent in the middle", (tensor(3, 5), None, index))
    yield Sample("every attribute", (tensor(40, 9), tensor(40, 9), index), others)
    yield Sample("scalar", (tensor(), tensor(), index))
    yield Sample("empty", (tensor(0, 4), None, torch.tensor([], dtype=torch.int64)))
    yield Sample("gradient", (tensor(2, 2), tensor(2, 2), index), gradient=True)


@custom_op(
    "probe::combine",
    schema="(Tensor x, Tensor? y, Tensor index, float scale=2.0, int[] pads=[1, 2], "
    "float[] gains=[0.5], bool negate=False) -> (Tensor, Tensor)",
    types="TTI->Tl",
    samples=_combine_samples,
    kernel=KERNEL,
)
def combine(x, y, index, scale=2.0, pads=(1, 2), gains=(0.5,), negate=False):
    """Combine everything an adapter carries."""
    total = x * scale + (0 if y is None else y) + sum(gains)
    number = int("".join(map(str, pads)) or "0")
    numbers = torch.stack((torch.full((), number, dtype=torch.int64), index.sum()))
    return (-total if negate else total), numbers


def _compress_shape(x, keep):
    rows = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty((rows, x.shape[1]))


def _compress_samples(generator):
    for name, rows, share in (
        ("some", 9, 0.5),
        ("all", 5, 1.0),
        ("none", 4, 0.0),
        ("no row", 0, 0.5),
    ):
        keep = torch.from_numpy(generator.uniform(0, 1, rows) < share)
        yield Sample(name, (torch.from_numpy(generator.standard_normal((rows, 3))).float(), keep))


@custom_op(
    "probe::compress",
    schema="(Tensor x, Tensor keep) -> Tensor",
    types="fb->f",
    shape=_compress_shape,
    samples=_compress_samples,
    kernel=KERNEL,
    differentiable=False,
)
def compress(x, keep):
    """Keep rows: how many is known only when it runs."""
    return x[keep]


def _refuse_samples(generator):
    yield Sample("any", (torch.from_numpy(generator.standard_normal(3)).float(),))


@custom_op(
    "probe::refuse",
    schema="(Tensor x) -> Tensor",
    types="f->f",
    samples=_refuse_samples,
    kernel=KERNEL,
    differentiable=False,
)
def refuse(x):
    """Fail, in the kernel alone."""
    return x.reshape(-1)[:1].clone()
