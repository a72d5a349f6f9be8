"""Tensors that AOTInductor saves around its kernels: AOT_INDUCTOR_DEBUG_INTERMEDIATE_VALUE_PRINTER=1.

A model compiled with that variable writes, into the folder it runs in,
`tmp/aoti_torch{before,after}_launch_{kernel}_{buffer}_{device}.pt` for every tensor argument of every
kernel (torch 2.13; the slash behind `aoti_torch` is missing there, and may come back): what it reads
and what it writes, before the launch and after it. Memory that nothing was written to yet is among
these, and what a call out of the generated code returns (`aoti_torch_cpu_convolution`) is only seen
before the kernel that reads it.

With the package of the run, `aoti_package` tells all this apart: each tensor that is computed is
kept, once. Without it, the order is that of the files' times, and what may be memory that was not
written to is left out.

Source: torch/_inductor/codegen/debug_utils.py and shim_common.cpp of torch 2.13; tried on a model
that it compiled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from shipway.engines.tapping import Tap, TapKind
from shipway.errors import TensorError
from shipway.trace.importing.aoti_package import Launch, Provenance, read_provenance
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    guess_precision,
    load_torch,
    natural_key,
    number_taps,
)

__all__ = ["detect_aotinductor", "read_aotinductor"]

TITLE = "AOTInductor intermediate values"
_FILE = re.compile(
    r"(?:aoti_torch)?(?P<when>before|after)_launch_(?P<rest>.+?)_(?P<device>cpu|cuda:?\d*|xpu:?\d*)\.pt"
)
_GENERATED = re.compile(r"(?P<kernel>(?:cpp|triton)_\w*?_\d+)_(?P<buffer>\w+)")
_CALLED = re.compile(r"(?P<kernel>\w+?)_(?P<buffer>(?:buf|arg|primals_)\d+\w*)")
_UNWRITTEN = "memory of a result before anything was written to it"

_Files = Mapping[tuple[str, str, bool], Path]
"""Files by kernel, buffer, and whether they were saved after the launch."""


def detect_aotinductor(path: Path) -> bool:
    """Whether this is a folder of such files, or one that has them in `tmp`."""
    return path.is_dir() and next(iter(_files(path)), None) is not None


def _files(path: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for folder in (path, path / "tmp", path / "aoti_torch", path / "tmp" / "aoti_torch"):
        for file in folder.glob("*_launch_*.pt"):
            match = _FILE.fullmatch(file.name)
            if match is not None:
                yield file, match


def read_aotinductor(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through the files of a run.

    Args:
        path: The folder the model ran in, or the one with the files.
        mapping: The package (.pt2) of the run, or its `kernel_information.json`; None: the tensors
            get no names, and their order is a guess.

    Raises:
        UsageError: The map cannot be read.
    """
    provenance = Provenance((), False) if mapping is None else read_provenance(mapping)
    problems: dict[str, str] = {}
    files = _look(path, {one.kernel for one in provenance.launches}, problems)
    if provenance.has_buffers:
        tensors = list(_known(files, provenance, problems))
    else:
        tensors = list(_guessed(files, provenance.launches, problems))
    notes = {"map": "none was given; the package (.pt2) of the run names nodes and order"}
    return ImportedDump(
        title=TITLE,
        precision=guess_precision(one.dtype for one in tensors),
        tensors=number_taps(tensors),
        problems=problems,
        notes={} if provenance.has_buffers else notes,
    )


def _look(path: Path, kernels: Collection[str], problems: dict[str, str]) -> _Files:
    found = {}
    for file, match in _files(path):
        parts = _split(match["rest"], kernels)
        if parts is None:
            problems[file.name] = (
                "where its kernel's name ends and its buffer's begins is not clear"
            )
        else:
            found[*parts, match["when"] == "after"] = file
    return found


def _split(text: str, kernels: Collection[str]) -> tuple[str, str] | None:
    """Return kernel and buffer of `{kernel}_{buffer}`: both may have underscores in them."""
    known = [one for one in kernels if text.startswith(f"{one}_")]
    if known:
        kernel = max(known, key=len)
        return kernel, text[len(kernel) + 1 :]
    match = _GENERATED.fullmatch(text) or _CALLED.fullmatch(text)
    return None if match is None else (match["kernel"], match["buffer"])


def _known(
    files: _Files, provenance: Provenance, problems: dict[str, str]
) -> Iterator[ImportedTensor]:
    """Yield the inputs, and what each launch computes, in the order of the generated code."""
    seen: set[str] = set()
    returned: dict[str, Launch] = {}
    for launch in provenance.launches:
        written = [one for one in launch.buffers if one in launch.results]
        for buffer in launch.buffers:
            first = buffer not in seen
            if first and (buffer in returned or buffer not in written):
                maker = returned.pop(buffer, None)
                path = files.get((launch.kernel, buffer, False))
                yield from _made(path, buffer, maker, provenance, problems)
        for buffer in written:
            path = files.get((launch.kernel, buffer, True))
            yield from _made(path, buffer, launch, provenance, problems)
        seen.update(launch.buffers)
        returned.update(dict.fromkeys(set(launch.results) - set(launch.buffers), launch))
    for buffer, launch in returned.items():
        problems[buffer] = f"{launch.kernel} returns it, and no kernel that saves tensors reads it"


def _made(
    path: Path | None,
    buffer: str,
    maker: Launch | None,
    provenance: Provenance,
    problems: dict[str, str],
) -> Iterator[ImportedTensor]:
    """Yield a buffer with what is known of who made it; None: it came into the generated code."""
    if path is None:
        problems[buffer] = "the generated code saves it, and its file is not there"
        return
    dtype, shape = _facts(path)
    load = partial(load_torch, path)
    if maker is None:
        kind: TapKind = "input" if buffer.startswith("arg") else "value"
        yield ImportedTensor(Tap(buffer, 0, kind=kind), load, dtype, shape)
        return
    tap = _with_nodes(Tap(buffer, 0, op=maker.kernel), maker, alone=len(maker.results) == 1)
    is_output = buffer in provenance.outputs
    yield ImportedTensor(replace(tap, kind="output" if is_output else "value"), load, dtype, shape)


def _with_nodes(tap: Tap, launch: Launch, *, alone: bool) -> Tap:
    """Return the tap with the nodes of its kernel; the last one is its own where it is alone."""
    return replace(
        tap,
        names=launch.nodes[-1:] if alone else (),
        covers=launch.nodes[:-1] if alone else launch.nodes,
        source="" if launch.line is None else str(launch.line),
        code="" if launch.line is None else launch.line.code,
    )


def _guessed(
    files: _Files, launches: Sequence[Launch], problems: dict[str, str]
) -> Iterator[ImportedTensor]:
    """Yield everything that may be a tensor of the model, in the order of the files' times.

    What a call out of the generated code reads comes last: nearly all of it is a copy of what
    another kernel wrote, and the files of two calls of one name cannot be told apart.
    """
    times = Counter(one.kernel for one in launches)
    known = {one.kernel: one for one in launches if times[one.kernel] == 1}
    seen: set[str] = set()
    last: list[ImportedTensor] = []
    called_out = False
    for kernel in _by_time(files, {one.kernel: place for place, one in enumerate(launches)}):
        buffers = sorted({buffer for owner, buffer, _ in files if owner == kernel}, key=natural_key)
        tensors = list(_around(files, kernel, buffers, known.get(kernel)))
        if _is_called(kernel):
            last.extend(one for one in tensors if _is_result(one))
            yield from (one for one in tensors if not _is_result(one))
        else:
            unwritten = {
                f"{kernel}.{buffer}.before": buffer
                for buffer in buffers
                if buffer.startswith("buf") and buffer not in seen and not called_out
            }
            for one in tensors:
                if one.tap.name in unwritten:
                    path = files[kernel, unwritten[one.tap.name], False]
                    problems[path.name] = _UNWRITTEN
                else:
                    yield one
        called_out = _is_called(kernel)
        seen.update(buffers)
    yield from last


def _around(
    files: _Files, kernel: str, buffers: Sequence[str], launch: Launch | None
) -> Iterator[ImportedTensor]:
    """Yield what was saved before a launch, then what was saved after it."""
    for is_after in (False, True):
        for buffer in buffers:
            path = files.get((kernel, buffer, is_after))
            if path is not None and is_after:
                yield _unclear(path, kernel, buffer, "", launch)
            elif path is not None:
                yield _unclear(path, kernel, buffer, ".before", None)


def _is_result(tensor: ImportedTensor) -> bool:
    """Whether a kernel computed it: inputs and weights have other names."""
    return ".buf" in tensor.tap.name


def _unclear(
    path: Path, kernel: str, buffer: str, when: str, launch: Launch | None
) -> ImportedTensor:
    tap = Tap(f"{kernel}.{buffer}{when}", 0, op=kernel)
    tap = tap if launch is None else _with_nodes(tap, launch, alone=False)
    dtype, shape = _facts(path)
    return ImportedTensor(tap, partial(load_torch, path), dtype, shape, may_repeat=True)


def _is_called(kernel: str) -> bool:
    """Whether the generated code calls it, and it returns its result as a new tensor."""
    return not kernel.startswith(("cpp_", "triton_")) and not kernel.endswith("_out")


def _by_time(files: _Files, places: Mapping[str, int]) -> list[str]:
    """Return the kernels in the order they were launched, as far as that can be told.

    The clock of a file system ticks every few milliseconds; within a tick it is the order of the
    buffers, which are numbered as they are made.
    """
    order: dict[str, tuple[float, ...]] = {}
    for kernel in {owner for owner, _, _ in files}:
        mine = [(path, buffer) for (owner, buffer, _), path in files.items() if owner == kernel]
        written_at = min(path.stat().st_mtime_ns for path, _ in mine)
        number = max(
            (int(one) for _, name in mine for one in re.findall(r"^buf(\d+)", name)), default=-1
        )
        order[kernel] = (places.get(kernel, -1), written_at, number + 0.5 * _is_called(kernel))
    return sorted(order, key=lambda kernel: (order[kernel], natural_key(kernel)))


def _facts(path: Path) -> tuple[str, tuple[int, ...] | None]:
    """Return type and shape of the tensor in a file, for guesses; loading says what is wrong."""
    try:
        value = load_torch(path)
    except TensorError:
        return "", None
    return value.dtype.name, value.shape
