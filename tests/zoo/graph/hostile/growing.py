"""Graphs nobody would write: grown node by node at random, as far as ONNX Runtime goes along.

A proposal is a node on values that exist. It is run alone on their numbers; what fails is dropped.
Half of the proposals compute sizes, because that is where simplifiers reason and go wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hostile.casebook import Array, Feeds
from hostile.execution import run_model

LARGEST = 2048
DEEPEST = 5
SIZES = ((3, 4), (1, 4), (3, 1), (5, 2), (1, 1), (0, 4), (4, 6))
FAR = (2**63 - 1, -(2**63), 2**31 - 1)
DTYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.bool_): TensorProto.BOOL,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.float16): TensorProto.FLOAT16,
}


class NothingFits(Exception):
    """No value yet that a proposal could start from."""


@dataclass
class Proposal:
    """A node to try: operator, inputs by name or as constants, attributes, number of outputs."""

    op_type: str
    inputs: Sequence[str | Array]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1


class Grower:
    """A graph under way: its nodes, constants, and every value's numbers at the first size."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Array] = {
            name: self.numbers(shape) for name, shape in inputs_at(*SIZES[0]).items()
        }

    def numbers(self, shape: Sequence[int]) -> Array:
        return self.rng.standard_normal(tuple(shape)).astype(np.float32)

    def grow(self, proposers: Sequence[Callable[["Grower"], Proposal]], steps: int) -> None:
        for _ in range(steps):
            with suppress(NothingFits):
                self.attempt(proposers[self.rng.integers(len(proposers))](self))

    def attempt(self, proposal: Proposal) -> None:
        names = [self.as_name(item) for item in proposal.inputs]
        results = [f"v{len(self.nodes)}_{index}" for index in range(proposal.outputs)]
        node = helper.make_node(proposal.op_type, names, results, **proposal.attributes)
        known = {name: self.values.get(name, self.constants.get(name)) for name in names}
        if proposal.op_type.startswith("Reduce") and not known[names[0]].size:
            return
        try:
            made = run_model(alone(node, known, results), [known])[0]
        except Exception:  # noqa: BLE001 -- a proposal that does not run is no node
            return
        if all(value.size <= LARGEST and value.ndim <= DEEPEST for value in made.values()):
            self.nodes.append(node)
            self.values |= made

    def as_name(self, item: str | Array) -> str:
        if isinstance(item, str):
            return item
        for name, value in self.constants.items():
            if value is item:
                return name
        name = f"k{len(self.constants)}"
        self.constants[name] = item
        return name

    def pick(self, fits: Callable[[Array], bool]) -> str:
        """A value that fits, the younger the likelier."""
        names = [name for name, value in self.values.items() if fits(value)]
        if not names:
            raise NothingFits
        return names[-1 - min(int(self.rng.exponential(3)), len(names) - 1)]

    def tensor(self) -> str:
        return self.pick(lambda value: value.dtype == np.float32)

    def sizes(self) -> str:
        return self.pick(lambda value: value.dtype == np.int64 and value.ndim == 1)

    def choice(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def ints(self, low: int, high: int, count: int) -> list[int]:
        return [int(value) for value in self.rng.integers(low, high, count)]

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output]
        ends = [name for name in made if name not in read or self.rng.random() < 0.05]
        used = {name: value for name, value in self.constants.items() if name in read}
        graph = helper.make_graph(
            self.nodes,
            "grown",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
                for name, dims in inputs_at("N", "M").items()
            ],
            [declared(name, self.values[name]) for name in ends],
            [numpy_helper.from_array(value, name) for name, value in used.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


Proposer = Callable[[Grower], Proposal]


def inputs_at(first: Any, second: Any) -> dict[str, list[Any]]:
    return {"x": [first, second], "z": [1, second], "u": [first, 1, 3]}


def declared(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, DTYPES[value.dtype], [None] * value.ndim)


def alone(node: onnx.NodeProto, known: Mapping[str, Any], results: list[str]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, DTYPES[value.dtype], value.shape)
        for name, value in known.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph([node], "alone", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def grown(
    seed: int, proposers: Sequence[Proposer], steps: int
) -> tuple[onnx.ModelProto, list[Feeds]]:
    """A model and the feeds, of several sizes, that it runs on."""
    grower = Grower(seed)
    grower.grow(proposers, steps)
    model = grower.model()
    feeds = [
        {name: grower.numbers(shape) for name, shape in inputs_at(*size).items()} for size in SIZES
    ]
    return model, [feed for feed in feeds if runs(model, feed)]


def runs(model: onnx.ModelProto, feed: Feeds) -> bool:
    """Whether the model is legal at this size: ONNX's reference runs it, and both engines agree.

    ONNX Runtime lets some illegal joins pass, aborts on others, and reduces empty tensors wrongly.
    """
    reference = ReferenceEvaluator(model)
    try:
        with np.errstate(all="ignore"):
            golden = reference.run(None, dict(feed))
        found = run_model(model, [feed])[0]
    except Exception:  # noqa: BLE001 -- at this size the grown graph is not legal
        return False
    return all(
        value.shape == other.shape and np.allclose(value, other, 1e-3, 1e-3, equal_nan=True)
        for value, other in zip(map(np.asarray, golden), found.values(), strict=True)
    )
