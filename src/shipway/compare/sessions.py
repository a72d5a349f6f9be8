"""Run two sessions on the same inputs and compare what comes out."""

from __future__ import annotations

from collections.abc import Sequence

from shipway.compare.outputs import RunningComparison
from shipway.compare.results import Comparison
from shipway.compare.verdict import Limits
from shipway.engines.base import Session
from shipway.errors import TensorError
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors

__all__ = ["compare_sessions"]


def compare_sessions(
    golden: Session,
    actual: Session,
    feeds: Sequence[Tensors],
    *,
    precision: str,
    golden_name: str,
    actual_name: str,
    limits: Limits | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Run both sessions on every input set and judge each output over all of them.

    Args:
        golden: What is taken as right.
        actual: What is under test.
        feeds: At least one input set; each holds every input by name.
        precision: "f32", "bf16" or "f16": decides the limits.
        golden_name: What to call golden in the result.
        actual_name: What to call the other.
        limits: Limits other than those of the precision.
        progress: Told of every input set.

    Raises:
        TensorError: There is no input set, or one does not fit the model.
        EngineError: An engine failed.
    """
    if not feeds:
        raise TensorError("There is no input set to compare on.", hint="Give at least one.")
    progress.start(f"compare {actual_name} with {golden_name}", len(feeds))
    running = RunningComparison(precision, golden_name, actual_name, limits)
    for one in feeds:
        running.add(golden.run(one), actual.run(one))
        progress.advance()
    return running.result()
