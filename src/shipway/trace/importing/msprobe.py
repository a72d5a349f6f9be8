"""Dumps of msprobe (PyPI: mindstudio-probe), and of msit before it.

A dump of a PyTorch run is `{dump_path}/step{N}/rank{R}/` (or `proc{PID}` without ranks): `dump.json`
with what went in and out of every module (level L0), API (L1) or both (mix), `dump_tensor_data/*.pt`
where the task was "tensor", `construct.json` with who called whom, `stack.json` with the lines.
A dump of an ONNX run is a folder of .npy files, see `msprobe_offline`; msit's own of a PyTorch run is
one of .pth files, see `msit_torch`.

Source: json_writer.py and the data collector of mindstudio-probe 26.2.0; tried on dumps that it
wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from shipway.engines.tapping import Tap
from shipway.errors import ModelError, TensorError, UsageError
from shipway.files import read_json
from shipway.source.locations import CodeLocation, trace_location
from shipway.tensors import dtype_named
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    finite_facts,
    guess_precision,
    load_torch,
    number_taps,
    sizes_in_json,
)
from shipway.trace.importing.msit_torch import is_msit_torch, read_msit_torch
from shipway.trace.importing.msprobe_offline import is_offline, offline_folder, read_offline

__all__ = ["detect_msprobe", "read_msprobe"]

TITLE = "msprobe"
_DUMP, _CONSTRUCT, _STACK, _DATA = "dump.json", "construct.json", "stack.json", "dump_tensor_data"
_MODULE = re.compile(
    r"(?:Module|Cell)\.(?P<path>.+)\.(?P<cls>\w+)\.(?P<way>forward|backward)\.(?P<call>\d+)"
)
_API = re.compile(r"(?P<op>\w+\..+)\.(?P<call>\d+)\.(?P<way>forward|backward)")
_FRAME = re.compile(
    r"File (?P<file>.+?), line (?P<line>\d+), in (?P<scope>[^,]*),\s*(?P<code>.*)", re.DOTALL
)
_PARTS = ("input_args", "input_kwargs", "input", "parameters", "output", "parameters_grad")
"""What an entry may hold, in the order of its execution; `input` is what a backward pass reads."""


def detect_msprobe(path: Path) -> bool:
    """Whether this is a dump of msprobe, a folder above one, or its dump.json."""
    try:
        found = any(_is_dump(one) for one in _dumps(path))
        return found or is_offline(path) or is_msit_torch(path)
    except OSError:
        return False


def _dumps(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name == _DUMP else []
    found = (path.glob(f"{'*/' * depth}{_DUMP}") for depth in range(4))
    return sorted(one for group in found for one in group)


def _is_dump(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            start = stream.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return '"dump_data_dir"' in start or ('"level"' in start and '"data"' in start)


def read_msprobe(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through a dump of msprobe.

    Args:
        path: The folder of one step and rank, a folder above with only one, or `dump.json`; or the
            folder of an ONNX run, or of msit's.
        mapping: For an ONNX run, the model: see `msprobe_offline`.

    Raises:
        UsageError: There are several dumps below the folder; or the map cannot be used.
        TensorError: dump.json is damaged.
    """
    dumps = [one for one in _dumps(path) if _is_dump(one)]
    if not dumps and is_offline(path):
        return read_offline(offline_folder(path), mapping)
    if mapping is not None:
        raise UsageError(
            "A dump of a PyTorch run has the names of the program: it takes no map.",
            hint="Leave --map out.",
        )
    if not dumps:
        return read_msit_torch(path)
    if len(dumps) > 1:
        raise UsageError(
            f"{path} holds {len(dumps)} dumps, of several steps or ranks.",
            hint=f"Give one of them: {dumps[0].parent}, {dumps[1].parent}{', ...' if dumps[2:] else ''}.",
        )
    return _read_run(dumps[0])


def _read_run(path: Path) -> ImportedDump:
    try:
        data = read_json(path)
    except ModelError as error:
        raise TensorError(f"The dump was not written to its end. {error}") from error
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, dict):
        raise TensorError(f"{path} has no 'data': it is no dump of msprobe.")
    problems: dict[str, str] = {}
    run = _Run(
        path.parent / _DATA,
        _parents(path.parent / _CONSTRUCT, problems),
        _lines(path.parent / _STACK, problems),
        problems,
    )
    tensors = [one for name, entry in entries.items() for one in run.tensors(name, entry)]
    return ImportedDump(
        title=f"{TITLE} {data.get('level', '')} {data.get('task', '')}".rstrip(),
        precision=guess_precision(one.dtype for one in tensors if not one.may_repeat),
        tensors=number_taps(tensors),
        problems=problems,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """The folder of a step and rank.

    Args:
        folder: The .pt files.
        parents: By entry, the one it was called in.
        lines: By entry, the line of the user's code.
        problems: Receives what is left out.
    """

    folder: Path
    parents: Mapping[str, str]
    lines: Mapping[str, CodeLocation]
    problems: dict[str, str]

    def tensors(self, name: str, entry: Any) -> Iterator[ImportedTensor]:
        if not isinstance(entry, dict):
            self.problems[name] = "what went in and out of it is not written there"
            return
        for part in _PARTS:
            label = part.removesuffix("_args").removesuffix("_kwargs")
            for suffix, found in _leaves(entry.get(part), label):
                tensor = self._tensor(name, part, suffix, found)
                if tensor is not None:
                    yield tensor

    def _tensor(
        self, name: str, part: str, suffix: str, found: Mapping[str, Any]
    ) -> ImportedTensor | None:
        own = f"{name}.{suffix}"
        shape = sizes_in_json(found.get("shape"))
        try:
            dtype = dtype_named(str(found.get("dtype")).removeprefix("torch.")).name
        except TensorError as error:
            self.problems[own] = str(error)
            return None
        if shape is None:
            self.problems[own] = "its shape is damaged"
            return None
        file = found.get("data_name")
        load = partial(load_torch, self.folder / file) if _is_file_name(file) else None
        facts = finite_facts(
            max=found.get("Max"), min=found.get("Min"), mean=found.get("Mean"), l2=found.get("Norm")
        )
        return ImportedTensor(
            self._tap(name, own, part, suffix),
            load,
            dtype,
            shape,
            facts,
            may_repeat=not part.startswith("output"),
        )

    def _tap(self, name: str, own: str, part: str, suffix: str) -> Tap:
        module = _MODULE.fullmatch(name)
        api = None if module else _API.fullmatch(name)
        path, cls = (module["path"], module["cls"]) if module else self._parent(name)
        line = self.lines.get(name)
        return Tap(
            name=own,
            order=0,
            op=api["op"] if api else cls,
            names=_names(module, suffix) if part == "output" else (),
            module=path,
            module_class=cls,
            source=str(line) if line is not None else "",
            code=line.code if line is not None else "",
        )

    def _parent(self, name: str) -> tuple[str, str]:
        match = _MODULE.fullmatch(self.parents.get(name) or "")
        return (match["path"], match["cls"]) if match else ("", "")


def _names(module: re.Match[str] | None, suffix: str) -> tuple[str, ...]:
    """Return the module path as module hooks name its output: a second call is `path#2`."""
    if module is None or module["way"] != "forward":
        return ()
    call = int(module["call"])
    place = suffix.removeprefix("output").removeprefix(".")
    name = module["path"] if call == 0 else f"{module['path']}#{call + 1}"
    return (name, f"{name}.{place}") if place == "0" else (f"{name}.{place}",)


def _is_file_name(name: Any) -> TypeGuard[str]:
    """Whether this is a file of the folder, and not one somewhere else."""
    return isinstance(name, str) and bool(name) and Path(name).name == name


def _leaves(node: Any, label: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every tensor in the arguments, with its place: `input.0`, `output.1.mask`."""
    if isinstance(node, dict):
        if "shape" in node and "dtype" in node:
            yield label, node
            return
        children: Any = node.items() if "type" not in node else ()
    else:
        children = enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from _leaves(child, f"{label}.{key}")


def _parents(path: Path, problems: dict[str, str]) -> dict[str, str]:
    """Return who called each entry. A newer msprobe writes [parent, ...] where an older has parent."""
    data = _side_file(path, problems)
    found = {}
    for name, parent in data.items():
        first = parent[0] if isinstance(parent, list) and parent else parent
        if isinstance(first, str):
            found[name] = first
    return found


def _lines(path: Path, problems: dict[str, str]) -> dict[str, CodeLocation]:
    """Return the user's line of each entry.

    The file holds {"0": [[names], [frames]]}; an older msprobe wrote {name: [frames]}.
    """
    found: dict[str, CodeLocation] = {}
    for key, value in _side_file(path, problems).items():
        if not isinstance(value, list):
            continue
        grouped = len(value) == 2 and all(isinstance(one, list) for one in value)
        names, frames = value if grouped else ([key], value)
        location = _innermost(frames)
        if location is not None:
            found.update(dict.fromkeys((one for one in names if isinstance(one, str)), location))
    return found


def _innermost(frames: list[Any]) -> CodeLocation | None:
    """Return the user's own line. The frames are listed from the innermost outwards."""
    matches = [_FRAME.fullmatch(frame.strip()) for frame in frames if isinstance(frame, str)]
    known = [match for match in matches if match is not None]
    return trace_location(
        "\n".join(
            f'File "{one["file"]}", line {one["line"]}, in {one["scope"]}\n    {one["code"].strip()}'
            for one in reversed(known)
        )
    )


def _side_file(path: Path, problems: dict[str, str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = read_json(path)
    except ModelError as error:
        problems[path.name] = str(error)
        return {}
    return data if isinstance(data, dict) else {}
