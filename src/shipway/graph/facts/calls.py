"""What is known of the outputs of a function's call, from its body, and of a custom operator's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from shipway.graph.attributes import Bindings, freeze_attributes
from shipway.graph.facts.custom import infer_custom
from shipway.graph.facts.dims import ANY_SIGN, Dim, atoms_of, rename_atoms
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.knowledge import Knowledge

__all__ = ["bind_attributes", "infer_call"]

InferGraph = Callable[[ir.Graph, Knowledge], None]
Facts = tuple[Fact, ...]

_DEEPEST = 32  # calls inside calls; Python's own limit is not far beyond
_MOST_NODES = 100_000  # looked at for one simplification: a tree of calls can be endless
_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def infer_call(
    node: ir.Node,
    known: ir.Node,
    facts: Sequence[Fact],
    knowledge: Knowledge,
    infer_graph: InferGraph,
) -> Sequence[Fact]:
    """Return what is known of the outputs of a node that is no operator of ONNX.

    Args:
        node: The node.
        known: The node, or a stand-in with references among its attributes resolved.
        facts: Of its inputs.
        knowledge: That of the body the node is in.
        infer_graph: Notes the facts of a graph's nodes, in order.
    """
    function = knowledge.library.function_of(node)
    if function is not None:
        bindings = bind_attributes(function, known.attributes)
        key = (id(function), freeze_attributes(bindings))
        given = (*facts, *[Fact()] * len(function.inputs))[: len(function.inputs)]
        return _remembered(
            node,
            (key, given),
            knowledge,
            lambda facts: _through(function, facts, bindings, knowledge, infer_graph),
        )
    op = knowledge.library.operator_of(node)
    if op is None:
        return []
    present = tuple(value is not None for value in node.inputs)
    return _remembered(
        node,
        ((op.name, present, freeze_attributes(known.attributes)), tuple(facts)),
        knowledge,
        lambda facts: infer_custom(op, known, facts, knowledge),
    )


def bind_attributes(
    function: ir.Function, given: Mapping[str, ir.Attr], outer: Bindings | None = None
) -> Bindings:
    """Return what a call says of the attributes of a function; those that are graphs are left out.

    Args:
        function: The function.
        given: Attributes of the call.
        outer: What is known of the attributes of the function around the call.
    """
    found: dict[str, ir.Attr | None] = {}
    for name, default in function.attributes.items():
        attribute = given.get(name)
        if attribute is not None and attribute.is_ref():
            source = attribute.ref_attr_name or ""
            if outer is None or source not in outer:
                continue
            attribute = outer[source]
        if attribute is None and default.value is not None:
            attribute = default
        if attribute is None or attribute.type not in _GRAPHS:
            found[name] = attribute
    return found


def _remembered(
    node: ir.Node,
    key: tuple[tuple[object, ...], Facts],
    knowledge: Knowledge,
    compute: Callable[[Facts], Facts | None],
) -> Facts:
    """Return what was found for a node before, or for another one of the same kind.

    Unknown sizes are named anew for each node, and the same for one node each time it is asked for:
    two calls that are alike in what is known of them need not give the same sizes.
    """
    if node in knowledge.calls and knowledge.calls[node][0] == key:
        return knowledge.calls[node][1]
    head, facts = key
    atoms = dict.fromkeys(name for fact in facts for name in _atoms(fact))
    names = {name: _canonical(name, index) for index, name in enumerate(atoms)}
    plain = tuple(_renamed(fact, names) for fact in facts)
    memory = knowledge.library.memory
    if (head, plain) not in memory:
        found = compute(plain)
        if found is None:
            return ()
        memory[head, plain] = found
    back = {plain_name: name for name, plain_name in names.items()}
    result = tuple(_renamed(fact, back, knowledge) for fact in memory[head, plain])
    knowledge.calls[node] = key, result
    return result


def _canonical(name: str, index: int) -> str:
    return f"{ANY_SIGN if name.startswith(ANY_SIGN) else ''}${index}"


def _dims(fact: Fact) -> Iterable[Dim]:
    return (*(fact.shape or ()), *(fact.content or ()))


def _atoms(fact: Fact) -> Iterable[str]:
    return (name for dim in _dims(fact) for name in atoms_of(dim))


def _renamed(fact: Fact, names: dict[str, str], knowledge: Knowledge | None = None) -> Fact:
    """Return a fact in other names; what has none yet gets a new one where `knowledge` is given."""
    if knowledge is not None:
        for name in _atoms(fact):
            if name not in names:
                (names[name],) = atoms_of(knowledge.fresh(any_sign=name.startswith(ANY_SIGN)))
    shape = None if fact.shape is None else tuple(rename_atoms(dim, names) for dim in fact.shape)
    content = fact.content
    if content is not None:
        content = tuple(rename_atoms(dim, names) for dim in content)
    return Fact(fact.dtype, shape, content)


def _through(
    function: ir.Function,
    facts: Facts,
    bindings: Bindings,
    knowledge: Knowledge,
    infer_graph: InferGraph,
) -> Facts | None:
    """Infer a body anew from what is known of one call; None where that would take too long."""
    library = knowledge.library
    if library.depth >= _DEEPEST or library.looked_at > _MOST_NODES:
        return None
    inner = Knowledge(function.graph, library, nonempty=knowledge.nonempty, bindings=bindings)
    for value, fact in zip(function.inputs, facts, strict=True):
        inner.learn(value, fact)
    library.depth += 1
    library.looked_at += sum(1 for _ in function.graph.all_nodes())
    try:
        infer_graph(function.graph, inner)
    finally:
        library.depth -= 1
    return tuple(map(inner.fact, function.outputs))
