"""The usual mistakes with these operators, made on purpose: which one gives the engine's tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shipway.compare.cause.evidence import Evidence, Explanation, Values
from shipway.trace.golden import Variant

__all__ = ["Trials", "try_variants"]

_FULL_SIZE = 0.1


@dataclass(frozen=True, slots=True)
class Trials:
    """What came of the variants of a piece.

    Args:
        fits: Those that lead in the right direction, best first.
        tried: How many were run.
        failed: Why the others could not be run, by title.
    """

    fits: tuple[Explanation, ...] = ()
    tried: int = 0
    failed: tuple[tuple[str, str], ...] = ()

    def best(self, evidence: Evidence) -> Explanation | None:
        """Return the one that leaves the least, if that is little enough."""
        if not self.fits or not evidence.is_enough(self.fits[0].left):
            return None
        return self.fits[0]


def try_variants(evidence: Evidence) -> Trials:
    """Run every variant of the piece on the engine's own inputs.

    A variant has no number to choose: it fits where the error has the direction and the full size
    of what the variant changes.
    """
    if evidence.piece is None:
        return Trials()
    fits: list[Explanation] = []
    failed: list[tuple[str, str]] = []
    tried = 0
    for variant in evidence.piece.variants():
        tried += 1
        found, problem = _run(variant, evidence)
        if found is None:
            failed.append((variant.title, problem))
        else:
            fits.extend(_fit(variant, evidence, found))
    fits.sort(key=lambda fit: fit.left)
    return Trials(tuple(fits), tried - len(failed), tuple(failed))


def _run(variant: Variant, evidence: Evidence) -> tuple[Values | None, str]:
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(variant.run(evidence.feeds or {})).astype(np.float64)
    except Exception as error:  # noqa: BLE001 -- a mistake may be an impossible one: that is said, and no crash
        return None, str(error)
    if found.size != math.prod(evidence.golden.shape):
        return None, f"gives shape {list(found.shape)}"
    return np.nan_to_num(found.reshape(evidence.golden.shape)), ""


def _fit(variant: Variant, evidence: Evidence, found: Values) -> Iterator[Explanation]:
    change = found - evidence.golden
    power = float((change**2).sum())
    if not power:
        return
    size = float((change * evidence.error).sum()) / power
    left = evidence.left(found)
    if abs(size - 1) > _FULL_SIZE:
        return
    text = (
        f"{variant.title}: this gives the engine's numbers but for {left:.2g}, "
        f"where golden is off by {evidence.size:.2g}"
    )
    yield Explanation(variant.cause, text, left, variant.operator)
