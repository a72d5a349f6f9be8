"""What kind of file torch, or another tool, wrote: told from its bytes, nothing is unpickled."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Literal

from shipway.source.modelfiles import read_head

__all__ = ["ArchiveKind", "archive_kind", "archive_names", "pickled_class"]

ArchiveKind = Literal[
    "aotinductor-package",
    "exported-program",
    "onnx",
    "pickle",
    "safetensors",
    "torch-legacy",
    "torch-zip",
    "torchscript",
    "truncated",
    "unknown",
]

# torch.save before 1.6 begins with the number 0x1950a86a20f9469cfc6c, pickled in any protocol.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_HEADERS = 3
_HARMLESS = ("collections.OrderedDict", "torch._utils.")
_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_PLAIN = frozenset({"EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "DICT", "LIST", "STOP", "NONE"})


def archive_kind(path: Path) -> ArchiveKind:
    """Say what kind of model or weights file this is.

    Raises:
        ModelError: The file cannot be read.
    """
    head = read_head(path)
    if head.startswith(b"PK"):
        return _zip_kind(archive_names(path))
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return "torch-legacy" if _LEGACY_MAGIC in head else "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    if path.suffix.lower() == ".onnx":
        return "onnx"
    return "unknown"


def archive_names(path: Path) -> tuple[str, ...]:
    """Return the entries of a zip archive without their first folder; () where it does not open."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.partition("/")[2] or name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ()


def _zip_kind(names: tuple[str, ...]) -> ArchiveKind:
    if not names:
        return "truncated"
    if "constants.pkl" in names:
        return "torchscript"
    if (
        any(name.startswith("models/") for name in names)
        or "serialized_exported_program.json" in names
    ):
        return "exported-program"
    if any(name.startswith("data/aotinductor/") for name in names):
        return "aotinductor-package"
    return "torch-zip" if "data.pkl" in names else "unknown"


def pickled_class(path: Path) -> str:
    """Return the class of the object a torch.save file holds, "" for tensors in plain containers.

    Reads the pickle's opcodes without executing them: the first thing a pickle names is the class
    of the whole object.

    Source: Python's pickletools; torch.save's layout, zip (data.pkl) and before 1.6.
    """
    try:
        if archive_kind(path) == "torch-zip":
            with zipfile.ZipFile(path) as archive:
                entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(entry) as stream:
                    return _first_class(stream)
        with path.open("rb") as stream:
            if archive_kind(path) == "torch-legacy":
                for _ in range(_LEGACY_HEADERS):
                    list(pickletools.genops(stream))
            return _first_class(stream)
    except (ValueError, zipfile.BadZipFile, OSError, StopIteration, NotImplementedError):
        return ""


def _first_class(stream: IO[bytes]) -> str:
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _PLAIN:
            return ""
        if opcode.name in _STRINGS:
            strings.append(str(argument))
        if opcode.name in {"GLOBAL", "STACK_GLOBAL"}:
            found = (
                str(argument).replace(" ", ".")
                if opcode.name == "GLOBAL"
                else ".".join(strings[-2:])
            )
            return "" if found.startswith(_HARMLESS) else found
    return ""
