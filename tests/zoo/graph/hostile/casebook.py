"""How a hostile case is written down: a text model, its constants, what to feed it, what to judge."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

Kind = Literal["equal", "random", "custom", "size"]
Array = NDArray[Any]
Feeds = Mapping[str, Any]
Constant = Array | np.generic | onnx.TensorProto
Written = tuple[onnx.ModelProto, Sequence[Feeds]]

HOSTILE = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-41)


class Draw:
    """Numbers that depend on the case's name alone."""

    def __init__(self, name: str):
        self._generator = np.random.default_rng(zlib.crc32(name.encode()))

    def __call__(self, *shape: int) -> Array:
        return self._generator.standard_normal(shape).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        return np.abs(self(*shape)) + np.float32(0.5)

    def integers(self, low: int, high: int, *shape: int) -> Array:
        return self._generator.integers(low, high, shape)

    def wild(self, *shape: int) -> Array:
        """Normal numbers with zeros of both signs, NaN, infinities, huge and denormal among them."""
        values = self(*shape)
        spots = self._generator.permutation(values.size)[: len(HOSTILE)]
        values.reshape(-1)[spots] = np.float32(HOSTILE[: len(spots)])
        return values


@dataclass(frozen=True)
class Case:
    """One hostile case: `trap` says what goes wrong in careless tools."""

    name: str
    trap: str
    kind: Kind
    keeps: tuple[str, ...]
    write: Callable[[Draw], Written]

    @cached_property
    def written(self) -> Written:
        return self.write(Draw(self.name))

    @property
    def model(self) -> onnx.ModelProto:
        """A copy nobody else holds."""
        model = onnx.ModelProto()
        model.CopyFrom(self.written[0])
        return model

    @property
    def feeds(self) -> Sequence[Feeds]:
        return self.written[1]


CASES: dict[str, Case] = {}


def case(
    kind: Kind = "equal", keeps: tuple[str, ...] = ()
) -> Callable[[Callable[[Draw], Written]], Callable[[Draw], Written]]:
    """Register a case; operator types in `keeps` have to be there afterwards."""

    def register(write: Callable[[Draw], Written]) -> Callable[[Draw], Written]:
        name, trap = write.__name__, (write.__doc__ or "").strip()
        assert trap, f"{name} says nothing about its trap"
        assert name not in CASES, f"{name} is written twice"
        CASES[name] = Case(name, trap, kind, keeps, write)
        return write

    return register


def graph(
    text: str, *, opset: int = 18, ir: int = 9, functions: str = "", **constants: Constant
) -> onnx.ModelProto:
    """Parse `(inputs) => (outputs) {nodes}` and give it the constants as initializers.

    Domains `my.ops` (custom operators) and `local` (functions of the model) may be used freely.
    """
    domains = {"": opset, "my.ops": 1, "local": 1}
    imports = ", ".join(
        f'"{domain}" : {version}'
        for domain, version in domains.items()
        if not domain or f"{domain}." in text or f'"{domain}"' in functions
    )
    head = f"<ir_version: {ir}, opset_import: [{imports}]> hostile "
    model = parser.parse_model(head + text + functions)
    for name, value in constants.items():
        model.graph.initializer.append(as_tensor(name, value))
    return model


def as_tensor(name: str, value: Constant) -> onnx.TensorProto:
    if isinstance(value, onnx.TensorProto):
        named = onnx.TensorProto()
        named.CopyFrom(value)
        named.name = name
        return named
    return numpy_helper.from_array(np.asarray(value), name)


def ints(*values: int) -> Array:
    """A one-dimensional int64 constant: axes, a shape, starts."""
    return np.array(values, np.int64)


def scalar(value: float | bool, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)
