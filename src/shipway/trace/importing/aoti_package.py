"""What a package of AOTInductor says of its kernels: their order, their buffers, their nodes.

`kernel_information.json` maps `{kernel}:{launch}` to the nodes it computes, of the program before and
after lowering, and to the user's lines; it is there if INDUCTOR_PROVENANCE=1 was set. `*.wrapper.cpp`
has the launches in order, each behind a comment with that same key, and the calls that save tensors
around it: which tensors a kernel writes can be read from its arguments, `(float*)` for one that it
writes and `(const float*)` for one that it reads. A package holds both.

Source: torch 2.13, as it compiles; neither file is documented.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway.errors import UsageError
from shipway.source.locations import CodeLocation, trace_location

__all__ = ["INFORMATION", "Launch", "Provenance", "read_provenance"]

INFORMATION = "kernel_information.json"
_HANDLE = re.compile(r"// \[Provenance debug handles\] (?P<key>\w+:\d+)")
_SAVE = re.compile(
    r'aoti_torch_save_tensor_handle\(.+?, "(?P<buffer>\w+)", "(?P<when>before|after)_launch", '
    r'"(?P<kernel>\w+)"\)'
)
_CALLED = re.compile(r"AOTI_TORCH_ERROR_CODE_CHECK\((?P<kernel>\w+)\((?P<arguments>.*)")
_GENERATED = re.compile(r"\s*(?P<kernel>\w+)\((?P<arguments>.*data_ptr\(\).*)")
_RETURNED = re.compile(r"&(?P<buffer>\w+)_handle\b")
_WRITTEN = re.compile(r"\((?!const )[\w: ]+\*\)\((?P<buffer>\w+)\.data_ptr\(\)\)")
_FIRST = re.compile(r"(?P<buffer>\w+),")
_OUTPUT = re.compile(r"output_handles\[\d+\] = (?P<buffer>\w+)\.release\(\)")


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel.

    Args:
        kernel: Its name.
        nodes: Nodes of the program that it computes, in their order; () where that is not known.
        line: The user's line of the last one.
        buffers: The tensors that were saved around it, in the order of its arguments.
        results: The tensors that it computes. Those among `buffers` were written in place; the
            others are new, and saved by the launch that reads them.
    """

    kernel: str
    nodes: tuple[str, ...] = ()
    line: CodeLocation | None = None
    buffers: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of the launches of a package.

    Args:
        launches: In their order; without the generated code, those with nodes alone.
        has_buffers: Whether the buffers of each launch are known.
        outputs: Buffers that the model returns.
    """

    launches: tuple[Launch, ...]
    has_buffers: bool
    outputs: frozenset[str] = frozenset()


def read_provenance(path: Path) -> Provenance:
    """Read a package, or a `kernel_information.json` taken out of one.

    Raises:
        UsageError: The file is absent or damaged, or says nothing of kernels.
    """
    hint = f"Give the package (.pt2) of the run, compiled with INDUCTOR_PROVENANCE=1, or its {INFORMATION}."
    try:
        if path.suffix == ".json":
            return Provenance(tuple(_launches(json.loads(path.read_text("utf-8"))).values()), False)
        with zipfile.ZipFile(path) as package:
            texts = dict(_texts(package))
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"The map {path} cannot be read: {error}.", hint=hint) from error
    known = _launches(json.loads(texts.get(INFORMATION, "{}")))
    launches = tuple(_from_code(texts.get("wrapper", ""), known))
    if not known and not launches:
        raise UsageError(f"{path} says nothing of its kernels.", hint=hint)
    outputs = {one["buffer"] for one in _OUTPUT.finditer(texts.get("wrapper", ""))}
    return Provenance(launches or tuple(known.values()), bool(launches), frozenset(outputs))


def _texts(package: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    for name in package.namelist():
        if name.endswith(f"/{INFORMATION}"):
            yield INFORMATION, package.read(name).decode()
        elif name.endswith(".wrapper.cpp"):
            yield "wrapper", package.read(name).decode()


def _launches(data: dict[str, Any]) -> dict[str, Launch]:
    """Return the launches by their key, in order."""
    found = {}
    for key, known in data.items():
        nodes = _texts_in(known, "pre_grad_nodes") or _texts_in(known, "post_grad_nodes")
        traces = _texts_in(known, "stack_traces")
        # Both lists begin with what is computed last.
        line = trace_location(traces[0]) if traces else None
        found[key] = Launch(_kernel(key), tuple(reversed(nodes)), line)
    return dict(sorted(found.items(), key=lambda item: _number(item[0])))


def _texts_in(known: Any, name: str) -> list[str]:
    listed = known.get(name)
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def _kernel(key: str) -> str:
    return key.rpartition(":")[0] or key


def _number(key: str) -> int:
    number = key.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def _from_code(text: str, known: dict[str, Launch]) -> Iterator[Launch]:
    """Yield the launches that the generated code saves tensors around."""
    handles: dict[str, str] = {}
    current: Launch | None = None
    is_over = True
    for line in text.splitlines():
        if (handle := _HANDLE.search(line)) is not None:
            handles[_kernel(handle["key"])] = handle["key"]
        elif (save := _SAVE.search(line)) is not None:
            if save["when"] == "before" and is_over:
                if current is not None:
                    yield current
                # Each key is taken once: a launch without one of its own must not get another's.
                like = known.get(handles.pop(save["kernel"], ""))
                current = Launch(save["kernel"], *((like.nodes, like.line) if like else ()))
            is_over = save["when"] == "after"
            if current is not None and save["buffer"] not in current.buffers:
                current.buffers.append(save["buffer"])
        elif current is not None and not is_over:
            current.results.extend(_results(line, current.kernel))
    if current is not None:
        yield current


def _results(line: str, kernel: str) -> list[str]:
    """Return the tensors that a call computes; none where the line is not a call of the kernel."""
    called = _CALLED.search(line)
    if called is not None and called["kernel"] == kernel:
        returned = [one["buffer"] for one in _RETURNED.finditer(called["arguments"])]
        first = _FIRST.match(called["arguments"]) if kernel.endswith("_out") else None
        return [first["buffer"]] if first is not None else returned
    generated = _GENERATED.match(line)
    if generated is not None and generated["kernel"] == kernel:
        return [one["buffer"] for one in _WRITTEN.finditer(generated["arguments"])]
    return []
