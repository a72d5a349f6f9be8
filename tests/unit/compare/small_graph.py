"""A graph of numpy functions that is golden, engine and piece at once: small enough to see through."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.tensors import TensorSpec
from shipway.trace.golden import GoldenTensor, Operator

Function = Callable[..., np.ndarray]


@dataclass
class Step:
    name: str
    op: str
    function: Function
    inputs: tuple[str, ...]


def relu(x):
    return np.maximum(x, 0)


def steps(seed: int = 0) -> list[Step]:
    """x -> conv-like, relu, linear, residual, norm, softmax: eight operators."""
    rng = np.random.default_rng(seed)
    first, second = (rng.standard_normal((16, 16)).astype(np.float32) / 4 for _ in range(2))
    bias = rng.standard_normal(16).astype(np.float32)

    def norm(x, epsilon=1e-5):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(epsilon))

    def softmax(x):
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    return [
        Step("linear", "MatMul", lambda x: x @ first, ("x",)),
        Step("biased", "Add", lambda x: x + bias, ("linear",)),
        Step("relu", "Relu", relu, ("biased",)),
        Step("linear_1", "MatMul", lambda x: x @ second, ("relu",)),
        Step("residual", "Add", lambda a, b: a + b, ("linear_1", "relu")),
        Step("norm", "LayerNormalization", norm, ("residual",)),
        Step("scaled", "Mul", lambda x: x * np.float32(0.5), ("norm",)),
        Step("softmax", "Softmax", softmax, ("scaled",)),
    ]


def taps_of(graph: Sequence[Step]) -> tuple[Tap, ...]:
    values = [
        Tap(
            one.name,
            place + 1,
            one.op,
            "output" if place == len(graph) - 1 else "value",
            (one.name,),
            module=f"net.{one.name}",
            source=f"net.py:{10 + place}",
            code=f"y = {one.name}(x)",
        )
        for place, one in enumerate(graph)
    ]
    return (Tap("x", 0, kind="input"), *values)


@dataclass
class SmallGolden:
    graph: list[Step]
    title: str = "golden"
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", (8, 16)),)

    def __post_init__(self):
        self.taps = taps_of(self.graph)
        self.outputs = {"probabilities": self.graph[-1].name}

    def walk(self, feeds, actual, names: Collection[str] | None = None):
        pure, forced = dict(feeds), dict(feeds)
        for tap in self.taps:
            if tap.kind == "input":
                if names is None or tap.name in names:
                    yield GoldenTensor(tap, feeds[tap.name], feeds[tap.name])
                continue
            step = next(one for one in self.graph if one.name == tap.name)
            pure[tap.name] = step.function(*(pure[name] for name in step.inputs))
            same = all(pure[name] is forced[name] for name in step.inputs)
            local = pure[tap.name]
            if not same:
                local = step.function(*(forced[name] for name in step.inputs))
            given = actual(tap.name)
            if names is None or tap.name in names:
                yield GoldenTensor(tap, pure[tap.name], local)
            forced[tap.name] = local if given is None else given.astype(np.float32)

    def piece(self, name, starts):
        needed, inputs, todo = [], [], [name]
        while todo:
            one = todo.pop()
            if (one in starts and one != name) or one == "x":
                if one not in inputs:
                    inputs.append(one)
                continue
            step = next(item for item in self.graph if item.name == one)
            if step not in needed:
                needed.append(step)
                todo += step.inputs
        ordered = [step for step in self.graph if step in needed]
        return SmallPiece(name, tuple(inputs), ordered)


@dataclass
class SmallPiece:
    output: str
    inputs: tuple[str, ...]
    steps: list[Step]
    operators: tuple[Operator, ...] = field(init=False)

    def __post_init__(self):
        self.operators = tuple(Operator(one.name, one.op, one.inputs) for one in self.steps)

    def run(self, feeds: Mapping[str, Any], rounding: str = "f32"):
        round_to = {
            "f32": lambda x: x.astype(np.float32),
            "f64": lambda x: x.astype(np.float64),
            "f16": lambda x: x.astype(np.float16).astype(np.float32),
            "bf16": _to_bfloat16,
        }[rounding]
        values = {name: round_to(np.asarray(feeds[name])) for name in self.inputs}
        for step in self.steps:
            values[step.name] = round_to(step.function(*(values[name] for name in step.inputs)))
        return values[self.output]

    def variants(self):
        return iter(())

    def save(self, folder: Path) -> Path:
        path = folder / "piece.onnx"
        path.write_bytes(b"piece")
        return path


def _to_bfloat16(x):
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


@dataclass
class SmallEngine:
    """Runs the graph with faults: functions that stand in for those of golden."""

    graph: list[Step]
    faults: Mapping[str, Function] = field(default_factory=dict)
    hidden: Collection[str] = ()
    dtype: str = "float32"
    untapped: Mapping[str, str] = field(default_factory=dict)
    check: TapCheck | None = None

    def __post_init__(self):
        self.taps = tuple(tap for tap in taps_of(self.graph) if tap.name not in self.hidden)
        self.effective = {"precision": "f32"}

    def stream(self, feeds, names=None):
        values = dict(feeds)
        yield TappedTensor(self.taps[0], feeds["x"])
        assert names is None, "this engine shows everything it shows at all"
        for step in self.graph:
            function = self.faults.get(step.name, step.function)
            value = function(*(values[name] for name in step.inputs))
            values[step.name] = self._round(value)
            tap = next((one for one in self.taps if one.name == step.name), None)
            if tap is not None:
                yield TappedTensor(tap, values[step.name].astype(self._numpy()))
        self.check = TapCheck(identical=True, perturbed={})

    def _numpy(self):
        if self.dtype == "bfloat16":
            import ml_dtypes

            return ml_dtypes.bfloat16
        return np.dtype(self.dtype)

    def _round(self, value):
        return value.astype(self._numpy()).astype(np.float32)


def feeds(seed: int = 1):
    return {"x": np.random.default_rng(seed).standard_normal((8, 16)).astype(np.float32)}
