"""Which tensor of an engine is which tensor of the golden.

Names go first, for they are cheap and nearly always right; numbers decide. A cascade: the user's
own map; the name, led through the name map; what the engine says it computes; and the numbers
alone, looked for between the tensors already known. A clean build of the engine confirms or refutes
a match by its numbers. Those of the engine under test only confirm: where they differ, that may be
the very fault that is looked for.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shipway.compare.diagnosis import Match, Method
from shipway.compare.fingerprints import agreement, is_distinctive, is_reordered, is_same
from shipway.compare.module_names import module_names
from shipway.compare.options import coarsest
from shipway.engines.tapping import AS_WITHOUT, Tap
from shipway.errors import UsageError
from shipway.trace.statistics import Statistics

__all__ = ["Candidate", "Matching", "match_tensors"]

_SHOWN = 1.0  # by name or provenance, and the numbers agree
_UNSHOWN = 0.5  # by name and size alone
_INSIDE = 0.9  # by numbers alone, where it must lie
_ANYWHERE = 0.7  # by numbers alone, elsewhere
_SANITIZED = re.compile(r"[/.:]")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor of one side.

    Args:
        tap: Its names and its place.
        shape: Sizes.
        statistics: Its numbers in a clean execution, or in the one under test; None: not known.
        is_clean: The numbers are of a clean execution, so that they can refute a match.
        dtype: Element type, which says how exact its numbers can be.
    """

    tap: Tap
    shape: tuple[int, ...]
    statistics: Statistics | None
    is_clean: bool = False
    dtype: str = "float32"


@dataclass(slots=True)
class Matching:
    """What belongs together.

    Args:
        pairs: For each tensor of the engine that was matched: golden's name, and why.
        unmatched: Each other tensor of the engine, with the reason.
        moved: For each of those that holds the numbers of others in another order: which those are.
    """

    pairs: dict[str, tuple[str, Match]] = field(default_factory=dict)
    unmatched: dict[str, str] = field(default_factory=dict)
    moved: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def by_golden(self) -> dict[str, list[str]]:
        """Return the engine's names of each golden tensor, in the order of execution."""
        found: dict[str, list[str]] = defaultdict(list)
        for actual, (golden, _) in self.pairs.items():
            found[golden].append(actual)
        return dict(found)

    def standing(self, perturbed: Mapping[str, str]) -> dict[str, str]:
        """Return for golden tensors the engine's that goes on in its place.

        That is the last one that is called so; where none is, the last one recognised by its
        numbers where it must lie. None that is only believed to be it, and none that was read by
        changing it.

        Args:
            perturbed: Tensors that were read by changing the result, with the reason.
        """
        found: dict[str, str] = {}
        for wanted in ("fingerprint", ""):
            for actual, (golden, match) in self.pairs.items():
                changed = actual in perturbed and AS_WITHOUT not in perturbed[actual]
                if changed or match.confidence == _ANYWHERE:
                    continue
                if (match.method == "fingerprint") == bool(wanted):
                    found[golden] = actual
        return found


def match_tensors(
    golden: Sequence[Candidate],
    actual: Sequence[Candidate],
    *,
    links: Mapping[str, str] | None = None,
    user: Mapping[str, str] | None = None,
    precision: str = "f32",
) -> Matching:
    """Match the tensors of an engine with those of the golden.

    Args:
        golden: In the order of execution.
        actual: In the order of execution.
        links: Golden's name for a name of the model the engine was given, where they differ: from
            the name map.
        user: Golden's name for a tensor of the engine, by the user.
        precision: How exactly the numbers of the two sides agree where they are the same.

    Raises:
        UsageError: The user's map names a tensor that is not there.
    """
    return _Matcher(golden, actual, links or {}, precision).match(user or {})


class _Matcher:
    def __init__(
        self,
        golden: Sequence[Candidate],
        actual: Sequence[Candidate],
        links: Mapping[str, str],
        precision: str,
    ) -> None:
        self._golden = {one.tap.name: one for one in golden}
        self._place = {name: place for place, name in enumerate(self._golden)}
        self._by_count: dict[int, list[Candidate]] = defaultdict(list)
        for one in golden:
            if one.statistics is not None and is_distinctive(one.statistics):
                self._by_count[one.statistics.count].append(one)
        self._names = _all_names(golden, links)
        self._actual = list(actual)
        self._precision = precision
        self._found = Matching()
        self._notes: dict[str, str] = {}

    def match(self, user: Mapping[str, str]) -> Matching:
        self._take_users(user)
        for one in self._actual:
            if one.tap.name not in self._found.pairs:
                self._try_names(one)
        self._try_numbers()
        order = {one.tap.name: place for place, one in enumerate(self._actual)}
        self._found.pairs = dict(sorted(self._found.pairs.items(), key=lambda e: order[e[0]]))
        return self._found

    def _take_users(self, user: Mapping[str, str]) -> None:
        actual = {one.tap.name for one in self._actual}
        for name, golden in user.items():
            for side, known, wanted in (
                ("engine", actual, name),
                ("golden", self._golden.keys(), golden),
            ):
                if wanted not in known:
                    raise UsageError(
                        f"The map names '{wanted}', which is no tensor of the {side}.",
                        hint="shipway trace MODEL lists the tensors of an engine.",
                    )
            self._found.pairs[name] = (golden, Match("user", 1.0))

    def _try_names(self, one: Candidate) -> None:
        for method, golden in self._called(one):
            shown = self._agree(golden, one)
            why = "" if shown else self._refute(golden, one, method)
            if why:
                self._notes.setdefault(one.tap.name, why)
                continue
            self._keep(one, golden, method, _SHOWN if shown else _UNSHOWN, "")
            return

    def _called(self, one: Candidate) -> Iterator[tuple[Method, Candidate]]:
        """Yield the golden tensors of this size that a tensor is called after, best names first.

        What an engine says it computes besides is only asked where it says no name of the result:
        a result with a name that golden lacks is none of them.
        """
        tries: list[tuple[Method, str]] = [
            ("name", name) for name in (*one.tap.names, one.tap.name)
        ]
        tries += [("provenance", name) for name in reversed(one.tap.covers)]
        for method, name in tries:
            golden = self._names.get(name)
            if golden is not None and math.prod(golden.shape) == math.prod(one.shape):
                yield method, golden

    def _refute(self, golden: Candidate, one: Candidate, method: Method) -> str:
        """Say why a name is not believed where numbers do not show that it is right; "": it is.

        Numbers of the engine under test never refute a name: they may be wrong, and a transpose
        that is left out looks like the tensor before it. Numbers of a clean build do, where they
        are those of another tensor; where they are nobody's, the clean build may have the fault.
        """
        name = golden.tap.name
        if one.tap.surmised:
            return f"by its size it may be '{name}', and its numbers do not show it"
        if method == "provenance" and one.tap.names:
            return f"it is called '{one.tap.names[0]}', which golden lacks"
        if not _same_axes(golden, one):
            return f"it is called '{name}', and lies otherwise: {list(one.shape)}"
        return self._refute_by_numbers(golden, one) if one.is_clean else ""

    def _refute_by_numbers(self, golden: Candidate, one: Candidate) -> str:
        name = golden.tap.name
        if self._is_reordered(golden, one):
            return f"it holds the numbers of '{name}' in another order"
        other = self._recognise(one)
        if other is not None:
            return f"its name says '{name}', its numbers are those of '{other[0].tap.name}'"
        return ""

    def _is_reordered(self, golden: Candidate, one: Candidate) -> bool:
        pair = golden.statistics, one.statistics
        if pair[0] is None or pair[1] is None:
            return False
        return is_reordered(pair[0], pair[1], self._exactness(one, golden))

    def _exactness(self, one: Candidate, *others: Candidate) -> str:
        """Return the precision in which the numbers of a tensor, and of others, were computed."""
        precision = "f32" if one.is_clean else self._precision
        return coarsest(precision, one.dtype, *(other.dtype for other in others))

    def _keep(
        self, one: Candidate, golden: Candidate, method: Method, confidence: float, note: str
    ) -> None:
        self._found.pairs[one.tap.name] = (golden.tap.name, Match(method, confidence, note))

    def _agree(self, golden: Candidate, actual: Candidate) -> bool | None:
        """Say whether the numbers agree; None where one side's are not known."""
        if golden.statistics is None or actual.statistics is None:
            return None
        return is_same(golden.statistics, actual.statistics, self._exactness(actual, golden))

    def _try_numbers(self) -> None:
        for one in self._actual:
            name = one.tap.name
            if name in self._found.pairs:
                continue
            known = self._recognise(one)
            if known is None:
                self._found.unmatched[name] = self._why_not(one)
                self._found.moved |= self._moved(one)
            else:
                note = self._notes.get(name, "")
                self._keep(one, known[0], "fingerprint", known[1], note)

    def _moved(self, one: Candidate) -> dict[str, tuple[str, ...]]:
        if one.statistics is None or not is_distinctive(one.statistics):
            return {}
        if self._exactness(one) != "f32":
            return {}
        found = tuple(
            golden.tap.name
            for golden in self._by_count[one.statistics.count]
            if self._is_reordered(golden, one) and _sizes(golden) == _sizes(one)
        )
        low, high = self._interval(one)
        inside = tuple(name for name in found if low <= self._place[name] <= high)
        found = inside or found  # engines may take branches in another order
        return {one.tap.name: found} if found else {}

    def _recognise(self, one: Candidate) -> tuple[Candidate, float] | None:
        """Return the golden tensor with these numbers, if one has them, and how sure that is.

        Where several have them they are one tensor under other shapes: the one of this shape is
        taken, first where it must lie, then anywhere.
        """
        statistics = one.statistics
        if statistics is None or not is_distinctive(statistics):
            return None
        if self._exactness(one) != "f32":
            return None  # neighbours look alike within what bf16 and f16 round
        hits = [
            (agreement(golden.statistics, statistics), golden)
            for golden in self._by_count[statistics.count]
            if golden.statistics is not None and is_same(golden.statistics, statistics, "f32")
        ]
        if not hits:
            return None
        closest = min(apart for apart, _ in hits)
        close = [golden for apart, golden in hits if apart <= 2 * closest + 1e-9]
        low, high = self._interval(one)

        def rank(golden: Candidate) -> tuple[bool, bool, int]:
            place = self._place[golden.tap.name]
            # The last of equal ones: what lies before it may be known by name already.
            return golden.shape != one.shape, not low <= place <= high, -place

        best = min(close, key=rank)
        return best, _ANYWHERE if rank(best)[1] else _INSIDE

    def _interval(self, one: Candidate) -> tuple[int, int]:
        """Return the places in the golden between the nearest matches before and behind."""
        order = one.tap.order
        known = [
            (other.tap.order, self._place[self._found.pairs[other.tap.name][0]])
            for other in self._actual
            if other.tap.name in self._found.pairs
        ]
        known.sort()
        at = bisect_left(known, (order, -1))
        before = max((place for _, place in known[:at][-3:]), default=0)
        behind = min((place for _, place in known[at:][:3]), default=len(self._place))
        return min(before, behind), max(before, behind)

    def _why_not(self, one: Candidate) -> str:
        if one.tap.name in self._notes:
            return self._notes[one.tap.name]
        called = (self._names.get(name) for name in (*one.tap.names, one.tap.name))
        golden = next((found for found in called if found is not None), None)
        if golden is not None:
            return f"shape {list(one.shape)}, but {list(golden.shape)} in the golden"
        return f"the golden has no tensor of this name, and {self._why_not_recognised(one)}"

    def _why_not_recognised(self, one: Candidate) -> str:
        if one.statistics is None:
            return "its numbers are not known"
        if not is_distinctive(one.statistics):
            return "too few different numbers to tell it by"
        if self._exactness(one) != "f32":
            return f"numbers in {self._precision} are too coarse to tell it by"
        pool = self._by_count[one.statistics.count]
        moved = next((golden for golden in pool if self._is_reordered(golden, one)), None)
        if moved is not None:
            return f"it holds those of '{moved.tap.name}' in another order"
        return "none with these numbers"


def _all_names(golden: Sequence[Candidate], links: Mapping[str, str]) -> dict[str, Candidate]:
    """Return golden's tensors by every name they may be called by, the best names first."""
    by_name = {one.tap.name: one for one in golden}
    found = {name: by_name[target] for name, target in links.items() if target in by_name}
    # A link leads from a name of the engine's model: it goes before an equal name of the program.
    for name, one in by_name.items():
        found.setdefault(name, one)
    for one in golden:
        for name in one.tap.names:
            found.setdefault(name, one)
    for path, name in module_names([one.tap for one in golden]):
        found.setdefault(path, by_name[name])
    for name, one in list(found.items()):
        found.setdefault(_SANITIZED.sub("_", name), one)
    return found


def _same_axes(golden: Candidate, actual: Candidate) -> bool:
    """Whether two shapes are the same but for axes of size 1."""
    sides = [[size for size in side.shape if size != 1] for side in (golden, actual)]
    return sides[0] == sides[1]


def _sizes(side: Candidate) -> list[int]:
    """Return the sizes of the axes, in no order, but for axes of size 1."""
    return sorted(size for size in side.shape if size != 1)
