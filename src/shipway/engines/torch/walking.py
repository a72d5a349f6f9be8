"""Run a program node by node, twice in lock step: pure, and fed with an engine's own tensors.

The second execution ("teacher-forced") exists only where it differs: a value that nothing changed
is shared by both, and what is computed from shared values is computed once.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from shipway.engines.exported import memory_of, torch_settings
from shipway.engines.torch.flat_program import FlatProgram
from shipway.export.example import to_numpy
from shipway.tensors import Tensors

__all__ = ["SEED", "Actual", "Memory", "Step", "own_array", "same_bits", "walk"]

SEED = 0
"""Random operators draw from it, as when the name map was checked on numbers."""

Actual = Callable[["Step"], Any]
"""Given a step, returns the tensor to go on with, or None for golden's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A tensor, as both executions have just computed it. It changes when the walk goes on.

    Args:
        node: Which node.
        value: From the inputs alone: a torch tensor.
        local: From the tensors that were forced; the same object where none lies before it.
    """

    node: Any
    value: Any
    local: Any


@dataclass(slots=True, eq=False)
class Memory:
    """What a walk leaves behind for those who run a part of it again.

    Args:
        sizes: Value of each node that gives a number or a flag: a dynamic size, say.
        draws: State of the random numbers before each node that draws.
        forms: For each tensor one without memory, of its sizes, dtype and order in memory.
    """

    sizes: dict[Any, Any] = field(default_factory=dict)
    draws: dict[Any, Any] = field(default_factory=dict)
    forms: dict[Any, Any] = field(default_factory=dict)

    def note(self, node: Any, value: Any) -> None:
        """Keep what a piece of the program needs to know of a value it does not compute."""
        import torch

        if isinstance(value, int | float | bool):
            self.sizes[node] = value
        elif isinstance(value, torch.Tensor):
            self.forms[node] = torch.empty_like(value, device="meta")


def walk(
    flat: FlatProgram, feeds: Tensors, actual: Actual, memory: Memory | None = None
) -> Iterator[Step]:
    """Run a program once and yield its tensors in order: inputs first.

    Args:
        flat: The program.
        feeds: Every input by name.
        actual: Asked for each tensor after it was yielded, inputs and weights excepted.
        memory: Filled on the way.

    Raises:
        TensorError: A feed does not fit.
        EngineError: An operator failed.
    """
    both = _Executions(flat, flat.bind(feeds), memory)
    shown = {tap.name for tap in flat.taps}
    for node in flat.placeholders:
        if memory is not None:
            memory.note(node, both.pure[node])
        yield Step(node, both.pure[node], both.pure[node])
    inputs = set(flat.placeholders)
    for at, node in enumerate(flat.nodes):
        if node in inputs:
            continue
        with torch_settings(flat.threads):
            both.compute(node)
        if node.name in shown:
            step = both.step(node)
            yield step
            given = actual(step) if node.op == "call_function" else None
            del step
            if given is not None:
                with torch_settings(flat.threads):
                    both.force(node, given, at)
        both.release(node)


class _Executions:
    """The values of two executions that are still needed; `forced` has only those that differ."""

    def __init__(self, flat: FlatProgram, values: Mapping[Any, Any], memory: Memory | None) -> None:
        import torch

        self.flat = flat
        self.pure: dict[Any, Any] = dict(values)
        self.forced: dict[Any, Any] = {}
        self._memory = memory
        self._draws = torch.Generator().manual_seed(SEED).get_state()
        self._before = self._draws

    def step(self, node: Any) -> Step:
        return Step(node, self.pure[node], self._local(node))

    def _local(self, node: Any) -> Any:
        return self.forced[node] if node in self.forced else self.pure[node]

    def compute(self, node: Any) -> None:
        """Compute a node in both executions, or once where they do not differ."""
        if node.op == "placeholder":
            return
        apart = any(source in self.forced for source in node.all_input_nodes)
        if apart and node in self.flat.writing.written:
            self._fork(self.flat.writing.written[node])
        with self._drawing(node):
            self.pure[node] = self.flat.compute(node, self.pure.__getitem__)
        if apart:
            with self._drawing(node, again=True):
                self.forced[node] = self.flat.compute(node, self._local)
        if self._memory is not None:
            self._memory.note(node, self.pure[node])

    def force(self, node: Any, given: Any, at: int) -> None:
        """Go on with another tensor in the second execution.

        Where its memory is written to here or later, the numbers are put into that memory, so that
        the program's other names for it see them too.
        """
        if self.flat.writing.last.get(node, -1) < at:
            if same_bits(self.pure[node], given):
                self.forced.pop(node, None)
            else:
                self.forced[node] = given
        elif not same_bits(self._local(node), given):
            self._fork((node,))
            if _overlaps(self.forced[node]) or self.forced[node].shape != given.shape:
                self.forced[node] = given.clone()
            else:
                self.forced[node].copy_(given)

    def _fork(self, nodes: tuple[Any, ...]) -> None:
        """Give the second execution its own copy of shared memory, under all its names."""
        together = [node for node in nodes if node not in self.forced]
        storages = memory_of(item for node in together for item in _tensors(self.pure[node]))
        copies: dict[int, Any] = {}
        for node, value in self.pure.items():
            if node not in self.forced and not storages.isdisjoint(memory_of(_tensors(value))):
                self.forced[node] = copy.deepcopy(value, copies)

    def release(self, node: Any) -> None:
        for done in self.flat.last_use.get(node, ()):
            self.pure.pop(done, None)
            self.forced.pop(done, None)

    @contextlib.contextmanager
    def _drawing(self, node: Any, *, again: bool = False) -> Iterator[None]:
        """Draw from a stream of this walk's own, the same in both executions."""
        if node not in self.flat.random:
            yield
            return
        import torch

        outer = torch.get_rng_state()
        if not again:
            self._before = self._draws
            if self._memory is not None:
                self._memory.draws[node] = self._before
        torch.set_rng_state(self._before)
        try:
            yield
            self._draws = torch.get_rng_state()
        finally:
            torch.set_rng_state(outer)


def own_array(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array of its own, in C order."""
    return to_numpy(tensor.contiguous())


def same_bits(golden: Any, actual: Any) -> bool:
    """Whether two tensors are the same bit for bit: NaN equals itself, and -0 is not 0."""
    import torch

    if golden.shape != actual.shape or golden.dtype != actual.dtype:
        return False
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[golden.element_size()]
    left, right = (item.reshape(-1).view(integer) for item in (golden, actual))
    return bool(torch.equal(left, right))


def _tensors(value: Any) -> Iterator[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _overlaps(tensor: Any) -> bool:
    """Whether several elements share one place in memory (an expanded tensor)."""
    return any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
