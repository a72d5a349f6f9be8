"""What the old tools did to a graph wired by name: insert, remove, connect, replace, clean up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shipway.compat.elements import Constant, Element, Operator
from shipway.compat.wiring import Wiring
from shipway.errors import UsageError

__all__ = ["connect", "drop_unused", "insert", "remove", "replace"]


def insert(wiring: Wiring, anchor: str, node: Operator, index: int, mode: str) -> None:
    """Insert a node on an output ("after") or input ("before") of the element of a name.

    After an input or constant, and before an output of the graph, it goes between that and all
    that reads it. The node's own inputs and outputs are replaced; more are added afterwards.

    Raises:
        NodeMissing: There is no such element.
        UsageError: There is no such mode, input or output, or nothing can stand there.
    """
    if mode not in {"after", "before"}:
        raise _usage(f'The mode should be "after" or "before", not "{mode}".')
    wiring.see_all()
    place = wiring.get(anchor)
    if node.wiring is not wiring:
        wiring.nodes.append(node)
    if isinstance(place, Operator):
        _check_index(place, index, mode)
        (_insert_after if mode == "after" else _insert_before)(place, node, index)
    elif place in wiring.outputs:
        _insert_at_output(wiring, place, node, mode)
    else:
        _insert_at_input(wiring, place, node, mode)
    wiring.see_all()


def _usage(message: str) -> UsageError:
    return UsageError(message, hint="See docs/how-to/old-scripts.md for the calls and their forms.")


def _check_index(place: Operator, index: int, mode: str) -> None:
    names = place.outputs if mode == "after" else place.inputs
    if not 0 <= index < len(names):
        side = "output" if mode == "after" else "input"
        raise _usage(f"'{place.name}' ({place.op_type}) has no {side} {index}: {list(names)}.")


def _insert_after(place: Operator, node: Operator, index: int) -> None:
    """Whatever reads the output, sub-graphs and the graph's outputs too, reads the node."""
    name, between = place.outputs[index], f"{place.name}/{node.name}"
    place.outputs[index] = between
    node.inputs, node.outputs = [between], [name]


def _insert_before(place: Operator, node: Operator, index: int) -> None:
    name, between = place.inputs[index], f"{node.name}/{place.name}"
    place.inputs[index] = between
    node.inputs, node.outputs = [name], [between]


def _insert_at_output(wiring: Wiring, place: Element, node: Operator, mode: str) -> None:
    writer = wiring.writer(place.name)
    if mode == "after" or writer is None:
        raise _usage(f"Can not insert node {mode} {place.name}: it is an output of the graph.")
    index = writer.outputs.index(place.name)
    between = f"{writer.name}/{node.name}"
    _rename_output(wiring, writer, index, between)
    node.inputs, node.outputs = [between], [place.name]


def _insert_at_input(wiring: Wiring, place: Element, node: Operator, mode: str) -> None:
    readers = [one for one in wiring.readers(place.name) if one is not node]
    if mode == "before" or not readers:
        raise _usage(f"Can not insert node {mode} {place.name}: nothing stands there.")
    between = f"{node.name}/{readers[0].name}"
    node.inputs, node.outputs = [], []
    wiring.redirect(place.name, between)
    node.inputs, node.outputs = [place.name], [between]


def _rename_output(wiring: Wiring, node: Operator, index: int, name: str) -> None:
    """Let a node write another name, and its readers follow."""
    former = node.outputs[index]
    node.outputs[index] = name
    if former:
        wiring.redirect(former, name)


def remove(wiring: Wiring, name: str, mapping: Mapping[int, int]) -> None:
    """Remove the element of a name.

    Args:
        wiring: The graph.
        name: The name.
        mapping: For a node, number of an input to that of the output whose readers get it.

    Raises:
        NodeMissing: There is no such element.
    """
    wiring.see_all()
    element = wiring.get(name)
    members = (wiring.outputs, wiring.inputs, wiring.initializers, wiring.nodes)
    next(one for one in members if element in one).remove(element)
    if not isinstance(element, Operator):
        return
    for source, target in mapping.items():
        if source < len(element.inputs) and target < len(element.outputs):
            _bridge(wiring, element.inputs[source], element.outputs[target])


def _bridge(wiring: Wiring, source: str, target: str) -> None:
    """Let what read the one name read the other; an output of the graph keeps its name."""
    writer = wiring.writer(source)
    if wiring.is_output(target) and writer is not None and not wiring.is_output(source):
        _rename_output(wiring, writer, writer.outputs.index(source), target)
    else:
        wiring.redirect(target, source)


def replace(wiring: Wiring, name: str, new: Element) -> None:
    """Put a node or an input of the graph in the place of the element of a name.

    Raises:
        NodeMissing: There is no such element.
        UsageError: The two cannot stand for each other.
    """
    wiring.see_all()
    old = wiring.get(name)
    if isinstance(old, Operator) and isinstance(new, Operator):
        position = wiring.position(old)
        inputs, outputs = list(old.inputs), list(old.outputs)
        if new.wiring is wiring:
            wiring.nodes.remove(new)
            position = wiring.position(old)
        wiring.nodes[position] = new
        new.inputs, new.outputs = inputs, outputs
    elif new in wiring.inputs and isinstance(old, (Operator, Constant)):
        former = old.outputs[0] if isinstance(old, Operator) else old.name
        remove(wiring, name, {})
        wiring.redirect(former, new.name)
    else:
        raise _usage(f"'{name}' ({old.op_type}) cannot be replaced by a {new.op_type}.")


def connect(wiring: Wiring, node: Operator, before: Sequence[str], after: Sequence[str]) -> None:
    """Connect a node with those before and behind it.

    Args:
        wiring: The graph.
        node: The node; its inputs and outputs are made anew.
        before: For each input "name" or "name:output", an input or constant of the graph too.
        after: For each output "name", "name:input,input", several with ";" between; outputs of
            the graph too.

    Raises:
        NodeMissing: There is no such element.
        UsageError: An output of the graph stands before the node, or an input behind it.
    """
    wiring.see_all()
    node.inputs = [f"{node.name}_in_{index}" for index in range(len(before))]
    node.outputs = [f"{node.name}_out_{index}" for index in range(len(after))]
    targets = [list(_targets(wiring, text)) for text in after]
    at_end = any(place in wiring.outputs for one in targets for place, _ in one)
    for index, text in enumerate(before):
        _connect_before(wiring, node, index, text, at_end=at_end)
    for index, places in enumerate(targets):
        for place, position in places:
            _connect_behind(wiring, node, index, place, position)
    wiring.see_all()


def _connect_before(wiring: Wiring, node: Operator, index: int, text: str, *, at_end: bool) -> None:
    label, output = _split(wiring, text)
    place = wiring.get(label)
    if place in wiring.outputs:
        raise _usage(f"'{label}' is an output of the graph and cannot feed '{node.name}'.")
    if not isinstance(place, Operator):
        node.inputs[index] = place.name
        return
    position = int(output or 0)
    if at_end and wiring.is_output(place.outputs[position]):
        _rename_output(wiring, place, position, node.inputs[index])
    node.inputs[index] = place.outputs[position]


def _connect_behind(
    wiring: Wiring, node: Operator, index: int, place: Element, position: int
) -> None:
    if isinstance(place, Operator):
        place.inputs[position] = node.outputs[index]
    elif place in wiring.outputs:
        _rename_output(wiring, node, index, place.name)
    else:
        raise _usage(f"'{place.name}' is no node and cannot read '{node.name}'.")


def _targets(wiring: Wiring, text: str) -> Iterator[tuple[Element, int]]:
    """Yield what stands behind an output, outputs of the graph first: they give it its name."""
    found = []
    for one in text.split(";"):
        label, positions = _split(wiring, one)
        place = wiring.get(label)
        found += [(place, int(number)) for number in (positions or "0").split(",")]
    yield from sorted(found, key=lambda one: isinstance(one[0], Operator))


def _split(wiring: Wiring, text: str) -> tuple[str, str]:
    """Return a name and what stands behind its last colon; names may have colons themselves."""
    label, _, rest = text.rpartition(":")
    is_numbers = bool(rest) and all(one.strip().isdecimal() for one in rest.split(","))
    if label and is_numbers and wiring.find(text) is None:
        return label, rest
    return text, ""


def drop_unused(wiring: Wiring) -> None:
    """Remove nodes no output needs, then inputs and constants that nobody reads."""
    wiring.see_all()
    needed: set[Operator] = set()
    pending = [wiring.writer(one.name) for one in wiring.outputs]
    while pending:
        node = pending.pop()
        if node is None or node in needed:
            continue
        needed.add(node)
        pending += [wiring.writer(name) for name in (*node.inputs, *node.names_outside)]
    wiring.nodes.replace(node for node in wiring.nodes if node in needed)
    read = {name for node in needed for name in (*node.inputs, *node.names_outside)}
    read.update(one.name for one in wiring.outputs)
    for members in (wiring.inputs, wiring.initializers):
        members.replace(one for one in members if one.name in read)
