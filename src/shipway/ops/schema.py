"""The signature of an operator: torch's schema and the type letters, read together once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shipway.errors import UsageError

__all__ = ["LETTERS", "Attribute", "Input", "Signature", "read_signature"]

LETTERS = {
    "f": "float32",
    "d": "float64",
    "h": "float16",
    "l": "int64",
    "i": "int32",
    "u": "uint8",
    "b": "bool",
}
"""Dtype of each letter that stands for one dtype; T and I stand for several."""
_KINDS = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "List[int]": "ints",
    "List[float]": "floats",
}


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that goes in: its name, its letter, and whether it may be absent."""

    name: str
    letter: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Attribute:
    """A constant of the call: kind "int", "float", "bool", "ints" or "floats"."""

    name: str
    kind: str
    required: bool
    default: Any = None


@dataclass(frozen=True, slots=True)
class Signature:
    """How an operator is called."""

    inputs: tuple[Input, ...]
    attributes: tuple[Attribute, ...]
    outputs: str

    def split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Split the arguments of a call into tensors, in order, and all attributes by name."""
        names = [item.name for item in self.inputs] + [item.name for item in self.attributes]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        tensors = [given.get(item.name) for item in self.inputs]
        return tensors, {item.name: given.get(item.name, item.default) for item in self.attributes}


def read_signature(name: str, schema: str, types: str) -> Signature:
    """Read an operator's signature.

    Args:
        name: `namespace::name`.
        schema: Torch schema without the name.
        types: Type letters; see `CustomOp`.

    Raises:
        UsageError: The schema does not parse, has a type that no runtime carries, an attribute
            before an input, or another number of tensors than there are letters.
    """
    import torch

    try:
        parsed = torch._C.parse_schema(f"{name}{schema}")  # noqa: SLF001 -- torch.library parses with it too
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise _error(name, f"has the schema {schema!r}, which does not parse: {reason}") from error
    ins, arrow, outs = types.partition("->")
    known = {*LETTERS, "T", "I"}
    if not arrow or not outs or not known.issuperset(ins + outs):
        raise _error(
            name, f"has the types {types!r}; write letters of {''.join(sorted(known))} around '->'"
        )
    inputs: list[Input] = []
    attributes: list[Attribute] = []
    for argument in parsed.arguments:
        kind = str(argument.type)
        if kind in {"Tensor", "Optional[Tensor]"}:
            if attributes:
                raise _error(name, f"takes the tensor '{argument.name}' after an attribute")
            letter = ins[len(inputs)] if len(inputs) < len(ins) else ""
            inputs.append(Input(argument.name, letter, kind != "Tensor"))
        elif kind in _KINDS:
            attributes.append(_attribute(argument, _KINDS[kind]))
        else:
            raise _error(name, f"takes '{argument.name}' of type {kind}, which no runtime carries")
    if len(inputs) != len(ins) or len(parsed.returns) != len(outs):
        raise _error(
            name,
            f"has {len(inputs)} input and {len(parsed.returns)} output tensors in its schema; "
            f"its types {types!r} name {len(ins)} and {len(outs)}",
        )
    return Signature(tuple(inputs), tuple(attributes), outs)


def _attribute(argument: Any, kind: str) -> Attribute:
    required = not argument.has_default_value()
    default = None if required else argument.default_value
    return Attribute(
        argument.name, kind, required, tuple(default) if isinstance(default, list) else default
    )


def _error(name: str, what: str) -> UsageError:
    return UsageError(
        f"The operator {name} {what}.",
        hint="Inputs first, then attributes: (Tensor x, Tensor? y, int k=1, float[] scale) -> Tensor.",
    )
