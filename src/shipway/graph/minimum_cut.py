"""The cheapest way to give each of many things one of two labels: a minimum cut."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable

__all__ = ["FIRST", "SECOND", "LabelCosts"]

FIRST, SECOND = "first", "second"
"""Things whose label is given."""

_FORBIDDEN = 1 << 30


class LabelCosts:
    """What pairs of labels cost. Everything has one of two labels, `FIRST` and `SECOND` their own."""

    def __init__(self) -> None:
        """Begin with no costs."""
        self._capacity: dict[Hashable, dict[Hashable, int]] = defaultdict(lambda: defaultdict(int))

    def charge(self, first: Hashable, second: Hashable, cost: int = _FORBIDDEN) -> None:
        """Charge for `first` having the first label while `second` has the second one."""
        self._capacity[first][second] += cost
        self._capacity[second][first] += 0

    def solve(self) -> tuple[int, set[Hashable]]:
        """Return the least cost, and what has the second label then: as few as possible."""
        cost = 0
        while path := self._path():
            step = min(self._capacity[one][two] for one, two in path)
            for one, two in path:
                self._capacity[one][two] -= step
                self._capacity[two][one] += step
            cost += step
        return cost, self._reaching(SECOND) - {SECOND}

    def _path(self) -> list[tuple[Hashable, Hashable]]:
        """Return the edges of a shortest way from the first label to the second with room on it."""
        came_from: dict[Hashable, Hashable] = {FIRST: FIRST}
        pending = deque([FIRST])
        while pending and SECOND not in came_from:
            here = pending.popleft()
            for there, room in self._capacity[here].items():
                if room and there not in came_from:
                    came_from[there] = here
                    pending.append(there)  # type: ignore[arg-type] # FIRST is a text, others are not
        if SECOND not in came_from:
            return []
        path: list[tuple[Hashable, Hashable]] = []
        here = SECOND
        while here != FIRST:
            path.append((came_from[here], here))
            here = came_from[here]  # type: ignore[assignment] # as above
        return path

    def _reaching(self, target: Hashable) -> set[Hashable]:
        """Return everything from which there is room to the target."""
        found, pending = {target}, [target]
        while pending:
            here = pending.pop()
            for there in self._capacity[here]:
                if there not in found and self._capacity[there][here]:
                    found.add(there)
                    pending.append(there)
        return found
