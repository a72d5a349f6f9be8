"""Find labelled images: a folder with a label file, or one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shipway.errors import DatasetError
from shipway.evaluate.images import IMAGE_SUFFIXES

__all__ = ["LABEL_FILE", "LabelledImages", "read_class_folders", "read_label_file"]

LABEL_FILE = "labels.txt"
_LARGEST_LABEL = 2**31 - 1
_SHOWN = 5
_LONGEST_LINE = 200


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Image files with their labels, in the order they are evaluated.

    Args:
        ids: Name of each image relative to its folder, `/` between the parts; unique.
        paths: Where each lies.
        labels: Class of each, from 0.
        notes: What was left out, one sentence each.
    """

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...]


def read_label_file(label_file: Path, folder: Path) -> LabelledImages:
    """Read "name label" lines and find the images they name.

    The last field is the label, so a name may hold spaces; blanks, a tab or a comma part the two.
    Empty lines and lines that begin with # are skipped.

    Args:
        label_file: UTF-8 text.
        folder: What the names are relative to.

    Raises:
        DatasetError: A bad line or a repeated name (with file, line and text), or images that do
            not exist (with the first ones and their count).
    """
    lines = _label_lines(label_file)
    missing = [
        f"{name} (line {number})"
        for name, (number, _) in lines.items()
        if not os.path.isfile(folder / name)  # noqa: PTH113 - Path.is_file raises on a name too long
    ]
    if missing:
        raise DatasetError(
            f"{_count(missing, 'image')} named in {label_file} not found in {folder}: {_first(missing)}.",
            hint="Names are relative to the image folder; correct the label file or the folder.",
        )
    return LabelledImages(
        ids=tuple(_printable(name) for name in lines),
        paths=tuple(folder / name for name in lines),
        labels=tuple(label for _, label in lines.values()),
        notes=_unlabelled_note(folder, lines.keys()),
    )


def _label_lines(label_file: Path) -> dict[str, tuple[int, int]]:
    """Return line number and label by name, in file order."""
    found: dict[str, tuple[int, int]] = {}
    for number, raw in enumerate(_read_text(label_file).split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, label = _split_line(line)
        if not name or not _is_label(label):
            raise DatasetError(
                f"{label_file}:{number}: bad line '{line[:_LONGEST_LINE]}'.",
                hint="Write 'name label', the label a whole number from 0, e.g. 'photo.jpg 281'.",
            )
        name = PurePosixPath(name).as_posix()
        if name in found:
            raise DatasetError(
                f"{label_file}:{number}: '{name}' was labelled before, on line {found[name][0]}.",
                hint="Keep one line for each image.",
            )
        found[name] = number, int(label)
    return found


def _split_line(line: str) -> tuple[str, str]:
    """Part a line at its last blank, tab or comma; the label is "" where there is none."""
    fields = line.replace(",", " ").split()
    label = fields[-1] if fields and line.endswith(fields[-1]) else ""
    return line.removesuffix(label).rstrip().removesuffix(",").rstrip(), label


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_LABEL


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8 text (byte {error.start}).", hint="Save the label file as UTF-8."
        ) from None


def _unlabelled_note(folder: Path, labelled: Iterable[str]) -> tuple[str, ...]:
    names = {path.relative_to(folder).as_posix() for path in _images_below(folder)}
    extra = sorted(names.difference(labelled))
    if not extra:
        return ()
    return (f"{_count(extra, 'image')} without a label left out: {_first(extra)}.",)


def read_class_folders(folder: Path) -> LabelledImages:
    """Take every folder as a class, numbered in the order of the sorted names, from 0.

    A class folder without images keeps its number. Hidden folders are no classes.

    Raises:
        DatasetError: There is no class folder.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(error) from error
    folders = [entry for entry in entries if entry.is_dir()]
    classes = [entry for entry in folders if not entry.name.startswith(".")]
    if not classes:
        raise DatasetError(
            f"{folder} has neither a {LABEL_FILE} nor class folders.",
            hint=f"Put 'name label' lines into {folder / LABEL_FILE}, or name the file: --labels FILE.",
        )
    found = [(path, label) for label, entry in enumerate(classes) for path in _images_below(entry)]
    return LabelledImages(
        ids=tuple(_printable(path.relative_to(folder).as_posix()) for path, _ in found),
        paths=tuple(path for path, _ in found),
        labels=tuple(label for _, label in found),
        notes=_class_notes(entries, classes, {label for _, label in found}),
    )


def _class_notes(entries: list[Path], classes: list[Path], used: set[int]) -> tuple[str, ...]:
    empty = [entry.name for label, entry in enumerate(classes) if label not in used]
    hidden = [entry.name for entry in entries if entry.is_dir() and entry not in set(classes)]
    loose = [entry.name for entry in entries if _is_image(entry.name) and entry.is_file()]
    notes = (
        (empty, "class folder", "without an image"),
        (hidden, "hidden folder", "left out"),
        (loose, "image", "outside every class folder left out"),
    )
    return tuple(
        f"{_count(names, what)} {how}: {_first(names)}." for names, what, how in notes if names
    )


def _images_below(folder: Path) -> list[Path]:
    """List images in sorted order, through links too, but never twice through the same folder."""
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_stop):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(root, name) for name in sorted(files) if _is_image(name))
    return found


def _stop(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> DatasetError:
    return DatasetError(f"Cannot read the folder {error.filename}: {error.strerror}.")


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _printable(name: str) -> str:
    """Escape the bytes of a file name that are no UTF-8, so that reports can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(_printable(name) for name in names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
