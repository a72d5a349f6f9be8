"""What commands share that prove a graph they have just changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.terminal import make_table, print_result, scientific, show_progress
from shipway.files import write_json

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.proof.graph_bisect import Culprit
    from shipway.proof.results import Proof

__all__ = ["Proved", "prove_unsaved", "show_proof"]

FindCulprit = Callable[[Path, "Proof"], "Culprit | None"]


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof of a graph that is not saved yet, and where it may be saved.

    Args:
        proof: What came out.
        target: The file asked for; NAME.refused.onnx beside it where the proof failed.
        culprit: The change that did it, where somebody looked for it.
    """

    proof: Proof
    target: Path
    culprit: Culprit | None = None


def prove_unsaved(
    before: Path,
    graph: ir.Model,
    target: Path,
    *,
    prove: Callable[..., Proof] | None = None,
    find_culprit: FindCulprit | None = None,
    **how: Any,
) -> Proved:
    """Prove a changed graph against the file it was loaded from, and write NAME.proof.json.

    Args:
        before: The file.
        graph: The changed graph; written to a scratch folder for the proof.
        target: Where it is to be saved.
        prove: Proves the second of two files by the first; `prove_graphs` if not given.
        find_culprit: Asked where the proof fails; given a folder to work in, and the proof.
        how: As for the function that proves.
    """
    from shipway.graph.saving import save_graph
    from shipway.proof.graph import prove_graphs

    culprit = None
    with tempfile.TemporaryDirectory(prefix="shipway-prove-") as scratch:
        path = Path(scratch) / target.name
        save_graph(graph, path)
        with show_progress() as progress:
            proof = (prove or prove_graphs)(before, path, progress=progress, **how)
        if not proof.passed and find_culprit is not None:
            culprit = find_culprit(Path(scratch), proof)
    if not proof.passed:
        target = target.with_name(f"{target.stem}.refused.onnx")
    write_json(target.with_suffix(".proof.json"), proof.to_json())
    return Proved(proof, target, culprit)


def show_proof(proof: Proof) -> None:
    """Print a proof: the verdict, the worst error of each output, what was not tried."""
    print_result(f"  proof  {'PASS' if proof.passed else 'FAIL'}: {len(proof.trials)} trials")
    worst: dict[str, float | None] = {}
    for trial in proof.trials:
        for output in trial.comparison.outputs:
            error, known = output.metrics.relative_l2, worst.get(output.name)
            worst[output.name] = error if known is None else max(known, error or 0.0)
    table = make_table("output", "worst rel. L2")
    for name, error in worst.items():
        table.add_row(name, scientific(error) or "equal")
    print_result(table)
    for reason in proof.reasons:
        print_result(f"         {reason}")
    for note in proof.notes:
        print_result(f"  note   {note}")
