"""Tries a model at many sizes: a usual one, then each dimension alone, smaller and larger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from shipway.export.sizes import Bounds, example_sizes, long_sizes
from shipway.proof.audit_inputs import AuditInputs

__all__ = ["SizeTrials", "Sizes", "Trying", "try_sizes"]

Sizes = dict[str, int]
Trying = Callable[[Sizes], str]
"""Runs at some sizes and keeps what came; returns why the model does not run, "" where it does."""

_MOST_DIMS = 8
_EQUAL = (4, 64, 512, 16000)
"""16000 is a second of speech."""
_MOST_ELEMENTS = 1 << 24


@dataclass(slots=True)
class SizeTrials:
    """Where a model ran and where it did not.

    Args:
        usual: Sizes that the others are made of; empty where the model runs nowhere, or has no
            dynamic dimension.
        bounds: Smallest and largest size of a dimension.
        ran: Sizes at which each dimension ran while the others were at their usual size.
        failed: Sizes at which it did not, and why.
        ties: Dimensions that run only together, with the first of each group.
        together: Sets of sizes that fail as a whole although every size of them runs alone.
        notes: What was not tried.
    """

    usual: Sizes
    bounds: Bounds
    ran: dict[str, list[int]] = field(default_factory=dict)
    failed: dict[str, dict[int, str]] = field(default_factory=dict)
    ties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    together: list[tuple[Sizes, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def try_sizes(
    inputs: AuditInputs,
    given: Mapping[str, int],
    bounds: Bounds,
    find_usual: Callable[[Iterator[Sizes]], Sizes],
    attempt: Trying,
) -> SizeTrials:
    """Run a model at its usual sizes, at each dimension's smaller and larger ones, and at mixtures.

    Args:
        inputs: The model's inputs.
        given: Usual sizes the user gave.
        bounds: Smallest and largest size of a dimension.
        find_usual: Returns the first of the candidates at which the model runs.
        attempt: Runs the model.

    Raises:
        EngineError: `find_usual` found none.
    """
    trials = SizeTrials(find_usual(_candidates(inputs, given)), bounds)
    names = inputs.names
    for name in names[:_MOST_DIMS]:
        _vary((name,), trials, attempt)
    if names[_MOST_DIMS:]:
        trials.notes.append(f"not varied: {', '.join(names[_MOST_DIMS:])}, to bound the time")
    _find_ties(trials, attempt)
    _try_together(trials, attempt)
    return trials


def _candidates(inputs: AuditInputs, given: Mapping[str, int]) -> Iterator[Sizes]:
    """Yield usual sizes to try: those of an export, with one sample, others equal, all 1, long ones."""
    free = inputs.names
    examples = [{name: one[name] for name in free} for one in example_sizes(inputs.specs, {})]
    samples = inputs.first_axes
    tried: list[Sizes] = []
    for one in (
        *examples,
        *(one | dict.fromkeys(samples, 1) for one in examples),
        *(
            dict.fromkeys(free, size) | few
            for size in _EQUAL
            for few in (dict.fromkeys(samples, 1), {})
        ),
        dict.fromkeys(free, 1),
        *({name: one[name] for name in free} for one in long_sizes(inputs.specs)),
    ):
        sizes = one | dict(given)
        if sizes in tried:
            continue
        # What others would take for granted is tried; what is a guess must not fill the memory.
        if one in examples or _elements(inputs, sizes) <= _MOST_ELEMENTS:
            tried.append(sizes)
            yield sizes


def _elements(inputs: AuditInputs, sizes: Sizes) -> int:
    """Return the elements of the largest input."""
    complete = inputs.complete(sizes)
    return max(
        (
            math.prod(
                dim if isinstance(dim, int) else complete.get(dim, 1) for dim in spec.shape or ()
            )
            for spec in inputs.specs
        ),
        default=0,
    )


def _vary(names: Sequence[str], trials: SizeTrials, attempt: Trying) -> None:
    """Try names that have one size at smaller and larger ones, the first of each kind that runs."""
    first = names[0]
    usual = trials.usual[first]
    ran, failed = [usual], trials.failed.setdefault(first, {})
    low, high = trials.bounds.get(first, (1, None))
    for candidates in (_smaller(usual, low), _larger(usual, high)):
        for size in candidates:
            why = attempt(trials.usual | dict.fromkeys(names, size))
            if not why:
                ran.append(size)
                break
            failed[size] = why
    trials.ran[first] = sorted(ran)


def _smaller(usual: int, low: int) -> Iterator[int]:
    size = low
    while size < usual:
        yield size
        size *= 2


def _larger(usual: int, high: int | None) -> Iterator[int]:
    for size in dict.fromkeys((2 * usual, usual + usual // 2, usual + 1, usual + 2)):
        if size > usual and (high is None or size <= high):
            yield size


def _find_ties(trials: SizeTrials, attempt: Trying) -> None:
    """Find dimensions of one usual size that do not grow alone and do grow together."""
    stuck = [name for name, sizes in trials.ran.items() if max(sizes) == trials.usual[name]]
    leader: dict[str, str] = {}
    for first, second in combinations(stuck, 2):
        size = trials.usual[first]
        if size != trials.usual[second] or second in leader or first in leader:
            continue
        group = (*trials.ties.get(first, (first,)), second)
        if not attempt(trials.usual | dict.fromkeys(group, 2 * size)):
            trials.ties[first], leader[second] = group, first
    for group in trials.ties.values():
        for name in group:
            trials.ran.pop(name)
            trials.failed.pop(name)
        _vary(group, trials, attempt)


def _try_together(trials: SizeTrials, attempt: Trying) -> None:
    """Try all dimensions at their smallest, and at their largest size."""
    if len(trials.ran) < 2:
        return
    for pick in (min, max):
        sizes = dict(trials.usual)
        for name, ran in trials.ran.items():
            sizes |= dict.fromkeys(trials.ties.get(name, (name,)), pick(ran))
        if why := attempt(sizes):
            trials.together.append((sizes, why))
