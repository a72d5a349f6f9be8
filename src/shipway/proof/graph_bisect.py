"""Finds the change that a failed proof is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shipway.graph.loading import load_graph
from shipway.graph.results import Change
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph
from shipway.proof.graph import prove_graphs
from shipway.proof.results import Proof

__all__ = ["Culprit", "bisect_changes", "bisect_simplification"]


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first change after which the outputs are wrong.

    Args:
        number: Its place among the changes, from 1.
        change: Rule, node and operator.
        proof: The proof that fails with it; with one change less it passes.
    """

    number: int
    change: Change
    proof: Proof

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "number": self.number,
            "change": self.change.to_json(),
            "reasons": list(self.proof.reasons),
        }


def bisect_changes(count: int, passes: Callable[[int], bool]) -> int:
    """Return the smallest number of changes at which a proof fails.

    Args:
        count: All changes: with them it fails, with none it passes.
        passes: Says whether the first n changes pass.
    """
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if passes(middle):
            good = middle
        else:
            bad = middle
    return bad


def bisect_simplification(
    before: Path, options: SimplifyOptions, folder: Path, proof: Proof, **proof_options: Any
) -> Culprit:
    """Find the change of a simplification that the proof refuses.

    Args:
        before: The model; simplified as a whole it must fail its proof.
        options: Those of the simplification; their limit is not used.
        folder: Where to write the models in between.
        proof: The proof that failed; the sizes of its first failure are tried again.
        proof_options: As for `prove_graphs`.

    Raises:
        ModelError: As for `prove_graphs`.
    """
    proofs: dict[int, Proof] = {}
    changes: dict[int, tuple[Change, ...]] = {}
    target = folder / "bisected.onnx"
    failed = next(trial for trial in proof.trials if not trial.comparison.passed)

    def passes(limit: int) -> bool:
        model = load_graph(before)
        changes[limit] = simplify_graph(model, replace(options, limit=limit)).changes
        save_graph(model, target)
        proofs[limit] = prove_graphs(before, target, sizes=[failed.sizes], **proof_options)
        return proofs[limit].passed

    count = len(simplify_graph(load_graph(before), replace(options, limit=None)).changes)
    number = bisect_changes(count, passes)
    if number not in proofs:
        passes(number)
    return Culprit(number, changes[number][-1], proofs[number])
