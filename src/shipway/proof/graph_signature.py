"""Whether two graphs can be compared at all: names, types and dynamic dimensions."""

from __future__ import annotations

from pathlib import Path

from shipway.errors import ModelError
from shipway.export.portable import PortableModel
from shipway.source.modelfiles import shown_path
from shipway.tensors import TensorSpec

__all__ = ["check_dynamic", "check_names"]


def check_names(golden: PortableModel, actual: PortableModel, path: Path) -> None:
    """Refuse a model whose inputs or outputs have other names or types.

    Raises:
        ModelError: They have.
    """
    for what, expected, found in (
        ("inputs", golden.inputs, actual.inputs),
        ("outputs", golden.outputs, actual.outputs),
    ):
        before, after = (", ".join(map(_label, side)) for side in (expected, found))
        if before != after:
            raise ModelError(
                f"{shown_path(path)} has the {what} {after}; before the edit they were {before}.",
                hint="A proof compares outputs by name: keep names and types of inputs and outputs.",
            )


def _label(spec: TensorSpec) -> str:
    return f"{spec.name}:{spec.dtype}"


def check_dynamic(golden: PortableModel, actual: PortableModel, path: Path) -> None:
    """Refuse a model that takes fewer sizes than before.

    Raises:
        ModelError: A dimension that was dynamic is a number, or an input has another rank or size.
    """
    for old, new in zip(golden.inputs, actual.inputs, strict=True):
        if _takes_less(old, new):
            raise ModelError(
                f"{shown_path(path)} takes only {new} where {old} was taken.",
                hint="Keep dynamic dimensions dynamic; or prove sizes that are left: "
                "shipway graph prove BEFORE AFTER --size NAME=NUMBER",
            )


def _takes_less(old: TensorSpec, new: TensorSpec) -> bool:
    if old.shape is None or new.shape is None:
        return False
    if len(old.shape) != len(new.shape):
        return True
    pairs = zip(old.shape, new.shape, strict=True)
    return any(isinstance(now, int) and was != now for was, now in pairs)
