"""What a custom operator is: one definition, from which every runtime gets its own form of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.errors import EngineError
from shipway.ops.schema import Signature, read_signature

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BUILT_IN", "FLOATS", "Alias", "CustomOp", "Kernel", "Sample"]

FLOATS = ("float32", "float16", "bfloat16", "float64")
_TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of an operator, for its verification.

    Args:
        name: What it shows, in a word or two: "one box", "outside".
        inputs: Torch tensors, None for an optional input that is absent. Those of letter T in
            float64; `shipway op verify` casts them to each dtype.
        attributes: Those that differ from the default.
        gradient: Small and smooth here: also checked with gradcheck. Coordinates must stay clear of
            the kinks of the function (pixel centres, borders, ties).
    """

    name: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    gradient: bool = False


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name under which a target's ONNX parser knows the operator.

    Args:
        domain: Its domain; "" is the default one.
        name: Its node type.
        index: Dtype of the inputs of letter I there.
        opsets: Opset versions of the default domain the parser takes; () is any.
        source: Where that is written.
    """

    domain: str
    name: str
    index: str = "int64"
    opsets: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Native code of an operator.

    Args:
        sources: C++ files that together define `shipway_ops`; compiled when first needed. () with
            no library is the library that Shipway itself was built with.
        library: A library that is built already.
        cuda: A CUDA source, compiled with nvcc where there is a GPU.
        launch: "module:function" of its launch rule; see shipway.ops.cuda_launch.
        flags: Further flags for the compiler.
    """

    sources: tuple[Path, ...] = ()
    library: Path | None = None
    cuda: Path | None = None
    launch: str = ""
    flags: tuple[str, ...] = ()

    @property
    def built_in(self) -> bool:
        """Whether it lies in Shipway's own library."""
        return not self.sources and self.library is None


BUILT_IN = Kernel()
"""The kernel lies in the library that is built when Shipway is installed."""


@dataclass(frozen=True)
class CustomOp:
    """An operator, defined once. `custom_op` makes it.

    Args:
        name: `namespace::name` in torch; the namespace is the ONNX domain too.
        schema: Torch schema without the name, inputs first, then attributes:
            "(Tensor x, Tensor? y, int k=1) -> Tensor".
        reference: PyTorch function of the same arguments. Golden, gradient and portable body come
            from it, so it must be traceable by torch.export. It is only ever called with float32
            or float64 where the letter is T: narrower floats are widened before and rounded after.
        types: One letter an input, "->", one letter an output; see shipway_op.h. T is any of
            `floats`, I int64 or int32 (int64 in `reference`), f d h l i u b one fixed dtype.
        onnx_name: ONNX node type.
        version: Opset version of the ONNX domain.
        floats: Dtypes T may take.
        shape: Shape rule: a function of the same arguments that returns empty outputs (torch.library
            calls it the fake kernel). None runs the reference on fake tensors.
        tolerances: Largest relative L2 against the float64 reference, by dtype.
        samples: Gives calls for the verification, from a seeded generator.
        kernel: Native code; None where the operator has none.
        aliases: Its names in the domains of others.
        standard: Writes the operator with ONNX's own one, where ONNX has it; None derives the
            portable body from the reference. Takes an onnxscript opset, the inputs and the
            attributes; returns the outputs.
        differentiable: False where a gradient makes no sense (indices, boxes that are kept).
        pure: It gives the same outputs for the same inputs and does nothing else, so that equal calls
            may be computed once and unread ones left out. False where it draws, counts or keeps.
        foreign: Torch knows it already, from somebody else's torch.library.
        overload: Gives the torch operator, registered first if need be; `custom_op` sets it.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    types: str
    onnx_name: str
    version: int = 1
    floats: tuple[str, ...] = FLOATS
    shape: Callable[..., Any] | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    samples: Callable[[np.random.Generator], Iterable[Sample]] | None = None
    kernel: Kernel | None = None
    aliases: tuple[Alias, ...] = ()
    standard: Callable[..., Any] | None = None
    differentiable: bool = True
    pure: bool = False
    foreign: bool = False
    overload: Callable[[CustomOp], Any] | None = None

    @property
    def namespace(self) -> str:
        """The torch namespace, which is the ONNX domain."""
        return self.name.partition("::")[0]

    @property
    def short_name(self) -> str:
        """The name without its namespace."""
        return self.name.partition("::")[2]

    @property
    def onnx_id(self) -> str:
        """Domain and node type, as ONNX tools write them: "shipway::RoiAlign"."""
        return f"{self.namespace}::{self.onnx_name}"

    @property
    def doc(self) -> str:
        """First line of the reference's docstring."""
        lines = (self.reference.__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""

    @cached_property
    def signature(self) -> Signature:
        """Inputs, attributes and outputs, read from the schema."""
        return read_signature(self.name, self.schema, self.types)

    def tolerance(self, dtype: str) -> float:
        """Return the largest relative L2 against the float64 reference that passes."""
        return self.tolerances.get(dtype, _TOLERANCES[dtype])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the torch operator; it is registered first if it is not yet."""
        if self.overload is None:
            raise EngineError(
                f"{self.name} cannot be called: it was not made by custom_op.",
                hint="Decorate its reference with @shipway.custom_op(...).",
            )
        return self.overload(self)(*args, **kwargs)
