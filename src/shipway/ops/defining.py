"""Define an operator: the decorator that ties definition, registry and torch together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.errors import UsageError
from shipway.ops.definition import FLOATS, Alias, CustomOp, Kernel, Sample
from shipway.ops.registry import add_operator
from shipway.ops.torch_op import overload_of

if TYPE_CHECKING:
    import numpy as np

__all__ = ["custom_op"]

_NAME = re.compile(r"([A-Za-z_]\w*)::([A-Za-z_]\w*)")


def custom_op(  # noqa: PLR0913 -- one argument a field of the definition, all but two with a default
    name: str,
    *,
    schema: str,
    types: str,
    onnx_name: str = "",
    version: int = 1,
    floats: Sequence[str] = FLOATS,
    shape: Callable[..., Any] | None = None,
    tolerances: Mapping[str, float] | None = None,
    samples: Callable[[np.random.Generator], Iterable[Sample]] | None = None,
    kernel: Kernel | str | Path | None = None,
    aliases: Sequence[Alias] = (),
    standard: Callable[..., Any] | None = None,
    differentiable: bool = True,
    pure: bool = False,
) -> Callable[[Callable[..., Any]], CustomOp]:
    """Define an operator: decorates its PyTorch reference. The arguments are those of `CustomOp`.

    Args:
        name: `namespace::name`.
        schema: Torch schema without the name.
        types: One letter an input, "->", one an output.
        onnx_name: ONNX node type; the name in capitals (my_add, MyAdd) if not given.
        version: Opset version of the ONNX domain.
        floats: Dtypes that letter T may take.
        shape: Shape rule; None runs the reference on fake tensors.
        tolerances: Largest relative L2 against the float64 reference, by dtype.
        samples: Calls for `shipway op verify`.
        kernel: Native code: a `Kernel`, or the C++ file of one.
        aliases: Names in the domains of others.
        standard: How ONNX itself writes the operator.
        differentiable: False where a gradient makes no sense.
        pure: The same outputs for the same inputs and nothing else: equal calls may be merged.

    Raises:
        UsageError: The name is no `namespace::name`, or an operator of this name is defined already.

    Example:
        >>> @custom_op("doctest::my_add", schema="(Tensor x, Tensor y) -> Tensor", types="TT->T")
        ... def my_add(x, y):
        ...     return x + y
        >>> my_add.onnx_id
        'doctest::MyAdd'
    """
    _require_name(name)
    native = kernel if isinstance(kernel, Kernel | None) else Kernel(sources=(Path(kernel),))

    def define(reference: Callable[..., Any]) -> CustomOp:
        return add_operator(
            CustomOp(
                name=name,
                schema=schema,
                reference=reference,
                types=types,
                onnx_name=onnx_name or _camel(name),
                version=version,
                floats=tuple(floats),
                shape=shape,
                tolerances=dict(tolerances or {}),
                samples=samples,
                kernel=native,
                aliases=tuple(aliases),
                standard=standard,
                differentiable=differentiable,
                pure=pure,
                overload=overload_of,
            )
        )

    return define


def _require_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"'{name}' cannot be the name of an operator.", hint="Write namespace::name."
        )


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.partition("::")[2].split("_"))
