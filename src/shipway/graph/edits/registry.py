"""The named edits: listed, found by name, and run with options given as text."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.edits.result import Edit, EditResult, Option

__all__ = ["all_edits", "find_edit", "run_edit"]

_NAMES = (
    "cast-indices",
    "change-dtype",
    "change-shape",
    "clamp-constants",
    "convert-conv1d",
    "convert-opset",
    "drop-empty-slices",
    "fold-batchnorm",
    "free-batch",
    "fuse-attention",
    "gather-to-slice",
    "gather-to-split",
    "inline-functions",
    "merge-casts",
    "merge-concats",
    "merge-slices",
    "merge-transposes",
    "pad-tokens",
    "remove-node",
    "rename-value",
    "replace-reflect-pad",
    "repair-topk",
    "resize-to-nearest",
    "rewrite-pattern",
    "set-domain",
    "split-average-pool",
    "split-large-conv",
    "split-qkv",
    "transpose-large-conv",
    "unify-domain",
)
_TRUE, _FALSE = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})


def all_edits() -> tuple[Edit, ...]:
    """Return every named edit, sorted by name."""
    return tuple(find_edit(name) for name in sorted(_NAMES))


def find_edit(name: str) -> Edit:
    """Return a named edit.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=3)
        near = f" Nearest: {', '.join(close)}." if close else ""
        raise UsageError(f"There is no edit '{name}'.{near}", hint="shipway graph edit --list")
    module = importlib.import_module(f"shipway.graph.edits.{name.replace('-', '_')}")
    edit: Edit = module.EDIT
    return edit


def run_edit(
    model: ir.Model, name: str, options: Mapping[str, str] | None = None, *, allow: bool = False
) -> EditResult:
    """Run a named edit on a model, in place.

    Args:
        model: The model.
        name: Name of the edit.
        options: Its options as text, as a command line has them.
        allow: Let it change what the model computes.

    Raises:
        UsageError: The edit or an option does not exist, or an option cannot be read.
        ModelError: The edit refuses the model; or it changes numerics and is not allowed to.
    """
    edit = find_edit(name)
    if edit.kind == "changes-numerics" and not allow:
        raise ModelError(
            f"The edit {name} changes what the model computes.",
            hint="Add --allow (allow=True in Python) if that is wanted, and measure the accuracy.",
        )
    known = {one.name: one for one in edit.options}
    given: dict[str, Any] = {}
    for key, text in (options or {}).items():
        option = known.get(key.replace("-", "_"))
        if option is None:
            names = ", ".join(f"--{one.replace('_', '-')}" for one in known) or "none"
            raise UsageError(f"The edit {name} has no option --{key}. It has {names}.")
        given[option.name] = _read(option, text)
    missing = [one.name for one in edit.options if one.is_required and one.name not in given]
    if missing:
        flags = " and ".join(f"--{one.replace('_', '-')}" for one in missing)
        raise UsageError(f"The edit {name} needs {flags}.", hint="shipway graph edit --list")
    return edit.apply(model, **given)


def _read(option: Option, text: str) -> Any:
    kind = option.type.partition(" |")[0]
    flag = f"--{option.name.replace('_', '-')}"
    if kind.startswith("tuple"):
        return tuple(part for part in text.split(",") if part)
    if kind == "bool":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise UsageError(f"{flag} is yes or no, not '{text}'.")
    if kind in {"int", "float"}:
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError:
            raise UsageError(f"{flag} takes a number, not '{text}'.") from None
    return text
