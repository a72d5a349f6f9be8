"""The `shipway simplify` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.cli.flags import Flag, Many
from shipway.cli.graph_prove import show_proof
from shipway.cli.terminal import (
    make_table,
    print_json,
    print_result,
    show_progress,
    start_log,
)
from shipway.errors import UsageError
from shipway.files import write_json

__all__ = ["simplify"]

_MAP_SUFFIX = ".map.json"


def simplify(
    model: Path,
    *,
    output: Path | None = None,
    profile: str = "portable",
    skip: Many = (),
    nonempty: Flag = False,
    prove: Flag = False,
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
        profile: For whom: portable, modern, onnxruntime, openvino, tensorrt or ascend.
        skip: Name of a rule not to use. Again for each.
        nonempty: Assume that no dimension is ever 0; more computed reshapes become constant.
        prove: Prove that the outputs are the same; exit 1 where they are not.
        seed: Seed of the proof's inputs.
        json: Print JSON.
    """
    from shipway.graph.loading import load_graph
    from shipway.graph.passes.catalogue import ALL_RULES
    from shipway.graph.saving import save_graph
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
    options = SimplifyOptions(profile=profile, skip=frozenset(skip), nonempty=nonempty)
    result = simplify_graph(graph, options)
    proof = culprit = None
    if prove:
        proof, culprit = _prove(model, graph, options, result, target, seed)
        if not proof.passed:
            target = target.with_name(f"{target.stem}.refused.onnx")
    companions = save_graph(graph, target)
    facts = {
        "model": str(model),
        "output": str(target),
        "files": [target.name, *companions],
        "size_bytes_before": before_bytes,
        "size_bytes_after": sum(
            (target.parent / name).stat().st_size for name in (target.name, *companions)
        ),
        **result.to_json(),
    }
    write_json(target.with_suffix(".changes.json"), facts)
    facts["proof"] = None if proof is None else proof.to_json()
    facts["culprit"] = None if culprit is None else culprit.to_json()
    if proof is not None:
        write_json(target.with_suffix(".proof.json"), facts["proof"])
    facts["name_map"] = _carry_name_map(model, target, result)
    if json:
        print_json(facts)
    else:
        _show(facts)
        if proof is not None:
            show_proof(proof)
        if culprit is not None:
            change = culprit.change
            print_result(
                f"  change {culprit.number} did it: {change.rule} at {change.op} '{change.node}'",
                f"  without it: --skip {change.rule}",
            )
    return 0 if proof is None or proof.passed else 1


def _prove(
    model: Path, graph: Any, options: Any, result: Any, target: Path, seed: int
) -> tuple[Any, Any]:
    """Prove a simplified graph that is not saved yet; return the proof, and what was wrong."""
    import tempfile

    from shipway.graph.saving import save_graph
    from shipway.proof.graph import prove_graphs
    from shipway.proof.graph_bisect import bisect_simplification

    exact = all(change.kind == "exact" for change in result.changes)
    how: dict[str, Any] = {
        "kind": "exact" if exact else "reassociating",
        "seed": seed,
        "nonempty": options.nonempty,
    }
    with tempfile.TemporaryDirectory(prefix="shipway-simplify-") as folder:
        path = Path(folder) / target.name
        save_graph(graph, path)
        with show_progress() as progress:
            proof = prove_graphs(model, path, progress=progress, **how)
        if proof.passed or not result.changes:
            return proof, None
        return proof, bisect_simplification(model, options, Path(folder), proof, **how)


def _size_bytes(path: Path, graph: Any) -> int:
    """Return the size of a model with its external data."""
    files = {path.resolve()}
    for value in graph.graph.initializers.values():
        file = getattr(value.const_value, "file", None)
        if file is not None:
            files.add(file.path.resolve())
    return sum(one.stat().st_size for one in files)


def _carry_name_map(model: Path, target: Path, result: Any) -> str | None:
    """Write the new model's name map where the old one has one; return where."""
    from shipway.export.name_map import read_name_map, write_name_map

    source = model.with_suffix(_MAP_SUFFIX)
    if not source.is_file():
        return None
    path = target.with_suffix(_MAP_SUFFIX)
    write_name_map(read_name_map(source).after(target.name, result.aliases, result.fates), path)
    return str(path)


def _show(facts: dict[str, Any]) -> None:
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
