"""Whole modules pickled by torch.save: refused, unless the user says that the file is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.errors import ModelError
from shipway.source.archives import archive_kind, pickled_class
from shipway.source.factories import TORCHSCRIPT_HINT, as_module
from shipway.source.modelfiles import shown_path
from shipway.source.quoting import quote_errors, quote_text
from shipway.source.weights import read_tensors_only

__all__ = ["load_pickled_module"]

_KINDS = frozenset({"torch-zip", "torch-legacy"})


def load_pickled_module(path: Path, *, allow_pickle: bool) -> Any:
    """Return the torch module a torch.save file holds.

    Unpickling executes code the file names, so it happens only when `allow_pickle` says so. The
    classes of the module must be importable.

    Raises:
        ModelError: Pickles are not allowed, or the file holds something else.
        WeightsError: The file is truncated or damaged.
    """
    shown = shown_path(path)
    kind = archive_kind(path)
    if kind == "torchscript":
        raise ModelError(f"{shown} is a TorchScript archive.", hint=TORCHSCRIPT_HINT)
    if kind == "exported-program":
        raise ModelError(f"{shown} is an exported program.", hint="Rename it to end in .pt2.")
    found = pickled_class(path)
    if kind not in _KINDS or not found:
        return _refuse(path)
    if not allow_pickle:
        raise ModelError(
            f"{shown} holds a whole pickled module ({found}); reading it runs code from the file.",
            hint="If you trust it, add --allow-pickle. Safer: give the model's Python code "
            "(file.py:name) and its state dict with --weights.",
        )
    return _unpickle(path)


def _refuse(path: Path) -> Any:
    """Raise the error for a file without a pickled object: a state dict, or nothing readable."""
    read_tensors_only(path)
    shown = shown_path(path)
    raise ModelError(
        f"{shown} holds tensors, not a model.",
        hint=f"Give the model's Python code with these as its weights: file.py:name --weights {shown}",
    )


def _unpickle(path: Path) -> Any:
    import torch

    shown = shown_path(path)
    with quote_errors(shown):
        try:
            # The user has said that this file is trusted (--allow-pickle).
            loaded = torch.load(path, map_location="cpu", weights_only=False)
        except (AttributeError, ModuleNotFoundError) as error:
            raise _no_class(shown, pickled_class(path), error) from error
    return as_module(loaded, f"{shown} holds")


def _no_class(shown: str, name: str, error: Exception) -> ModelError:
    module = name.rpartition(".")[0]
    if module == "__main__":
        hint = (
            "The script that saved it defined the class itself: save the state dict there instead."
        )
    else:
        hint = f"Run the command in the folder {module.partition('.')[0]} is in, or put it on PYTHONPATH."
    return ModelError(f"{shown} needs the class {name}: {quote_text(error)}.", hint=hint)
