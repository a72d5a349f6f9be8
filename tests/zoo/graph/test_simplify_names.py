"""The name map survives: a removed name leads to a value with the same numbers, or was read by nobody."""

from pathlib import Path

import onnx
import pytest
from hostile.cases import CARRIED, CASES
from hostile.checking import compare, draws
from hostile.execution import run_model
from hostile.simplifying import Simplified, simplified

every = pytest.mark.parametrize("name", CARRIED)


def made_values(model: onnx.ModelProto) -> set[str]:
    """Names of the main graph's inputs, initializers and node outputs."""
    return (
        {item.name for item in (*model.graph.input, *model.graph.initializer)}
        | {item.values.name for item in model.graph.sparse_initializer}
        | {name for node in model.graph.node for name in node.output if name}
    )


def read_values(model: onnx.ModelProto) -> set[str]:
    """Names in the main graph that outputs depend on, branches and bodies counted as readers."""
    wanted = {item.name for item in model.graph.output}
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            for attribute in node.attribute:
                wanted.update(names_inside(attribute.g))
    return wanted


def names_inside(graph: onnx.GraphProto) -> set[str]:
    names = {item.name for item in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            names |= names_inside(attribute.g)
    return names


@every
def test_every_name_is_accounted_for(name: str, tmp_path: Path) -> None:
    before = CASES[name].model
    done = simplified(before, "portable", tmp_path)
    left = made_values(done.model)
    reported = {value for change in done.report.changes for value in change.removed}
    gone = (made_values(before) & read_values(before)) - left - {""}
    constants = {item.name for item in before.graph.initializer}
    assert gone - constants <= reported


@every
def test_aliases_lead_to_what_is_there(name: str, tmp_path: Path) -> None:
    done = simplified(CASES[name].model, "portable", tmp_path)
    inner = {value for graph in graphs_of(done.model) for value in values_of(graph)}
    unread = made_values(CASES[name].model) - read_values(CASES[name].model)
    for old, new in done.report.aliases.items():
        assert new in inner or old in unread, f"{old} leads to {new}, which is not there"


def graphs_of(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    found = [model.graph]
    for graph in found:
        for node in graph.node:
            found.extend(item.g for item in node.attribute if item.HasField("g"))
    return found


def values_of(graph: onnx.GraphProto) -> set[str]:
    named = (*graph.input, *graph.initializer)
    return {item.name for item in named} | {name for node in graph.node for name in node.output}


@every
def test_aliases_hold_the_same_numbers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if draws(case.model):
        pytest.skip("draws differ from run to run")
    done = simplified(case.model, "portable", tmp_path)
    pairs = alias_pairs(case.model, done)
    golden = run_model(showing(case.model, [old for old, _ in pairs]), case.feeds)
    actual = run_model(showing(done.model, [new for _, new in pairs]), case.feeds)
    for before, after in zip(golden, actual, strict=True):
        for old, new in pairs:
            compare(before[old], after[new], done.allowance().exact, f"{old}, now {new}")


def alias_pairs(before: onnx.ModelProto, done: Simplified) -> list[tuple[str, str]]:
    """Removed names of the main graph with the name that is said to have their numbers."""
    old_names, new_names = node_values(before), made_values(done.model)
    return [
        (old, new)
        for old, new in done.report.aliases.items()
        if old in old_names and new in new_names
    ]


def node_values(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}


def showing(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy with these values as outputs too."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {item.name for item in model.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            shown.graph.output.add().name = name
    return shown
