"""Which buffers a debug build of AOTInductor saves, and what the program calls their values.

The C++ that AOTInductor wraps around its kernels lies in the package as text. A debug build saves
the arguments of a kernel before and after its call, so a buffer is found after the kernel that
writes it; what an operator outside of Inductor returns is found before the kernel that reads it.
`kernel_information.json` in the package says which nodes of the program each kernel computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["ProgramNode", "SavedBuffer", "SavedBuffers", "name_buffers", "read_wrapper"]

_SAVE = re.compile(
    r'aoti_torch_save_tensor_handle\(\w+, "(\w+)", "(before|after)_launch", "([^"]+)"\)'
)
_LABEL = re.compile(r"// \[Provenance debug handles\] (\S+)")
_ALLOCATION = re.compile(r"\b(?:aoti_torch_empty_strided|aoti_torch_empty_strided_pinned)\(")
_POINTER = re.compile(r"\((const )?[\w:<>]+ ?\*\)\((\w+)\.data_ptr\(\)")
_HANDLE = re.compile(r"&(\w+?)_handle\b")
_IN_PLACE = re.compile(r"\baoti_torch_\w+?_(?:out)?\((\w+),")
_RESULT = re.compile(r"output_handles\[(\d+)\] = (\w+)\.release\(\)")

_NOT_SAVED = "the debug build of torch does not save what this operator returns"
_SAVED_OVER = "the debug build of torch saves it under a name that it uses again"


@dataclass(frozen=True, slots=True)
class SavedBuffer:
    """A buffer as a kernel left it.

    Args:
        name: Name of the buffer: "buf7".
        kernel: The kernel that wrote it, with its number: "cpp_fused_gelu_2:5".
        file: Name of the file that a run of the debug build leaves.
        output: Position among the results of the program; None for an intermediate one.
    """

    name: str
    kernel: str
    file: str
    output: int | None = None

    @property
    def op(self) -> str:
        """The kernel without its number."""
        return self.kernel.rpartition(":")[0] or self.kernel


@dataclass(frozen=True, slots=True)
class SavedBuffers:
    """What a debug build shows, in the order of execution, and what it does not, with the reason."""

    shown: tuple[SavedBuffer, ...]
    hidden: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProgramNode:
    """A node of the program that was compiled.

    Args:
        name: Its name.
        inputs: Names of the nodes it reads.
        dtype: Element type of its result.
        count: Elements of its result, for the example inputs.
    """

    name: str
    inputs: tuple[str, ...]
    dtype: str
    count: int


@dataclass(slots=True)
class _Write:
    name: str
    kernel: str
    is_returned: bool
    file: str = ""


@dataclass(slots=True)
class _Wrapper:
    """What was read of the text so far."""

    kernel: str = ""
    writes: list[_Write] = field(default_factory=list)
    results: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take in one line."""
        if match := _SAVE.search(line):
            self._save(*match.groups())
        elif match := _LABEL.search(line):
            self.kernel = match.group(1)
        elif match := _RESULT.search(line):
            self.results[match.group(2)] = int(match.group(1))
        elif not _ALLOCATION.search(line):
            for name in _HANDLE.findall(line):
                self.writes.append(_Write(name, self.kernel, is_returned=True))
            written = [name for const, name in _POINTER.findall(line) if not const]
            for name in dict.fromkeys([*written, *_IN_PLACE.findall(line)]):
                self.writes.append(_Write(name, self.kernel, is_returned=False))

    def _save(self, buffer: str, phase: str, launch: str) -> None:
        file = f"aoti_torch{phase}_launch_{launch}_{buffer}_cpu.pt"
        self.files.append(file)
        write = next((one for one in reversed(self.writes) if one.name == buffer), None)
        if write is None or write.file:
            return
        if write.is_returned or (phase == "after" and write.kernel == self.kernel):
            write.file = file


def read_wrapper(text: str) -> SavedBuffers:
    """Find the buffers that a debug build saves.

    Args:
        text: The file *.wrapper.cpp of its package.
    """
    wrapper = _Wrapper()
    for line in text.splitlines():
        wrapper.read(line)
    shown, hidden = [], {}
    last = {write.name: at for at, write in enumerate(wrapper.writes)}
    for at, write in enumerate(wrapper.writes):
        output = wrapper.results.get(write.name) if last[write.name] == at else None
        if not write.file and output is None:
            hidden[f"{write.name} of {write.kernel}"] = _NOT_SAVED
        elif output is None and wrapper.files.count(write.file) > 1:
            hidden[f"{write.name} of {write.kernel}"] = _SAVED_OVER
        else:
            shown.append(SavedBuffer(write.name, write.kernel, write.file, output))
    return SavedBuffers(tuple(shown), hidden)


def name_buffers(
    buffers: Iterable[SavedBuffer],
    kernels: Mapping[str, Sequence[str]],
    nodes: Sequence[ProgramNode],
    forms: Mapping[str, tuple[str, int]],
) -> tuple[dict[SavedBuffer, str], dict[SavedBuffer, tuple[str, ...]]]:
    """Say which node of the program each buffer holds, and which are computed on the way.

    A kernel ends in the nodes that no other one of its nodes reads. Where exactly one buffer it
    writes has as many elements of the same type as such a node, that is the node's value. A kernel
    that only prepares an operand carries the name of the operator, too: the last one is meant.

    Args:
        buffers: Buffers that are shown.
        kernels: For each kernel, with its number, the nodes it computes.
        nodes: The nodes of the program in order.
        forms: Element type and count of each buffer, by file, for the example inputs.

    Returns:
        The node of each buffer that has one; the other nodes of the kernel of each buffer.
    """
    order = {node.name: at for at, node in enumerate(nodes)}
    known = {node.name: node for node in nodes}
    inside = {
        kernel: tuple(sorted(filter(known.__contains__, set(names)), key=order.__getitem__))
        for kernel, names in kernels.items()
    }
    ends: dict[str, str] = {}  # the last kernel that ends in a node
    for kernel in sorted(inside, key=_number):
        read = {name for one in inside[kernel] for name in known[one].inputs}
        ends.update({name: kernel for name in inside[kernel] if name not in read})
    held = list(buffers)
    names: dict[SavedBuffer, str] = {}
    for name, kernel in ends.items():
        form = known[name].dtype, known[name].count
        alike = [one for one in held if one.kernel == kernel and forms.get(one.file) == form]
        if len(alike) == 1 and alike[0] not in names:
            names[alike[0]] = name
    covers = {
        one: tuple(name for name in inside.get(one.kernel, ()) if name != names.get(one))
        for one in held
    }
    return names, covers


def _number(kernel: str) -> int:
    number = kernel.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0
