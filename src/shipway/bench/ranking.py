"""Which engine is faster, said only where the measurements can tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from shipway.bench.results import BenchResult

__all__ = ["Place", "Ranking", "rank"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine stands at one batch size.

    Args:
        engine: Engine name.
        place: 1 plus the number of engines that are certainly faster, so that engines the
            measurement cannot tell apart may share a place. None where it is not ranked.
        p50_ms: Median latency of a batch.
        p50_low_ms: Lower end of its 95 % confidence interval; None where it is not known.
        p50_high_ms: Upper end.
        why_unranked: Why there is no place; "" where there is.
    """

    engine: str
    place: int | None
    p50_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    why_unranked: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The engines at one batch size: places first, in order of median; then the unranked."""

    batch: int
    places: tuple[Place, ...]

    @property
    def fastest(self) -> str | None:
        """The one engine certainly faster than every other; None where there is no such one."""
        rivals = [place for place in self.places if place.place in {1, None}]
        alone = len(rivals) == 1 and rivals[0].place == 1
        return rivals[0].engine if alone else None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "batch": self.batch,
            "fastest": self.fastest,
            "places": [place.to_json() for place in self.places],
        }


def rank(results: Iterable[BenchResult]) -> tuple[Ranking, ...]:
    """Rank the engines at each batch size, fastest first.

    One engine counts as faster than another where the confidence intervals of their medians do
    not overlap. A result that is "too noisy", or that has no interval, is not ranked: its place
    would say more about the machine than about the engine.

    Args:
        results: Of one run of `bench_sessions`; those of separate runs met different machines.

    Returns:
        One ranking a batch size, in the order in which they come.
    """
    batches: dict[int, list[BenchResult]] = {}
    for result in results:
        batches.setdefault(result.batch, []).append(result)
    return tuple(Ranking(batch, _places(found)) for batch, found in batches.items())


def _places(results: list[BenchResult]) -> tuple[Place, ...]:
    ends = [
        result.latency.p50_high_ms
        for result in results
        if not _why_unranked(result) and result.latency.p50_high_ms is not None
    ]
    places = [_place(result, ends) for result in results]
    return tuple(sorted(places, key=lambda place: (place.place is None, place.p50_ms)))


def _place(result: BenchResult, ends: list[float]) -> Place:
    latency = result.latency
    low, high = latency.p50_low_ms, latency.p50_high_ms
    why = _why_unranked(result)
    place = None if why or low is None else 1 + sum(end < low for end in ends)
    return Place(result.engine, place, latency.p50_ms, low, high, why)


def _why_unranked(result: BenchResult) -> str:
    if result.noise == "too noisy":
        spread = result.latency.iqr_ms / result.latency.p50_ms
        return f"too noisy: half of the calls spread over {spread:.0%} of the median"
    if result.latency.p50_low_ms is None:
        return "too few rounds for a confidence interval"
    return ""
