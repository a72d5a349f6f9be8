"""What an evaluation found, as plain data: integer counts first, rates derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BadSample", "Evaluation", "Flip", "Flips", "TopN"]


@dataclass(frozen=True, slots=True)
class TopN:
    """How many samples had their label among the N highest scores.

    Args:
        n: N.
        correct: Count.
        total: Samples evaluated.
        low: Lower end of the 95 % Wilson score interval of the rate, in [0, 1].
        high: Upper end.
    """

    n: int
    correct: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Correct / total, in [0, 1]."""
        return self.correct / self.total

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "n": self.n,
            "correct": self.correct,
            "total": self.total,
            "rate": self.rate,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that could not be read, and why."""

    sample: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"sample": self.sample, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample whose highest-scoring class differs from golden's."""

    sample: str
    label: int
    golden: int
    actual: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "sample": self.sample,
            "label": self.label,
            "golden": self.golden,
            "actual": self.actual,
        }


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples on which two engines disagree, paired.

    Args:
        compared: Samples both engines classified.
        flips: Every sample whose Top-1 class differs, whether or not either is right.
        golden_only: Samples only golden got right.
        actual_only: Samples only the engine under test got right.
        mcnemar_p: Two-sided exact McNemar p-value of golden_only versus actual_only.
    """

    compared: int
    flips: tuple[Flip, ...]
    golden_only: int
    actual_only: int
    mcnemar_p: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "compared": self.compared,
            "count": len(self.flips),
            "flips": [flip.to_json() for flip in self.flips],
            "golden_only": self.golden_only,
            "actual_only": self.actual_only,
            "mcnemar_p": self.mcnemar_p,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy of one engine on one data set.

    Args:
        engine: Engine name.
        dataset: Where the samples came from.
        dataset_digest: SHA-256 over ids, labels and preprocessing: two evaluations are comparable
            when it is equal.
        preprocess: The preprocessing, as text that reads back.
        top: Top-1 to Top-5 (fewer when there are fewer classes).
        bad: Samples that could not be read; they count in no rate.
        effective: `session.effective` of the run.
        flips: Against golden; None for golden itself.
        seconds: Wall time, reading and preprocessing included.
        notes: What the reader should know, say that images without a label were left out.
    """

    engine: str
    dataset: str
    dataset_digest: str
    preprocess: str
    top: tuple[TopN, ...]
    bad: tuple[BadSample, ...]
    effective: dict[str, str]
    flips: Flips | None
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "engine": self.engine,
            "dataset": self.dataset,
            "dataset_digest": self.dataset_digest,
            "preprocess": self.preprocess,
            "top": [top.to_json() for top in self.top],
            "bad": [bad.to_json() for bad in self.bad],
            "effective": self.effective,
            "flips": None if self.flips is None else self.flips.to_json(),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }
