"""The divergence section: culprits, error by depth, where it lies, every tensor, the coverage."""

from __future__ import annotations

from dataclasses import dataclass

from shipway.compare.diagnosis import Diagnosis
from shipway.report.diagnosis_rows import TensorRow, make_row
from shipway.report.diagnosis_text import (
    DiagnosisVerdict,
    describe_coverage,
    describe_culprit,
    write_verdict,
)
from shipway.report.divergence_heat import HeatMap, lay_out_heat
from shipway.report.divergence_plots import (
    DepthPlot,
    Histogram,
    lay_out_depth,
    lay_out_histogram,
)
from shipway.report.provenance import Fact

__all__ = ["Card", "DivergenceSection", "lay_out_divergence"]

_CODE = frozenset({"source", "replay"})


@dataclass(frozen=True, slots=True)
class Card:
    """A culprit: its number, its heading, what is known of it."""

    number: int
    heading: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class DivergenceSection:
    """Everything the section shows.

    Args:
        verdict: The first line.
        input_problems: How the inputs differ.
        cards: The culprits, in the order of execution.
        depth: Error by depth.
        histogram: Tensors by the size of their errors.
        channels: Where in the worst tensors the error lies, channel by channel.
        metrics: Which limits the worst tensors break.
        rows: Every tensor, in the order of execution.
        coverage: What was compared, what was not, and why.
        unmatched: Every tensor of the engine that was not compared, and why.
        golden_only: Every tensor of golden that the engine does not show, and why.
    """

    verdict: DiagnosisVerdict
    input_problems: tuple[str, ...]
    cards: tuple[Card, ...]
    depth: DepthPlot | None
    histogram: Histogram | None
    channels: HeatMap | None
    metrics: HeatMap | None
    rows: tuple[TensorRow, ...]
    coverage: tuple[Fact, ...]
    unmatched: tuple[tuple[str, str], ...]
    golden_only: tuple[tuple[str, str], ...]


def lay_out_divergence(diagnosis: Diagnosis) -> DivergenceSection:
    """Return the section.

    Raises:
        UsageError: The diagnosis is of a precision without limits.
    """
    culprits = {culprit.tensor.pair for culprit in diagnosis.culprits}
    return DivergenceSection(
        verdict=write_verdict(diagnosis),
        input_problems=diagnosis.input_problems,
        cards=tuple(_cards(diagnosis)),
        depth=lay_out_depth(diagnosis),
        histogram=lay_out_histogram(diagnosis),
        channels=lay_out_heat(diagnosis, channels=True),
        metrics=lay_out_heat(diagnosis, channels=False),
        rows=tuple(make_row(t, culprit=t.pair in culprits) for t in diagnosis.tensors),
        coverage=tuple(_fact(label, text) for label, text in describe_coverage(diagnosis)),
        unmatched=tuple(diagnosis.unmatched.items()),
        golden_only=tuple(diagnosis.golden_only.items()),
    )


def _cards(diagnosis: Diagnosis) -> list[Card]:
    texts = [describe_culprit(culprit, local=diagnosis.local) for culprit in diagnosis.culprits]
    return [
        Card(number, text.heading, tuple(_fact(*fact) for fact in text.facts))
        for number, text in enumerate(texts, start=1)
    ]


def _fact(label: str, text: str) -> Fact:
    return Fact(label.capitalize(), (text,), code=label in _CODE)
