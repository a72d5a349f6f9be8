"""Sizes of dynamic dimensions to prove an export at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shipway.export.sizes import Bounds

__all__ = ["Refusal", "SizePlan", "plan_sizes"]

Accepts = Callable[[dict[str, int]], str]
"""Says why golden does not take these sizes; "" when it does."""

_MIXED_DIMS = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """Sizes that golden does not take, and why."""

    sizes: dict[str, int]
    why: str


class SizePlan:
    """Sets of sizes that golden takes, and a note on every one that it does not.

    Attributes:
        sets: The sets.
        notes: What is not tried, and why.
        left_out: Kinds of inputs that what is proved need not hold for.
    """

    def __init__(self, accepts: Accepts, golden: str = "PyTorch") -> None:
        """Begin without a set; `golden` is what notes call the side that refuses a size."""
        self._golden = golden
        self.sets: list[dict[str, int]] = []
        self.notes: list[str] = []
        self.left_out: tuple[str, ...] = ()
        self.refused: list[Refusal] = []
        self._accepts = accepts

    def add(self, sizes: dict[str, int]) -> bool:
        """Add a set unless it is there already or golden refuses it; say whether it is in."""
        if sizes in self.sets:
            return True
        if any(one.sizes == sizes for one in self.refused):
            return False
        if why := self._accepts(sizes):
            asked = ", ".join(f"{name}={size}" for name, size in sizes.items())
            self.refused.append(Refusal(dict(sizes), why))
            self.notes.append(f"not tried: {asked}, which {self._golden} refuses: {why}")
            return False
        self.sets.append(sizes)
        return True


def plan_sizes(
    example: Mapping[str, int], bounds: Bounds, accepts: Accepts, golden: str = "PyTorch"
) -> SizePlan:
    """Choose sizes: those of the export, the smallest, larger ones, and mixtures.

    The smallest is 1, or the lower bound; where golden refuses it (an image smaller than the
    kernel), twice as much, and so on up to the size of the export. The larger ones are twice the
    export's, within the bounds. With several dimensions each is also at its smallest while the
    others are large: a mix-up of two dimensions shows there.

    Args:
        example: Size of each dimension at the export.
        bounds: Smallest and largest size, where given.
        accepts: Asked before a set is taken.
        golden: What notes call the side that refuses a size.
    """
    plan = SizePlan(accepts, golden)
    if not plan.add(dict(example)) or not example:
        return plan
    small = {name: bounds.get(name, (1, None))[0] for name in example}
    while not plan.add(small) and small != example:
        small = {name: min(example[name], 2 * size) for name, size in small.items()}
    large = {name: _double(size, bounds.get(name, (1, None))[1]) for name, size in example.items()}
    large = large if plan.add(large) else dict(example)
    mixed: Sequence[str] = list(example)[:_MIXED_DIMS] if len(example) > 1 else ()
    for name in mixed:
        plan.add(large | {name: small[name]})
    return plan


def _double(size: int, limit: int | None) -> int:
    return 2 * size if limit is None else min(2 * size, limit)
