"""The `shipway simplify` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.proving import Proved, prove_unsaved, show_proof
from shipway.cli.terminal import make_table, print_json, print_result, start_log
from shipway.errors import UsageError
from shipway.files import write_json

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.graph.results import Simplification
    from shipway.graph.simplify import SimplifyOptions
    from shipway.proof.graph_bisect import Culprit
    from shipway.proof.results import Proof

__all__ = ["simplify"]

_MAP_SUFFIX = ".map.json"


def simplify(
    model: Path,
    *,
    output: Path | None = None,
    profile: str = "portable",
    skip: Many = (),
    nonempty: Flag = False,
    pure: Many = (),
    prove: Flag = False,
    size: Many = (),
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Simplify an ONNX model: fewer nodes, the same outputs, the same signature.

    `--prove` runs the model before and after on hostile inputs at several sizes; where the outputs
    differ, the change that did it is named, and the new model is written as NAME.refused.onnx.

    Writes the model, NAME.changes.json (every change: rule, node, where the numbers of removed
    values are now) and, where the model has a name map, the map of the new model.

    ```
    shipway simplify model.onnx --output small.onnx
    shipway simplify model.onnx --output small.onnx --skip flatten_rows --json
    ```

    Args:
        model: The .onnx file.
        output: Where to write; MODEL.simplified.onnx beside it by default.
        profile: For whom: portable (any engine), modern (opset 23), onnxruntime, openvino,
            tensorrt or ascend.
        skip: Name of a rule not to use. Again for each.
        nonempty: Assume that no dimension is ever 0; more computed reshapes become constant.
        pure: A custom operator, "DOMAIN::TYPE", that gives the same outputs for the same inputs and does
            nothing else: equal ones are computed once, unread ones removed. Again for each. Those
            defined with `shipway.custom_op` say so themselves.
        prove: Prove that the outputs are the same; exit 1 where they are not.
        size: Size of a dynamic dimension in the proof, e.g. batch=3; only these sizes are tried
            then. Again for each.
        seed: Seed of the proof's inputs.
        json: Print JSON.
    """
    from shipway.graph.loading import load_graph
    from shipway.graph.passes.catalogue import ALL_RULES
    from shipway.graph.simplify import SimplifyOptions, simplify_graph

    start_log(quiet=json)
    known = {rule.name for rule in ALL_RULES}
    if unknown := sorted(set(skip) - known):
        raise UsageError(
            f"There is no rule '{unknown[0]}'.", hint=f"Rules: {', '.join(sorted(known))}."
        )
    target = output or model.with_name(f"{model.stem}.simplified.onnx")
    graph = load_graph(model)
    before_bytes = _size_bytes(model, graph)
    options = SimplifyOptions(
        profile=profile, skip=frozenset(skip), nonempty=nonempty, pure=frozenset(pure)
    )
    result = simplify_graph(graph, options)
    proved = _prove(model, graph, options, result, target, seed, size) if prove else None
    target = target if proved is None else proved.target
    facts = _save(model, graph, result, target) | {"size_bytes_before": before_bytes}
    if proved is not None:
        facts["proof"] = proved.proof.to_json()
        facts["culprit"] = None if proved.culprit is None else proved.culprit.to_json()
    if json:
        print_json(facts)
    else:
        _show(facts, proved)
    return 0 if proved is None or proved.proof.passed else 1


def _save(model: Path, graph: ir.Model, result: Simplification, target: Path) -> dict[str, Any]:
    """Write the model, its changes and its name map; return the facts of them."""
    from shipway.graph.saving import save_graph

    files = (target.name, *save_graph(graph, target))
    facts = {
        "model": str(model),
        "output": str(target),
        "files": list(files),
        "size_bytes_after": sum((target.parent / name).stat().st_size for name in files),
        **result.to_json(),
    }
    write_json(target.with_suffix(".changes.json"), facts)
    return facts | {"name_map": _carry_name_map(model, target, result)}


def _prove(
    model: Path,
    graph: ir.Model,
    options: SimplifyOptions,
    result: Simplification,
    target: Path,
    seed: int,
    size: Sequence[str],
) -> Proved:
    """Prove a simplified graph; where it fails, find the change that did it."""
    from shipway.graph.rules import FINITE, NONEMPTY
    from shipway.proof.graph_bisect import bisect_simplification

    exact = all(change.kind == "exact" for change in result.changes)
    how: dict[str, Any] = {
        "kind": "exact" if exact else "reassociating",
        "seed": seed,
        "nonempty": NONEMPTY in result.assumes,
        "finite": FINITE in result.assumes,
    }

    def find_culprit(folder: Path, proof: Proof) -> Culprit | None:
        if not result.changes:
            return None
        return bisect_simplification(model, options, folder, proof, **how)

    sizes = [read_numbers(size, "--size")] if size else None
    return prove_unsaved(model, graph, target, find_culprit=find_culprit, sizes=sizes, **how)


def _size_bytes(path: Path, graph: ir.Model) -> int:
    """Return the size of a model with its external data."""
    files = {path.resolve()}
    for value in graph.graph.initializers.values():
        file = getattr(value.const_value, "file", None)
        if file is not None:
            files.add(file.path.resolve())
    return sum(one.stat().st_size for one in files)


def _carry_name_map(model: Path, target: Path, result: Simplification) -> str | None:
    """Write the new model's name map where the old one has one; return where."""
    from shipway.export.name_map import read_name_map, write_name_map

    source = model.with_suffix(_MAP_SUFFIX)
    if not source.is_file():
        return None
    path = target.with_suffix(_MAP_SUFFIX)
    write_name_map(read_name_map(source).after(target.name, result.aliases, result.fates), path)
    return str(path)


def _show(facts: dict[str, Any], proved: Proved | None) -> None:
    print_result(f"wrote {facts['output']}")
    nodes = f"{facts['nodes_before']:,} -> {facts['nodes_after']:,}"
    sizes = f"{facts['size_bytes_before']:,} -> {facts['size_bytes_after']:,} bytes"
    print_result(f"  nodes  {nodes}", f"  size   {sizes}")
    for assumption in facts["assumes"]:
        print_result(f"  holds as long as {assumption}")
    if facts["name_map"]:
        print_result(f"  names  {facts['name_map']}")
    if facts["rules"]:
        table = make_table("rule", "applied", "keeps")
        kinds = {change["rule"]: change["kind"] for change in facts["changes"]}
        for rule, count in facts["rules"].items():
            table.add_row(
                rule, f"{count:,}", "every bit" if kinds[rule] == "exact" else kinds[rule]
            )
        print_result("", table)
    if proved is None:
        return
    show_proof(proved.proof)
    if proved.culprit is not None:
        number, change = proved.culprit.number, proved.culprit.change
        place = f" in the function {change.function}" if change.function else ""
        print_result(
            f"  change {number} did it: {change.rule} at {change.op} '{change.node}'{place}",
            f"  without it: --skip {change.rule}",
        )
