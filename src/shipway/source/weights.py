"""State dicts: read them from a file without running code in it, and load them into a module."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shipway.errors import WeightsError
from shipway.source.archives import archive_kind, pickled_class
from shipway.source.modelfiles import find_model_file, shown_path
from shipway.source.quoting import quote_text

__all__ = ["load_weights", "read_state_dict", "read_tensors_only"]

_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")
_EXTRA_STATE = "_extra_state"
_SHOWN = 5
_AGAIN = "Copy or download it again; ls -l shows whether its size is right."
_SAVE_HINT = "Save its tensors: torch.save(model.state_dict(), 'weights.pth')."
_REFUSED = {
    "torchscript": ("a TorchScript archive", _SAVE_HINT),
    "exported-program": ("an exported program", "Give it as the source instead of the model code."),
    "aotinductor-package": ("a compiled AOTInductor package", "Give the weights it was made from."),
    "onnx": ("an ONNX model", "Give it as the source instead of the model code."),
    "pickle": ("a plain Python pickle, not written by torch.save", _SAVE_HINT),
    "truncated": ("truncated: its end is missing", _AGAIN),
    "unknown": ("neither a torch.save nor a safetensors file", _SAVE_HINT),
}


def read_state_dict(path: Path) -> dict[str, Any]:
    """Read a state dict: what torch.save wrote (any ending), or .safetensors.

    A checkpoint that holds the state dict under `state_dict`, `model_state_dict` or `model` is
    opened, and the prefix that DataParallel (`module.`) or torch.compile (`_orig_mod.`) puts before
    every key is taken off. Tensors are on the CPU, mapped from the file where its format allows.

    Returns:
        Tensors by name; values under a key that ends in `_extra_state` may be anything plain.

    Raises:
        ModelError: The file is absent, empty or unreadable.
        WeightsError: It is truncated, holds pickled code, or is no state dict.
    """
    return _without_wrappers(_state_of(find_model_file(path)), own=())


def load_weights(module: Any, path: Path) -> None:
    """Load a state dict into a torch module; every key must fit.

    Args:
        module: The torch.nn.Module; changed in place.
        path: As for `read_state_dict`.

    Raises:
        ModelError: As for `read_state_dict`.
        WeightsError: As there, or keys are missing, unexpected or of another shape. The message
            lists the first five of each.
    """
    own = module.state_dict()
    state = _without_wrappers(_state_of(find_model_file(path)), own=own)
    misshapen: list[str] = []
    try:
        result = module.load_state_dict(state, strict=False)
    except Exception as error:
        misshapen = _misshapen(own, state)
        if not misshapen:
            text = quote_text(error)
            raise WeightsError(
                f"{shown_path(path)} cannot be loaded into {type(module).__name__}: {text}"
            ) from error
        result = module.load_state_dict(_without(state, misshapen), strict=False)
    unmatched = _unmatched(result, own, state)
    if misshapen or any(unmatched):
        raise WeightsError(
            _mismatch_text(module, path, own, state, *unmatched, misshapen),
            hint=_mismatch_hint(own, state),
        )


def read_tensors_only(path: Path) -> Any:
    """Read what torch.save or safetensors wrote, tensors and plain containers only.

    Raises:
        WeightsError: The file is truncated, of another kind, or holds pickled code.
    """
    import torch

    kind = archive_kind(path)
    if kind in _REFUSED:
        what, hint = _REFUSED[kind]
        raise WeightsError(f"{shown_path(path)} is {what}.", hint=hint)
    try:
        if kind == "safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "torch-zip")
    except pickle.UnpicklingError as error:
        raise _pickled_code(path, error) from error
    except Exception as error:
        text = quote_text(str(error).partition(". ")[0])
        raise WeightsError(f"{shown_path(path)} is damaged: {text}.", hint=_AGAIN) from error


def _pickled_code(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    whole = pickled_class(path)
    if whole:
        return WeightsError(
            f"{shown_path(path)} holds a whole pickled object of class {whole}, not a state dict; "
            "reading it would run code from the file.",
            hint=f"{_SAVE_HINT} Or, if you trust it, give the file itself as the source with --allow-pickle.",
        )
    detail = quote_text(str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0])
    return WeightsError(
        f"{shown_path(path)} holds pickled code besides tensors, which Shipway does not run: {detail}",
        hint="Save the tensors alone: torch.save(checkpoint['state_dict'], 'weights.pth').",
    )


def _state_of(path: Path) -> dict[str, Any]:
    loaded = read_tensors_only(path)
    for candidate in (loaded, *_inside(loaded)):
        if _is_state_dict(candidate):
            found: dict[str, Any] = candidate
            return found
    raise WeightsError(
        f"{shown_path(path)} holds no state dict but {_described(loaded)}.", hint=_SAVE_HINT
    )


def _inside(loaded: Any) -> list[Any]:
    if not isinstance(loaded, dict):
        return []
    return [loaded[key] for key in _CHECKPOINT_KEYS if key in loaded]


def _is_state_dict(value: Any) -> bool:
    import torch

    return isinstance(value, dict) and all(
        isinstance(key, str) and (isinstance(item, torch.Tensor) or key.endswith(_EXTRA_STATE))
        for key, item in value.items()
    )


def _described(loaded: Any) -> str:
    if not isinstance(loaded, dict):
        return f"a {type(loaded).__name__}"
    entries = [f"{key} ({type(value).__name__})" for key, value in loaded.items()]
    return f"a dict with {_shown(entries)}"


def _without_wrappers(state: dict[str, Any], *, own: Iterable[str]) -> dict[str, Any]:
    """Take wrapper prefixes off every key, unless the module's own keys begin with them."""
    from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

    own_keys = tuple(own)
    prefix = _wrapper_of(state)
    while prefix and not any(key.startswith(prefix) for key in own_keys):
        consume_prefix_in_state_dict_if_present(state, prefix)
        prefix = _wrapper_of(state)
    return state


def _wrapper_of(state: Mapping[str, Any]) -> str:
    for prefix in _WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            return prefix
    return ""


def _unmatched(
    result: Any, own: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return missing and unexpected keys: what load_state_dict says, or where it says nothing, ours.

    A key is not missing where another that was loaded is the same tensor: files of tied weights
    hold them once.
    """
    missing = [key for key in own if key not in state] if result is None else result.missing_keys
    surplus = [key for key in state if key not in own] if result is None else result.unexpected_keys
    loaded = {_address(own[key]) for key in state if key in own} - {0}
    untied = [key for key in missing if key not in state and _address(own.get(key)) not in loaded]
    return untied, list(surplus)


def _address(value: Any) -> int:
    """Return where the values of a tensor lie in memory, 0 where there are none."""
    import torch
    from torch.nn.parameter import is_lazy

    return int(value.data_ptr()) if isinstance(value, torch.Tensor) and not is_lazy(value) else 0


def _misshapen(own: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    from torch.nn.parameter import is_lazy

    return [
        key
        for key, value in state.items()
        if _shape(own.get(key)) not in {None, _shape(value)} and not is_lazy(own[key])
    ]


def _shape(value: Any) -> tuple[int, ...] | None:
    import torch

    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _without(state: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """Copy a state dict without some keys; its class stays, and with it the versions it carries."""
    kept = state.copy()
    if metadata := getattr(state, "_metadata", None):
        kept._metadata = metadata  # type: ignore[attr-defined]  # noqa: SLF001 - torch reads versions there
    for key in keys:
        del kept[key]
    return kept


def _mismatch_text(
    module: Any,
    path: Path,
    own: Mapping[str, Any],
    state: Mapping[str, Any],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> str:
    counts = (
        f"{len(missing)} missing, {len(unexpected)} unexpected, {len(misshapen)} of another shape"
    )
    lines = [f"{shown_path(path)} does not belong to {type(module).__name__}; keys: {counts}."]
    if missing:
        lines.append(f"  missing: {_shown([_with_shape(key, own) for key in missing])}")
    if unexpected:
        lines.append(f"  unexpected: {_shown([_with_shape(key, state) for key in unexpected])}")
    if misshapen:
        shapes = [
            f"{_with_shape(key, state)} in the file, {list(own[key].shape)} in the model"
            for key in misshapen
        ]
        lines.append(f"  shape: {_shown(shapes, '; ')}")
    return "\n".join(lines)


def _with_shape(key: str, values: Mapping[str, Any]) -> str:
    shape = _shape(values.get(key))
    return key if shape is None else f"{key} {list(shape)}"


def _shown(items: list[str], separator: str = ", ") -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


def _mismatch_hint(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    for outer, inner, words in (
        (state, own, "Save the state dict of the inner module, without the prefix '{}'."),
        (own, state, "The model keeps that network under '{}': name the inner module instead."),
    ):
        prefix = _common_prefix(outer)
        if prefix and {key.removeprefix(prefix) for key in outer} == set(inner):
            return words.format(prefix)
    return "Give the weights of this model, and build it as it was trained (--arg name=value)."


def _common_prefix(keys: Iterable[str]) -> str:
    heads = {key.partition(".")[0] for key in keys if "." in key}
    return f"{heads.pop()}." if len(heads) == 1 else ""
