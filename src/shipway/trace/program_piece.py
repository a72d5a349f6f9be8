"""A few nodes of a program, run by themselves: as they are, rounded, or with a usual mistake in one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.exported import to_tensors, torch_settings
from shipway.engines.torch.flat_program import FlatProgram
from shipway.engines.torch.walking import Memory, own_array
from shipway.engines.torch.widening import is_assertion, to_double, widen_arguments
from shipway.errors import TensorError, UsageError
from shipway.tensors import Tensors
from shipway.trace.golden import Operator, Variant
from shipway.trace.mistakes.calls import bind_arguments
from shipway.trace.mistakes.table import usual_mistakes
from shipway.trace.program_piece_file import save_piece

__all__ = ["ProgramPiece", "cut_piece"]

Edits = Mapping[Any, Callable[[dict[str, Any]], Any]]


def cut_piece(
    flat: FlatProgram, memory: Memory, name: str, starts: Collection[str]
) -> ProgramPiece:
    """Return the nodes that lead to a tensor from others.

    Sizes that come from tensors before the piece are those of the last walk.

    Args:
        flat: The program.
        memory: What the last walk left behind.
        name: The tensor at the end.
        starts: The tensors to start from where one is met; inputs of the model always count.

    Raises:
        UsageError: There is no such tensor, or it is an input.
    """
    by_name = {node.name: node for node in flat.nodes}
    end = by_name.get(name)
    if end is None or end in flat.placeholders or end in flat.weights:
        raise UsageError(
            f"No operator of the program computes '{name}'.", hint="shipway trace MODEL lists them."
        )
    stops = {by_name[one] for one in starts if one in by_name} - {end} | set(flat.placeholders)
    inside, met = _closure(flat, memory, end, stops)
    nodes = tuple(node for node in flat.nodes if node in inside)
    return ProgramPiece(flat, memory, nodes, tuple(node for node in flat.nodes if node in met))


def _closure(
    flat: FlatProgram, memory: Memory, end: Any, stops: set[Any]
) -> tuple[set[Any], set[Any]]:
    """Return the nodes that compute `end`, and the stops they read.

    A stop that is a name for memory which the piece writes to is in both: it is computed, to be a
    name of that memory, and takes the given numbers.
    """
    order = {node: at for at, node in enumerate(flat.nodes)}
    inside: set[Any] = set()
    met: set[Any] = set()
    queue: list[tuple[Any, Any]] = [(end, None)]
    while queue:
        node, anchor = queue.pop()
        again = anchor is not None and _names(flat, node, anchor) and order[node] > order[anchor]
        if node in inside or (node in met and not again):
            continue
        if node in stops:
            met.add(node)
        if again or node not in stops:
            inside.add(node)
            if node not in memory.sizes and node not in flat.weights:
                queue.extend((source, anchor) for source in node.all_input_nodes)
        queue.extend((writer, node) for writer in _writers(flat, node, order, order[end]))
    return inside, met


def _names(flat: FlatProgram, node: Any, other: Any) -> bool:
    """Whether two nodes are names for one memory."""
    return flat.writing.group[node] is flat.writing.group[other]


def _writers(flat: FlatProgram, node: Any, order: Mapping[Any, int], end: int) -> Iterator[Any]:
    """Yield the nodes that write into the memory of a node between it and the end of the piece."""
    for writer, targets in flat.writing.written.items():
        if order[node] < order[writer] < end and any(_names(flat, one, node) for one in targets):
            yield writer


class ProgramPiece:
    """Nodes of a program between tensors; see `shipway.trace.golden.Piece`."""

    def __init__(
        self, flat: FlatProgram, memory: Memory, nodes: tuple[Any, ...], starts: tuple[Any, ...]
    ) -> None:
        """Keep the nodes; nothing is computed yet.

        Args:
            flat: The program.
            memory: What the last walk left behind.
            nodes: The nodes to compute, in order; the weights they read are among them.
            starts: The tensors they start from.
        """
        self._flat = flat
        self._memory = Memory(dict(memory.sizes), dict(memory.draws), dict(memory.forms))
        self._nodes = nodes
        self._starts = starts
        self.output: str = nodes[-1].name
        self.inputs: tuple[str, ...] = tuple(node.name for node in starts)
        self.operators: tuple[Operator, ...] = tuple(self._operators())

    def _operators(self) -> Iterator[Operator]:
        taps = {tap.name: tap for tap in self._flat.taps}
        for node in self._nodes:
            if node.op == "call_function" and node.name in taps and node not in self._starts:
                tap = taps[node.name]
                inputs = tuple(dict.fromkeys(self._read_by(node)))
                yield Operator(node.name, tap.op, inputs, tap.module, tap.source, tap.code)

    def _read_by(self, node: Any) -> Iterator[str]:
        """Yield the tensors that a node reads; a tuple it takes something out of is seen through."""
        taps = {tap.name for tap in self._flat.taps}
        for source in node.all_input_nodes:
            if source in self._memory.sizes or source.op == "get_attr":
                continue
            if source.name in taps or source in self._flat.weights:
                yield source.name
            else:
                yield from self._read_by(source)

    def run(self, feeds: Tensors, rounding: str = "f32") -> NDArray[Any]:
        """Compute the tensor at the end; see `Piece.run`.

        Raises:
            UsageError: There is no such rounding.
            TensorError: A feed is missing or has another number of elements.
            EngineError: An operator failed.
        """
        return self._run(feeds, rounding, {})

    def variants(self) -> Iterator[Variant]:
        """Yield what the usual mistakes with these operators would give.

        Every variant gives a tensor of the right shape.
        """
        for node in (node for node in self._nodes if node not in self._starts):
            for mistake in usual_mistakes(node):

                def run(feeds: Tensors, node: Any = node, apply: Any = mistake.apply) -> Any:
                    return self._run(feeds, "f32", {node: apply})

                yield Variant(mistake.cause, mistake.title, self._shown_as(node), run)

    def _shown_as(self, node: Any) -> str:
        """Return the name of the operator: that of the first part, where it gives a tuple."""
        names = {one.name for one in self.operators}
        users = (user.name for user in node.users if user.name in names)
        return str(node.name if node.name in names else next(users, node.name))

    def save(self, folder: Path) -> Path:
        """Write the piece as `piece.pt2`, its inputs in the order of `inputs`; return its path.

        Where torch cannot export it, `piece.txt` (the nodes, readable) and `piece.npz` (the weights)
        are written instead, and the path of the former is returned.

        Raises:
            OutputError: The folder cannot be written to.
        """
        return save_piece(self._flat, self._memory, self._nodes, self._starts, folder)

    def _run(self, feeds: Tensors, rounding: str, edits: Edits) -> NDArray[Any]:
        round_value = _rounding(rounding)
        wide = rounding == "f64"
        with torch_settings(self._flat.threads):
            given = {node: round_value(self._start(node, feeds)) for node in self._starts}
            values = dict(given)
            for node in self._nodes:
                result = self._compute(node, values, edits, wide=wide)
                if node in given:  # a name for memory that is written to: it takes what is given
                    result.copy_(given[node])
                values[node] = self._settled(node, result, round_value(result))
                for done in self._flat.last_use.get(node, ()):
                    if done is not node:
                        values.pop(done, None)
            return own_array(values[self._nodes[-1]])

    def _settled(self, node: Any, result: Any, rounded: Any) -> Any:
        """Return a rounded result; where its memory has other names, they see it too."""
        if rounded is result or node not in self._flat.writing.last:
            return rounded
        if isinstance(result, tuple | list):
            pairs = zip(result, rounded, strict=True)
            return type(result)(self._settled(node, *pair) for pair in pairs)
        return rounded if result.dtype != rounded.dtype else result.copy_(rounded)

    def _start(self, node: Any, feeds: Tensors) -> Any:
        import torch

        given = feeds.get(node.name)
        if given is None:
            raise TensorError(
                f"The piece that computes '{self.output}' starts from '{node.name}', which is not "
                "given.",
                hint=f"It takes: {', '.join(self.inputs)}.",
            )
        form = self._memory.forms.get(node)
        shape = given.shape if form is None else tuple(form.shape)
        if given.size != np.prod(shape, dtype=np.int64):
            raise TensorError(f"'{node.name}' is {list(given.shape)}; golden's is {list(shape)}.")
        (tensor,) = to_tensors([np.reshape(given, shape)], copy=True)
        if form is None:
            tensor = tensor.to(node.meta["val"].dtype)
            return to_double(tensor) if self._flat.double else tensor
        # In golden's order in memory: kernels add up in another order where the strides are others.
        return torch.empty_like(form, device="cpu").copy_(tensor)

    def _compute(self, node: Any, values: Mapping[Any, Any], edits: Edits, *, wide: bool) -> Any:
        import torch

        if node in self._flat.weights:
            weight = self._flat.weights[node]
            return weight.clone() if node in self._flat.writing.last else weight
        if node in self._memory.sizes:
            return self._memory.sizes[node]
        if wide and is_assertion(node):
            return None
        if node.op != "call_function":
            return self._flat.compute(node, values.__getitem__)
        arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        args, kwargs = widen_arguments(node, *arguments) if wide else arguments
        if node in edits:
            return self._edited(node, edits[node], args, kwargs)
        return self._draw(node, args, kwargs)

    def _edited(self, node: Any, apply: Callable[[Any], Any], args: Any, kwargs: Any) -> Any:
        """Compute a node another way; an operator that writes to its argument still does."""
        if node.target is operator.getitem:
            return self._flat.call(node, apply, ({"parts": args[0]},), {})
        result = self._flat.call(node, apply, (bind_arguments(node.target, args, kwargs),), {})
        return args[0].copy_(result) if node in self._flat.writing.written else result

    def _draw(self, node: Any, args: Any, kwargs: Any) -> Any:
        """Call a node with the random numbers it drew in the last walk."""
        import torch

        state = self._memory.draws.get(node)
        if state is None:
            return self._flat.call(node, node.target, args, kwargs)
        outer = torch.get_rng_state()
        torch.set_rng_state(state)
        try:
            return self._flat.call(node, node.target, args, kwargs)
        finally:
            torch.set_rng_state(outer)


def _rounding(name: str) -> Callable[[Any], Any]:
    """Return what is done to every input, weight and result.

    Raises:
        UsageError: There is no such rounding.
    """
    import torch

    if name == "f32":
        return lambda value: value
    if name == "f64":
        return to_double
    narrow = {"bf16": torch.bfloat16, "f16": torch.float16}.get(name)
    if narrow is None:
        raise UsageError(f"No rounding '{name}'.", hint="One of: f32, f64, bf16, f16.")

    def round_value(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(narrow).to(value.dtype) if value.is_floating_point() else value
        if isinstance(value, tuple | list):
            return type(value)(map(round_value, value))
        return value

    return round_value
