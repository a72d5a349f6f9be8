"""How a model is named on the command line: `net.py:make`, `package.net:Net`, `net.pt2`, `net.onnx`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shipway.errors import UsageError
from shipway.source.modelfiles import expand_home

__all__ = ["FORMS", "Kind", "Reference", "parse_reference"]

Kind = Literal["python-file", "python-module", "exported-program", "onnx", "pickle"]

FORMS = "Give file.py:name, package.module:name, model.pt2 or model.onnx."

_SUFFIXES: dict[str, Kind] = {
    ".pt2": "exported-program",
    ".onnx": "onnx",
    ".pth": "pickle",
    ".pt": "pickle",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference taken apart.

    Args:
        kind: What it points at.
        target: Path of the file, or dotted name of the Python module.
        name: What to take from Python code, dots allowed; "" where none was given.
    """

    kind: Kind
    target: str
    name: str = ""

    @property
    def path(self) -> Path:
        """The file, with `~` expanded."""
        return expand_home(Path(self.target))


def parse_reference(text: str) -> Reference:
    """Take a reference apart without touching the file it names.

    Raises:
        UsageError: It has none of the forms.

    Example:
        >>> parse_reference("nets/net.py:Net.tiny")
        Reference(kind='python-file', target='nets/net.py', name='Net.tiny')
        >>> parse_reference("package.net:Net").kind
        'python-module'
    """
    kind = _SUFFIXES.get(Path(text).suffix.lower())
    target, separator, name = text.rpartition(":")
    if kind is not None and (not separator or "/" in name or _is_file(text)):
        return Reference(kind, text)
    if not separator:
        target, name = text, ""
    if separator and Path(target).suffix.lower() in _SUFFIXES and _is_file(target):
        raise UsageError(
            f"{target} holds one model; it takes no ':{name}'.", hint=f"Give {target}."
        )
    if target.lower().endswith(".py"):
        return Reference("python-file", target, _checked_name(text, name))
    if _is_dotted(target) and not _is_file(target):
        return Reference("python-module", target, _checked_name(text, name))
    raise UsageError(f"'{text}' is not a model Shipway can read.", hint=_advice(target))


def _is_file(text: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return expand_home(Path(text)).is_file()
    return False


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _checked_name(text: str, name: str) -> str:
    if name and not _is_dotted(name):
        raise UsageError(f"'{name}' in '{text}' is not a Python name.", hint=FORMS)
    return name


def _advice(target: str) -> str:
    if _is_file(f"{target}.py"):
        return f"Did you mean {target}.py:name?"
    if Path(target).suffix == ".toml":
        return "A ship.toml is read by: shipway deploy ship.toml"
    return FORMS
