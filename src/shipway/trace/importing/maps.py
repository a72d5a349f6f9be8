"""The maps a user may give with a dump: which of them a path is, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shipway.errors import UsageError
from shipway.files import read_json
from shipway.trace.importing.mindie_names import RT_MAP, TORCH_MAP, read_mindie_names
from shipway.trace.importing.om_names import is_om_json, read_om_names
from shipway.trace.importing.origins import (
    Origin,
    Origins,
    onnx_value_names,
    resolve_values,
)

__all__ = ["OnnxNames", "read_maps"]

_HINT = (
    f"Give the JSON of the compiled model (atc --mode=1), the folder of {TORCH_MAP} and {RT_MAP}, "
    "the ONNX model, or a folder with several of these."
)


@dataclass(frozen=True, slots=True)
class OnnxNames:
    """The values of an ONNX model, for a tool that knows its nodes; see `Origins`.

    Args:
        values: By sanitised name of a node and output.
    """

    values: Mapping[tuple[str, int], str]
    is_complete: bool = False

    def find(self, op_name: str, index: int) -> Origin | None:
        """Return the value that an output of a node is."""
        names = resolve_values([op_name], index, self.values)
        return Origin(names=names) if names else None

    def find_input(self, op_name: str, index: int) -> Origin | None:  # noqa: ARG002 -- see `Origins`
        """Return None: an input of a node may be one of the compiled operator, or inside it."""
        return None


def read_maps(mapping: Path | None) -> tuple[Origins, ...]:
    """Read every map in a file or folder.

    Args:
        mapping: A file or a folder; None gives none.

    Raises:
        UsageError: There is no such path, or no map in it.
        ModelError: An ONNX model in it is damaged.
    """
    if mapping is None:
        return ()
    if mapping.is_file():
        return _read_file(mapping)
    if not mapping.is_dir():
        raise UsageError(f"There is no map {mapping}.", hint=_HINT)
    found = _read_folder(mapping)
    if not found:
        raise UsageError(f"There is no map in {mapping}.", hint=_HINT)
    return found


def _read_file(path: Path) -> tuple[Origins, ...]:
    if path.suffix.lower() == ".onnx":
        return (OnnxNames(onnx_value_names(path)),)
    if path.name in {TORCH_MAP, RT_MAP}:
        return (read_mindie_names(path.parent),)
    return (read_om_names(path),)


def _read_folder(folder: Path) -> tuple[Origins, ...]:
    models = sorted(folder.glob("*.onnx"))
    if len(models) > 1:
        raise UsageError(
            f"There are {len(models)} ONNX models in {folder}: {models[0].name}, {models[1].name}.",
            hint="Leave only the one that was compiled.",
        )
    values = onnx_value_names(models[0]) if models else {}
    maps: list[Origins] = [
        read_om_names(path, values) for path in sorted(folder.glob("*.json")) if _is_om(path)
    ]
    if any((folder / name).is_file() for name in (TORCH_MAP, RT_MAP)):
        maps.append(read_mindie_names(folder))
    return (*maps, OnnxNames(values)) if values else tuple(maps)


def _is_om(path: Path) -> bool:
    if path.name in {TORCH_MAP, RT_MAP}:
        return False
    try:
        return is_om_json(read_json(path))
    except Exception:  # noqa: BLE001 -- a JSON file of somebody else lies there; it is not asked for
        return False
