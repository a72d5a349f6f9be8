"""The `shipway graph edit` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.cli.flags import Flag, Many
from shipway.cli.graph_prove import show_proof
from shipway.cli.terminal import make_table, print_json, print_result, show_progress, start_log
from shipway.errors import UsageError
from shipway.files import write_json

__all__ = ["edit"]


def edit(
    model: Path | None = None,
    name: str = "",
    *,
    option: Many = (),
    output: Path | None = None,
    allow: Flag = False,
    prove: Flag = False,
    seed: int = 0,
    list_edits: Flag = False,
    json: Flag = False,
) -> int:
    """Make a named edit of an ONNX model, and prove that the outputs stayed.

    `--list-edits` shows what there is: what accelerators' scripts do by hand, each exact, the same
    mathematics, or refused unless it is allowed to change numbers.

    ```
    shipway graph edit --list-edits
    shipway graph edit vit.onnx pad-tokens --option to=16 --output padded.onnx --prove
    ```

    Args:
        model: The .onnx file.
        name: Name of the edit.
        option: An option of the edit, e.g. to=16. Again for each.
        output: Where to write; MODEL.NAME.onnx beside it by default.
        allow: Let the edit change what the model computes.
        prove: Prove that the outputs are the same; exit 1 where they are not, and write
            OUTPUT.refused.onnx instead.
        seed: Seed of the proof's inputs.
        list_edits: List the edits.
        json: Print JSON.
    """
    start_log(quiet=json)
    if list_edits:
        return _list(as_json=json)
    if model is None or not name:
        raise UsageError("Name a model and an edit.", hint="shipway graph edit --list-edits")
    from shipway.graph.edits.registry import find_edit, run_edit
    from shipway.graph.loading import load_graph
    from shipway.graph.saving import save_graph

    kind = find_edit(name).kind
    graph = load_graph(model)
    result = run_edit(graph, name, _options(option), allow=allow)
    target = output or model.with_name(f"{model.stem}.{name}.onnx")
    proof = None
    if prove:
        proof = _prove(model, graph, target, kind, seed)
        if not proof.passed:
            target = target.with_name(f"{target.stem}.refused.onnx")
        write_json(target.with_suffix(".proof.json"), proof.to_json())
    save_graph(graph, target)
    facts: dict[str, Any] = {
        "edit": name,
        "kind": kind,
        "changed": result.changed,
        "notes": list(result.notes),
        "output": str(target),
        "proof": None if proof is None else proof.to_json(),
    }
    if json:
        print_json(facts)
    else:
        print_result(f"wrote {target}", f"  {name}: {result.changed} changed ({kind})")
        for note in result.notes:
            print_result(f"  note   {note}")
        if proof is not None:
            show_proof(proof)
    return 0 if proof is None or proof.passed else 1


def _options(items: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--option takes name=value, not '{item}'.", hint="E.g. --option to=16"
            )
        found[key] = value
    return found


def _prove(model: Path, graph: Any, target: Path, kind: str, seed: int) -> Any:
    import tempfile

    from shipway.graph.saving import save_graph
    from shipway.proof.graph import prove_graphs

    with tempfile.TemporaryDirectory(prefix="shipway-edit-") as folder:
        path = Path(folder) / target.name
        save_graph(graph, path)
        with show_progress() as progress:
            return prove_graphs(
                model,
                path,
                kind="exact" if kind == "exact" else "reassociating",
                seed=seed,
                progress=progress,
            )


def _list(*, as_json: bool) -> int:
    from shipway.graph.edits.registry import all_edits

    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "kind": one.kind,
            "options": [option.name for option in one.options],
            "summary": one.summary,
        }
        for one in all_edits()
    ]
    if as_json:
        print_json(rows)
        return 0
    table = make_table("edit", "keeps", "options", "what it does")
    for column in table.columns:
        column.justify = "left"
    for row in rows:
        table.add_row(row["name"], row["kind"], " ".join(row["options"]), row["summary"])
    print_result(table)
    return 0
