"""What each value of an optimised graph holds, in the names of the model ONNX Runtime was given."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from shipway.engines.onnxruntime.layout import NCHWC, REORDERS
from shipway.graph.segments import SegmentedGraph

if TYPE_CHECKING:
    from onnx import NodeProto, TypeProto

__all__ = ["Origins"]

Perm = tuple[int, ...]
_Found = tuple[str, Perm | None]
_BLOCKED_NAME = re.compile(r"(.*)_nchwc(?:_token_\d+)?")
_SUM_INPUT = 3
_FLOATS = frozenset({1, 10, 11, 16})
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_NO_PERM: Perm = (-1,)  # it has its elements in an order that cannot be told
_INSERTED_CAST = "InsertedPrecisionFreeCast_"


class Origins:
    """The names that can be told from the structure; `compare.matching` tells the others by content.

    Args:
        original: The model as it was given.
        optimised: What ONNX Runtime made of it.
        blocked: Its values in the blocked layout.
        types: Types of values of the original, as far as they are known.
    """

    def __init__(
        self,
        original: SegmentedGraph,
        optimised: SegmentedGraph,
        blocked: Collection[str],
        types: Mapping[str, TypeProto],
    ) -> None:
        """Walk the optimised graph once, forwards."""
        self._blocked = blocked
        self._types = types
        self._original = original
        self._optimised = optimised
        self._readers = _readers_of(original)
        self._by_name = {node.name: node for node in original.nodes if node.name}
        self._varying = original.varying()
        self._changing = {*self._varying, *original.inputs}
        self._names: dict[str, str] = {name: name for name in original.inputs}
        self._perms: dict[str, Perm] = {}
        for node in optimised.nodes:
            self._visit(node)
        self._name_by_reader()
        for node in optimised.nodes:
            self._visit(node)
        self._claimed = {*self._names.values()}

    def names_of(self, value: str) -> tuple[str, ...]:
        """Return the name of the original tensor a value holds; () where it cannot be told."""
        return (self._names[value],) if value in self._names else ()

    def perm_of(self, value: str) -> Perm | None:
        """Return how to transpose a value so that it is the original tensor; None: it is as it is."""
        return self._perms.get(value)

    def covers(self, value: str) -> tuple[str, ...]:
        """Return the original values that were computed on the way to this one and are no more."""
        name = self._names.get(value)
        if name is None or name not in self._original.maker:
            return ()
        found: set[int] = set()
        pending = [name]
        while pending:
            index = self._original.maker[pending.pop()]
            if index in found:
                continue
            found.add(index)
            pending += [
                read
                for read in self._original.reads[index]
                if read in self._varying and read not in self._claimed
            ]
        made = (one for index in sorted(found) for one in self._original.nodes[index].output)
        return tuple(one for one in made if one and one != name and one not in self._claimed)

    def nodes_behind(self, value: str) -> Iterator[NodeProto]:
        """Yield the original nodes that compute a value and what leads to it, nearest first."""
        name = self._names.get(value, value)
        while name in self._original.maker:
            index = self._original.maker[name]
            yield self._original.nodes[index]
            reads = [one for one in self._original.reads[index] if one in self._varying]
            if not reads:
                return
            name = reads[0]

    def _visit(self, node: NodeProto) -> None:
        for position, output in enumerate(node.output):
            found = self._find(node, position, output) if output not in self._names else None
            if output and found is not None:
                name, perm = found
                self._names[output] = name
                if perm is not None and perm != tuple(sorted(perm)):
                    self._perms[output] = perm

    def _find(self, node: NodeProto, position: int, output: str) -> _Found | None:
        """Return the name of what a node makes, and how to transpose it to be that tensor."""
        plain = output.removeprefix(_INSERTED_CAST)
        if plain in self._original.maker:
            return plain, None
        source = node.input[0] if node.input else ""
        name, before = self._names.get(source), self._perms.get(source)
        if self._moves_only(node):
            return None if name is None else (name, before)
        if node.domain == NCHWC or node.op_type == "QuickGelu":
            find = self._name_of_blocked if node.domain == NCHWC else self._name_of_gelu
            fused = find(node)
            return None if fused is None else (fused, None)
        same = self._same_node(node, position)
        if same is not None or name is None:
            return same
        if node.op_type == "Transpose" and _perm_attribute(node):
            return name, _undone(_perm_attribute(node), before)
        return (name, None) if node.op_type in _RESHAPES and before is None else None

    def _rank(self, name: str) -> int | None:
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return len(kind.tensor_type.shape.dim)

    def _name_of_blocked(self, node: NodeProto) -> str | None:
        """ONNX Runtime names such a node by the value it came from, before it took in more."""
        match = _BLOCKED_NAME.fullmatch(node.name.removeprefix(_INSERTED_CAST))
        if match is None or match[1] not in self._original.maker:
            return None
        name = match[1]
        if len(node.input) > _SUM_INPUT and node.input[_SUM_INPUT]:
            name = self._follow(name, "Add")
        activation = next(
            (one.s.decode() for one in node.attribute if one.name == "activation"), ""
        )
        maker = self._original.nodes[self._original.maker[name]]
        if activation and maker.op_type != activation:
            name = self._follow(name, activation)
        return name

    def _follow(self, name: str, op_type: str) -> str:
        """Return what the only reader makes of a value, where it is of this type."""
        readers = [node for node in self._readers.get(name, ()) if node.op_type == op_type]
        return readers[0].output[0] if len(readers) == 1 else name

    def _name_of_gelu(self, node: NodeProto) -> str | None:
        """Find x * sigmoid(a * x), which ONNX Runtime fuses."""
        read = self._names.get(node.input[0], node.input[0])
        for product in self._readers.get(read, ()):
            others = [name for name in product.input if name != read]
            if (
                product.op_type != "Mul"
                or len(others) != 1
                or others[0] not in self._original.maker
            ):
                continue
            if self._original.nodes[self._original.maker[others[0]]].op_type == "Sigmoid":
                return str(product.output[0])
        return None

    def _same_node(self, node: NodeProto, position: int) -> _Found | None:
        """Find the node of the original that this one is: ONNX Runtime renames what it moves."""
        known = self._by_name.get(node.name)
        reads = [self._names.get(name, name) for name in node.input]
        candidates = self._readers.get(reads[0] if reads else "", []) if known is None else [known]
        for one in candidates:
            if one.op_type != node.op_type or position >= len(one.output):
                continue
            output = one.output[position]
            if known is not None and self._is_line(output):
                return output, None
            perm = self._common_perm(one, node)
            if perm is _NO_PERM or (known is None and list(one.input) != reads):
                continue
            if node.op_type == "Shape" and not node.attribute:
                return output, perm  # the sizes of what is transposed, in that order
            if perm is None or self._rank(output) == len(perm):
                return output, perm
        return None

    def _common_perm(self, original: NodeProto, node: NodeProto) -> Perm | None:
        """Return how everything that a node reads lies, compared with what the original reads."""
        mine = [name for name in original.input if name in self._changing]
        theirs = [name for name in node.input if self._names.get(name) in self._changing]
        if not mine or len(mine) != len(theirs):
            return _NO_PERM
        perms = {self._perm_to(one, other) for one, other in zip(mine, theirs, strict=True)}
        if len(perms) != 1:
            return _NO_PERM
        (perm,) = perms
        return _NO_PERM if perm is not None and node.op_type in _RESHAPES else perm

    def _perm_to(self, name: str, value: str) -> Perm | None:
        """Return how to transpose a value so that it is this tensor of the original."""
        holds, perm = self._names[value], self._perms.get(value)
        if holds == name:
            return perm
        maker = self._original.maker.get(name)
        node = None if maker is None else self._original.nodes[maker]
        if node is None or node.op_type != "Transpose" or node.input[0] != holds:
            return _NO_PERM
        turned = _perm_attribute(node) or _NO_PERM
        return (
            turned if perm is None or turned is _NO_PERM else tuple(perm[axis] for axis in turned)
        )

    def _is_line(self, name: str) -> bool:
        """Whether a tensor of the original has its elements along one axis, or has but one.

        ONNX Runtime moves transpositions to where they cost less, and so transposes what lies
        between: this leaves the order of such a tensor what it is.
        """
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return False
        if kind.tensor_type.elem_type not in _FLOATS:
            return False  # a shape, or places, of what is transposed are other numbers
        dims = kind.tensor_type.shape.dim
        return all(dim.HasField("dim_value") for dim in dims) and (
            sum(dim.dim_value != 1 for dim in dims) <= 1
        )

    def _name_by_reader(self) -> None:
        """Name what only gives its numbers to another layout by what is read there."""
        for node in reversed(self._optimised.nodes):
            source = node.input[0] if node.input else ""
            made = node.output[0]
            if made not in self._names or source in self._names:
                continue
            perm = self._perms.get(made)
            if self._moves_only(node) or (
                node.op_type in _RESHAPES and perm is None and self._is_new(source)
            ):
                self._names[source] = self._names[made]
            elif node.op_type == "Transpose" and self._is_new(source) and _perm_attribute(node):
                self._names[source] = self._names[made]
                first = _perm_attribute(node)
                perm = first if perm is None else tuple(first[axis] for axis in perm)
            else:
                continue
            if perm is not None:
                self._perms[source] = perm

    def _is_new(self, value: str) -> bool:
        return value not in self._original.maker and value in self._optimised.maker

    def _moves_only(self, node: NodeProto) -> bool:
        """Whether a node only gives the same numbers another layout, or another dtype."""
        if node.op_type == "Cast":
            return str(node.output[0]).startswith(_INSERTED_CAST)
        if node.op_type == "Reshape":
            return node.input[0] in self._blocked
        return bool(node.domain == NCHWC) and node.op_type in REORDERS


def _perm_attribute(node: NodeProto) -> Perm:
    return next((tuple(one.ints) for one in node.attribute if one.name == "perm"), ())


def _undone(perm: Perm, before: Perm | None) -> Perm:
    """Return what makes the original tensor of what was transposed.

    Args:
        perm: How it was transposed.
        before: How to transpose what it was made of to get the original; None: it was that.
    """
    back = tuple(perm.index(axis) for axis in range(len(perm)))
    return back if before is None else tuple(back[axis] for axis in before)


def _readers_of(graph: SegmentedGraph) -> Mapping[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found
