"""Compare the outputs of two executions of one model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.accumulator import Accumulator
from shipway.compare.blocks import SliceSums
from shipway.compare.metrics import measure
from shipway.compare.results import Comparison, Coverage, OutputComparison
from shipway.compare.ulp import narrower
from shipway.compare.verdict import Limits, judge, limits_for
from shipway.errors import TensorError, UsageError
from shipway.tensors import Tensors, dtype_named, dtype_of

__all__ = ["RunningComparison", "compare_outputs", "compare_sets", "worst_set"]

_PRECISION_OF = {"float16": "f16", "bfloat16": "bf16"}
_DTYPE_OF = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def compare_outputs(
    golden: Tensors,
    actual: Tensors,
    *,
    precision: str,
    golden_name: str = "golden",
    actual_name: str = "actual",
    limits: Limits | None = None,
) -> Comparison:
    """Compare every output of two executions of one model on the same inputs.

    Outputs are matched by name. One that a side lacks, or of another shape, is listed in
    `Comparison.coverage` with the reason, and fails the comparison.

    Args:
        golden: Outputs taken as right, by name.
        actual: Outputs under test, by name.
        precision: "f32", "f16" or "bf16": what the engine under test computed in. An output of
            that dtype is accepted for a wider golden one; any other change of dtype fails.
        golden_name: What to call golden in the result: an engine or a file.
        actual_name: What to call the side under test.
        limits: Limits for every floating-point output; None takes those of `precision`, or of the
            output's own dtype where that is coarser.

    Raises:
        UsageError: Unknown precision.

    Example:
        >>> outputs = {"logits": np.ones((1, 10), np.float32)}
        >>> compare_outputs(outputs, outputs, precision="f32").passed
        True
    """
    return compare_sets(
        [golden],
        [actual],
        precision=precision,
        golden_name=golden_name,
        actual_name=actual_name,
        limits=limits,
    )


def compare_sets(
    golden: Sequence[Tensors],
    actual: Sequence[Tensors],
    *,
    precision: str,
    golden_name: str = "golden",
    actual_name: str = "actual",
    limits: Limits | None = None,
) -> Comparison:
    """Compare the outputs of two executions on several input sets.

    The metrics of an output are those of its elements in all sets together. So that one bad set
    is not averaged away, the worst set is judged alone as well: its relative L2, measured against
    no less than the RMS over all sets, may reach `Limits.worst_channel`.

    Args:
        golden: Outputs taken as right, one mapping an input set.
        actual: Outputs under test, in the same order.
        precision: As for `compare_outputs`.
        golden_name: As for `compare_outputs`.
        actual_name: As for `compare_outputs`.
        limits: As for `compare_outputs`.

    Raises:
        UsageError: Unknown precision, no set, or not as many sets on either side.
    """
    if not golden or len(golden) != len(actual):
        raise UsageError(
            f"Cannot compare {len(golden)} sets of outputs of {golden_name} with {len(actual)} of "
            f"{actual_name}.",
            hint="Give the same number of sets for both, at least one.",
        )
    running = RunningComparison(precision, golden_name, actual_name, limits)
    for golden_set, actual_set in zip(golden, actual, strict=True):
        running.add(golden_set, actual_set)
    return running.result()


def worst_set(golden: Sequence[Tensors], actual: Sequence[Tensors]) -> int:
    """Return which of several input sets has the output with the largest relative L2.

    Args:
        golden: Outputs taken as right, one mapping an input set.
        actual: Outputs under test, in the same order.
    """
    errors = [_worst_error(*pair) for pair in zip(golden, actual, strict=True)]
    return errors.index(max(errors))


def _worst_error(golden: Tensors, actual: Tensors) -> float:
    both = [name for name in golden if name in actual]
    fit = [(golden[name], actual[name]) for name in both if _fits(golden[name], actual[name])]
    found = [measure(*pair) for pair in fit]
    if any(one.nonfinite_mismatches for one in found):
        return math.inf
    return max((one.relative_l2 or 0.0 for one in found), default=0.0)


def _fits(golden: NDArray[Any], actual: NDArray[Any]) -> bool:
    return golden.shape == actual.shape


@dataclass(slots=True)
class _Output:
    """One output name over the sets so far."""

    shape: tuple[int, ...]
    dtype: str
    sums: Accumulator = field(default_factory=Accumulator)
    sets: SliceSums = field(default_factory=lambda: SliceSums(0))
    dtype_problems: dict[str, None] = field(default_factory=dict)


class RunningComparison:
    """`compare_sets` for sets that come one after the other; none is kept.

    Memory does not grow with the number of sets, save by three numbers a set and output.
    """

    def __init__(
        self,
        precision: str,
        golden_name: str = "golden",
        actual_name: str = "actual",
        limits: Limits | None = None,
    ) -> None:
        """Begin without a set; the arguments are those of `compare_outputs`.

        Raises:
            UsageError: Unknown precision.
        """
        limits_for(precision)
        self._precision = precision
        self._names = (golden_name, actual_name)
        self._limits = limits
        self._outputs: dict[str, _Output] = {}
        self._skipped: dict[str, str] = {}
        self._set_count = 0

    def add(self, golden: Tensors, actual: Tensors) -> None:
        """Take in the outputs of both sides on one input set."""
        names = dict.fromkeys((*golden, *actual, *self._outputs))
        for name in names:
            if name in self._skipped:
                continue
            try:
                self._add_output(name, self._tensor(golden, name, 0), self._tensor(actual, name, 1))
            except TensorError as error:
                where = f" (input set {self._set_count + 1})" if self._set_count else ""
                self._skipped[name] = f"{str(error).rstrip('.')}{where}"
                self._outputs.pop(name, None)
        self._set_count += 1

    def _tensor(self, tensors: Tensors, name: str, side: int) -> NDArray[Any]:
        if name not in tensors:
            raise TensorError(f"{self._names[side]} has no output '{name}'")
        tensor = np.asarray(tensors[name])
        dtype_of(tensor.dtype)
        return tensor

    def _add_output(self, name: str, golden: NDArray[Any], actual: NDArray[Any]) -> None:
        if self._set_count and name not in self._outputs:
            raise TensorError("absent from the sets before")
        if golden.shape != actual.shape:
            raise TensorError(
                f"shape {list(golden.shape)} in {self._names[0]}, {list(actual.shape)} in "
                f"{self._names[1]}"
            )
        output = self._outputs.setdefault(name, _Output(golden.shape, golden.dtype.name))
        problem = self._dtype_problem(output, golden.dtype, actual.dtype)
        if problem:
            output.dtype_problems[problem] = None
        sums = Accumulator()
        sums.add(golden, actual)
        output.sets.add(self._set_count, *sums.squares())
        output.sums.merge(sums)

    def _dtype_problem(
        self, output: _Output, golden: np.dtype[Any], actual: np.dtype[Any]
    ) -> str | None:
        """Say why the dtypes do not fit; None where they are equal or the precision explains it."""
        if golden.name != output.dtype:
            return f"dtype of {self._names[0]} changes from {output.dtype} to {golden.name}"
        if golden.name == actual.name:
            return None
        narrow = narrower(golden, actual)
        expected = {"float32", _DTYPE_OF[self._precision]}
        if narrow is not None and narrow.name == actual.name and actual.name in expected:
            return None
        return f"dtype is {actual.name}, but {golden.name} in {self._names[0]}"

    def result(self) -> Comparison:
        """Return what was found in all sets so far."""
        outputs = tuple(self._judge(name, output) for name, output in self._outputs.items())
        coverage = Coverage(len(outputs), dict(self._skipped))
        return Comparison(*self._names, self._precision, outputs, coverage)

    def _judge(self, name: str, output: _Output) -> OutputComparison:
        coarser = (self._precision, _PRECISION_OF.get(output.dtype, "f32"))
        default = max(map(limits_for, coarser), key=lambda limits: limits.relative_l2)
        limits = self._limits or default
        metrics = output.sums.metrics()
        verdict = judge(metrics, output.dtype, limits)
        reasons = (*output.dtype_problems, *verdict.reasons, *self._worst_set(output, limits))
        verdict = replace(verdict, passed=not reasons, reasons=reasons)
        return OutputComparison(name, output.dtype, output.shape, metrics, verdict)

    def _worst_set(self, output: _Output, limits: Limits) -> Iterator[str]:
        """Yield what is wrong with the worst input set alone; integers were judged exactly."""
        if self._set_count == 1 or not dtype_named(output.dtype).is_float:
            return
        worst, index = output.sets.worst(output.sums.golden_rms**2)
        if worst > limits.worst_channel:
            yield (
                f"relative L2 of input set {index + 1} of {self._set_count} alone is {worst:.3g}, "
                f"limit {limits.worst_channel:.3g}"
            )
