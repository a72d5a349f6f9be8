"""The `shipway graph edit` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.proving import Proved, prove_unsaved, show_proof
from shipway.cli.terminal import make_table, print_json, print_result, start_log
from shipway.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.graph.edits.result import Edit
    from shipway.proof.results import Proof

__all__ = ["edit"]


def edit(
    model: Path | None = None,
    name: str = "",
    /,
    *,
    output: Path | None = None,
    list: Flag = False,  # noqa: A002 -- the name of the flag
    allow: Flag = False,
    prove: Flag = False,
    size: Many = (),
    seed: int = 0,
    json: Flag = False,
    **options: str,
) -> int:
    """Make a named edit of an ONNX model, and prove that the outputs stayed.

    `--list` shows what there is: what accelerators' scripts do by hand, each exact, the same
    mathematics, or refused unless it is allowed to change numbers.

    ```
    shipway graph edit --list
    shipway graph edit vit.onnx pad-tokens --to 16 --output padded.onnx --prove
    shipway graph edit model.onnx set-domain --domain npu --version 1
    ```

    Args:
        model: The .onnx file.
        name: Name of the edit.
        output: Where to write; MODEL.NAME.onnx beside it by default.
        list: List the edits, with their options.
        allow: Let the edit change what the model computes.
        prove: Prove that the outputs are the same; exit 1 where they are not, and write
            OUTPUT.refused.onnx instead.
        size: Size of a dynamic dimension in the proof, e.g. batch=3; only these sizes are tried
            then. Again for each.
        seed: Seed of the proof's inputs.
        json: Print JSON.
        options: Options of the edit, e.g. --to 16.
    """
    from shipway.graph.edits.registry import find_edit, run_edit
    from shipway.graph.loading import load_graph
    from shipway.graph.saving import save_graph

    start_log(quiet=json)
    if list:
        return _list(as_json=json)
    if model is None or not name:
        raise UsageError("Name a model and an edit.", hint="shipway graph edit --list")
    chosen = find_edit(name)
    graph = load_graph(model)
    result = run_edit(graph, name, options, allow=allow)
    target = output or model.with_name(f"{model.stem}.{name}.onnx")
    proved = _prove(model, graph, target, chosen, seed, size) if prove else None
    proof, target = (None, target) if proved is None else (proved.proof, proved.target)
    companions = save_graph(graph, target)
    facts: dict[str, Any] = {
        **result.to_json(),
        "kind": chosen.kind,
        "output": str(target),
        "files": [target.name, *companions],
        "proof": None if proof is None else proof.to_json(),
    }
    if json:
        print_json(facts)
    else:
        _show(facts, proof)
    return 0 if proof is None or proof.passed else 1


def _prove(
    model: Path, graph: ir.Model, target: Path, chosen: Edit, seed: int, size: Sequence[str]
) -> Proved:
    if chosen.kind == "changes-numerics":
        raise UsageError(
            f"{chosen.name} changes what the model computes; there is nothing to prove.",
            hint="Leave out --prove, and measure: shipway compare BEFORE AFTER.",
        )
    sizes = [read_numbers(size, "--size")] if size else None
    return prove_unsaved(model, graph, target, kind=chosen.kind, seed=seed, sizes=sizes)


def _show(facts: dict[str, Any], proof: Proof | None) -> None:
    print_result(f"wrote {facts['output']}")
    print_result(f"  {facts['name']}: {facts['changed']} changed ({facts['kind']})")
    for note in facts["notes"]:
        print_result(f"  note   {note}")
    if proof is not None:
        show_proof(proof)


def _list(*, as_json: bool) -> int:
    from shipway.graph.edits.registry import all_edits

    if as_json:
        print_json([one.to_json() for one in all_edits()])
        return 0
    table = make_table("edit", "class", "options", "what it does")
    for column in table.columns:
        column.justify = "left"
    for one in all_edits():
        flags = " ".join(f"--{option.name.replace('_', '-')}" for option in one.options)
        table.add_row(one.name, one.kind, flags, one.summary)
    print_result(table)
    return 0
