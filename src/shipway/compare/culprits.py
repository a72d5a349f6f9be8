"""Which tensors beyond their limits are at fault, and why; the others are explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.finding import find_cause
from shipway.compare.cause.precision import explains_precision
from shipway.compare.conditioning import explains_conditioning
from shipway.compare.diagnosis import Cause, Culprit, TensorComparison
from shipway.compare.matching import Matching
from shipway.compare.options import coarsest
from shipway.compare.reordering import arrange
from shipway.compare.replay import write_replay
from shipway.compare.verdict import limits_in
from shipway.engines.tapping import AS_WITHOUT
from shipway.tensors import Tensors
from shipway.trace.golden import Golden, Piece

__all__ = ["Evidence", "find_culprits"]

_READERS = 3
_NEAR = 64
_MOST_ROUNDING_F32 = 0.05
_NOTHING = 1e-18
"""A sigmoid that ends in exact zeros in one engine ends in such numbers in another."""


@dataclass(slots=True, eq=False)
class Evidence:
    """What a culprit is judged on.

    Args:
        golden: What is taken as right.
        feeds: Every input of the model by name.
        read: Returns the engine's tensor of a name.
        matching: Which of them is which of golden's.
        precision: What the engine computed in.
        most: How many culprits to look into.
        replay: Folder for the pieces that show a fault; None: none are written.
        perturbed: Tensors that were read by changing the result, with the reason.
    """

    golden: Golden
    feeds: Tensors
    read: Callable[[str], NDArray[Any] | None]
    matching: Matching
    precision: str
    most: int
    replay: Path | None = None
    perturbed: Mapping[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(init=False)
    shapes: dict[str, tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Turn the matching round."""
        self.shown = self.matching.standing(self.perturbed)
        self.shapes = {}

    def piece(self, name: str) -> Piece:
        """Return golden's operators between tensors that the engine shows and this one."""
        return self.golden.piece(name, self.shown.keys() - {name})

    def feeds_of(self, piece: Piece) -> dict[str, NDArray[Any]]:
        """Return what a piece starts from: the engine's own tensors."""
        found = {}
        for name in piece.inputs:
            value = self.actual(name) if name in self.shown else None
            found[name] = self.feeds[self._input_name(name)] if value is None else value
        return found

    def _input_name(self, name: str) -> str:
        """Return what the model calls an input: the program may call it otherwise."""
        names = next(tap.names for tap in self.golden.taps if tap.name == name)
        return next((one for one in names if one in self.feeds), name)

    def actual(self, golden: str) -> NDArray[Any] | None:
        """Return the engine's tensor for a golden one, in golden's shape."""
        name = self.shown[golden]
        value, shape = self.read(name), self.shapes.get(golden)
        if value is None or shape is None:
            return value
        return arrange(value, self.matching.pairs[name][1], shape)


@dataclass(slots=True)
class _Search:
    evidence: Evidence
    tensors: Sequence[TensorComparison]
    culprits: list[Culprit] = field(default_factory=list)
    guilty: dict[str, str] = field(default_factory=dict)
    """For each operator of a culprit's piece, the tensor of that culprit."""

    def run(self) -> Iterator[TensorComparison]:
        for tensor in self.tensors:
            yield tensor if tensor.verdict.passed else self._look_into(tensor)

    def _look_into(self, tensor: TensorComparison) -> TensorComparison:
        evidence = self.evidence
        why = _excuse(tensor)
        if why:
            return replace(tensor, explained=why)
        actual = evidence.read(tensor.actual)
        if actual is None:
            return tensor
        actual = arrange(actual, tensor.match, tensor.shape)
        piece = evidence.piece(tensor.golden)
        operators = [one.name for one in piece.operators]
        before = next((self.guilty[name] for name in operators if name in self.guilty), None)
        if before is not None:
            return replace(tensor, explained=f"computed with operators of '{before}', at fault")
        feeds = evidence.feeds_of(piece)
        source = self._lets_in(tensor, feeds)
        if source:
            why = f"NaN or Inf of what is at fault come in with '{source}'; engines differ in what they make of them"
            return replace(tensor, explained=why)
        golden = piece.run(feeds)
        precision = coarsest(evidence.precision, golden.dtype.name, actual.dtype.name)
        limits = limits_in(tensor.verdict)
        if _may_be_rounding(tensor, precision):
            why = explains_precision(piece, feeds, golden, actual, precision)
        if not why and limits is not None:
            why = explains_conditioning(piece, feeds, actual, limits, precision)
        if why:
            return replace(tensor, explained=why)
        self.guilty |= dict.fromkeys(operators, tensor.golden)
        self.culprits.append(self._accuse(tensor, piece, feeds, (golden, actual), precision))
        return tensor

    def _lets_in(self, tensor: TensorComparison, feeds: Tensors) -> str:
        """Return through which input the NaN of a culprit come, where nothing else is wrong.

        OpenVINO's ReLU makes 0 of NaN, ONNX Runtime's MaxPool drops it: that is not another fault.
        """
        found = tensor.judged
        finite_is_wrong = found.relative_l2 is not None and len(tensor.verdict.reasons) > 1
        poisoned = any(culprit.cause.kind == "nan" for culprit in self.culprits)
        if not found.nonfinite_mismatches or finite_is_wrong or not poisoned:
            return ""
        return next((name for name, value in feeds.items() if not np.isfinite(value).all()), "")

    def _accuse(
        self,
        tensor: TensorComparison,
        piece: Piece,
        feeds: Tensors,
        pair: tuple[NDArray[Any], NDArray[Any]],
        precision: str,
    ) -> Culprit:
        evidence = self.evidence
        if len(self.culprits) >= evidence.most:
            cause = Cause("unknown", f"not looked into: only the first {evidence.most} are")
        else:
            cause = find_cause(
                *pair,
                precision=precision,
                piece=piece,
                feeds=feeds,
                cut=evidence.golden.piece,
            )
        folder = ""
        if evidence.replay is not None and len(self.culprits) < evidence.most:
            folder = str(
                write_replay(evidence.replay, len(self.culprits), piece, feeds, *pair, cause=cause)
            )
        known = {one.golden: one for one in self.tensors}
        return Culprit(
            tensor=tensor,
            cause=cause,
            operators=tuple((one.name, one.op) for one in piece.operators),
            inputs={name: known[name].severity for name in piece.inputs if name in known},
            readers=self._readers(tensor),
            effect=self._effect(tensor, known),
            replay=folder,
        )

    def _readers(self, tensor: TensorComparison) -> dict[str, float]:
        """Return the next tensors that are computed from this one."""
        found: dict[str, float] = {}
        behind = (one for one in self.tensors if one.order > tensor.order)
        for _, one in zip(range(_NEAR), behind, strict=False):
            if tensor.golden in self.evidence.piece(one.golden).inputs:
                found[one.golden] = one.severity
            if len(found) == _READERS:
                break
        return found

    def _effect(
        self, tensor: TensorComparison, known: Mapping[str, TensorComparison]
    ) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for output, name in self.evidence.golden.outputs.items():
            if name not in known:
                continue
            way = self.evidence.golden.piece(name, {tensor.golden})
            if name == tensor.golden or tensor.golden in way.inputs:
                found[output] = known[name].accumulated.relative_l2
        return found


def _may_be_rounding(tensor: TensorComparison, precision: str) -> bool:
    """Whether an error is small enough that a run in float64 is believed when it says "rounding"."""
    return precision != "f32" or (tensor.judged.relative_l2 or 0.0) <= _MOST_ROUNDING_F32


def _excuse(tensor: TensorComparison) -> str:
    """Say why nothing can be told of a tensor, whatever its numbers are; "" where they count."""
    if tensor.perturbed and AS_WITHOUT not in tensor.perturbed:
        return "read only by changing the engine; judged behind it"
    found = tensor.judged
    if found.nonfinite_mismatches or not found.count:
        return ""
    if found.relative_l2 is None:
        return "NaN or Inf everywhere, and in golden too"
    if found.relative_l2 == math.inf and (found.max_abs or 0.0) < _NOTHING:
        return f"golden is zero, and so is this but for {found.max_abs:.2g}"
    return ""


def find_culprits(
    evidence: Evidence, tensors: Sequence[TensorComparison]
) -> tuple[list[TensorComparison], list[Culprit]]:
    """Find what is at fault among tensors beyond their limits.

    A tensor is not at fault where rounding to the engine's precision alone makes such an error, where
    it shares operators with a culprit before it (the engine does not show what lies between), or
    where NaN of a culprit come in and all else is right.

    Args:
        evidence: What to judge on.
        tensors: All that were compared, in the golden's order of execution.

    Returns:
        The tensors, with what explains those that are not at fault; and the culprits, in order.
    """
    evidence.shapes = {one.golden: one.shape for one in tensors}
    search = _Search(evidence, tensors)
    return list(search.run()), search.culprits
