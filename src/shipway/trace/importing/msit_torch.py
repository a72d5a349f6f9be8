"""Dumps that msit made of a PyTorch run (`msit llm dump`, or its `register_hook`).

`msit_dump_*/torch_tensors/{device}_{pid}/{token}/root.{module}/`, with `output.pth` or
`output_{n}.pth`, and `input_{n}.pth`; a folder without `root` is that of a function. Beside the
tokens, `model_tree.json` has the classes of the modules. This is the reference that msit compares a
model of MindIE-Torch with.

Source: dump_hook.py and topo.py of msit 8.2.0; tried on a dump that it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from shipway.engines.tapping import Tap
from shipway.errors import ModelError, TensorError, UsageError
from shipway.files import read_json
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    guess_precision,
    load_torch,
    natural_key,
    number_taps,
)

__all__ = ["is_msit_torch", "read_msit_torch"]

TITLE = "msit PyTorch dump"
_FILE = re.compile(r"(?P<side>input|output)(?P<place>(?:_\d+)*)\.pth")
_ROOT, _TREE = "root", "model_tree.json"
_DEEPEST = 5


def _runs(path: Path) -> list[Path]:
    """Return the folders of a forward pass: those with folders of modules in them."""
    found = {
        file.parents[1]
        for depth in range(_DEEPEST)
        for file in path.glob(f"{'*/' * depth}{_ROOT}*/*put*.pth")
        if _FILE.fullmatch(file.name)
    }
    return sorted(found, key=lambda one: natural_key(str(one)))


def is_msit_torch(path: Path) -> bool:
    """Whether this is such a dump, or a folder above one."""
    return path.is_dir() and bool(_runs(path))


def read_msit_torch(path: Path) -> ImportedDump:
    """Look through the dump of one forward pass.

    Args:
        path: Its folder, or one above with only one pass.

    Raises:
        UsageError: There are several passes below the folder.
    """
    runs = _runs(path)
    if len(runs) != 1:
        raise UsageError(
            f"{path} holds the dumps of {len(runs)} forward passes.",
            hint=f"Give one of them: {', '.join(str(one) for one in runs[:2])}.",
        )
    problems: dict[str, str] = {}
    files = sorted(_look(runs[0], problems), key=_order)
    classes = _classes(runs[0].parent / _TREE, problems)
    tensors = [_tensor(file, classes) for file in files]
    return ImportedDump(
        title=TITLE,
        precision=guess_precision(one.dtype for one in tensors),
        tensors=number_taps(tensors),
        problems=problems,
    )


def _look(run: Path, problems: dict[str, str]) -> Iterator[Path]:
    for folder in sorted(run.iterdir()):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _FILE.fullmatch(file.name):
                yield file
            else:
                problems[f"{folder.name}/{file.name}"] = "its name is not that of a dumped tensor"


def _classes(path: Path, problems: dict[str, str]) -> dict[str, str]:
    """Return the class of each module by the name of its folder."""
    if not path.is_file():
        return {}
    try:
        left = [read_json(path)]
    except ModelError as error:
        problems[path.name] = str(error)
        return {}
    found: dict[str, str] = {}
    while left:
        node = left.pop()
        if isinstance(node, dict):
            found[str(node.get("name"))] = str(node.get("type", ""))
            left.extend(node["children"] if isinstance(node.get("children"), list) else ())
    return found


def _order(file: Path) -> tuple[object, ...]:
    """Return what sorts by execution: a module's files are written when it returns."""
    written = file.stat().st_mtime_ns
    return written, natural_key(file.parent.name), file.name[:3] != "inp", natural_key(file.name)


def _tensor(file: Path, classes: Mapping[str, str]) -> ImportedTensor:
    match = _FILE.fullmatch(file.name)
    side, place = (match["side"], match["place"]) if match else ("", "")
    folder = file.parent.name
    is_module = folder == _ROOT or folder.startswith(f"{_ROOT}.")
    module = folder.removeprefix(_ROOT).removeprefix(".") if is_module else ""
    tap = Tap(
        name=f"{folder}.{side}{place}",
        order=0,
        op=classes.get(folder, "") if is_module else folder,
        kind="output" if folder == _ROOT and side == "output" else "value",
        names=_names(module, place) if side == "output" else (),
        module=module,
        module_class=classes.get(folder, ""),
    )
    try:
        value = load_torch(file)
    except TensorError:
        dtype, shape = "", None
    else:
        dtype, shape = value.dtype.name, value.shape
    return ImportedTensor(tap, partial(load_torch, file), dtype, shape, may_repeat=side == "input")


def _names(module: str, place: str) -> tuple[str, ...]:
    """Return the module path as module hooks name its output."""
    if not module:
        return ()
    part = f"{module}{place.replace('_', '.')}"
    return (module, part) if place == "_0" else (part,)
