"""Outputs compared, and a bisection, in the terminal."""

from __future__ import annotations

from shipway.cli.terminal import make_table, print_result, scientific
from shipway.compare.bisection import Bisection
from shipway.compare.results import Comparison

__all__ = ["show_bisection", "show_outputs"]


def show_outputs(comparison: Comparison, sets: int) -> None:
    """Print a comparison of outputs: one line each, then what is beyond its limits or was skipped."""
    verdict = "PASS" if comparison.passed else "FAIL"
    limits = f"limits of {comparison.precision}, {sets} input sets"
    print_result(f"{verdict}: {comparison.actual} against {comparison.golden}, {limits}")
    columns = ("relative L2", "worst channel", "gain", "cosine", "max abs", "SNR dB", "ULP")
    table = make_table("output", "verdict", *columns)
    for item in comparison.outputs:
        found = item.metrics
        table.add_row(
            f"{item.name} {item.dtype}{list(item.shape)}",
            "pass" if item.verdict.passed else "FAIL",
            scientific(found.relative_l2),
            scientific(found.worst_channel),
            "" if found.gain is None else f"{found.gain:.7f}",
            "" if found.cosine is None else f"{found.cosine:.7f}",
            scientific(found.max_abs),
            "" if found.snr_db is None else f"{found.snr_db:.1f}",
            "" if found.max_ulp is None else str(found.max_ulp),
        )
    print_result(table)
    for item in comparison.outputs:
        for reason in item.verdict.reasons:
            print_result(f"{item.name}: {reason}")
    for name, why in comparison.coverage.skipped.items():
        print_result(f"skipped {name}: {why}")
    compared, skipped = comparison.coverage.compared, len(comparison.coverage.skipped)
    print_result(f"{compared} outputs compared, {skipped} skipped")


def show_bisection(bisection: Bisection) -> None:
    """Print what a bisection found, and every build it took."""
    print_result(_conclusion(bisection))
    table = make_table("built up to", "outcome", "relative L2", "why")
    for probe in bisection.probes:
        error = None if probe.metrics is None else probe.metrics.relative_l2
        table.add_row(probe.name, probe.outcome, scientific(error), probe.detail)
    print_result(table)
    print_result(
        f"{len(bisection.probes)} builds of {bisection.target}, each with fusions of its own: "
        "not the engine under test itself"
    )


def _conclusion(bisection: Bisection) -> str:
    right = ", ".join(bisection.right) or "the inputs"
    where = f"{bisection.culprit} ({bisection.operator})"
    return {
        "clean": f"CLEAN: every output of {bisection.target} is within its limits",
        "found": f"FAULT in {where}: it is wrong, and {right} right",
        "narrowed": f"FAULT between {right} and {where}: what lies between could not be built",
        "broke": f"UNDECIDED: {bisection.target} cannot compute the outputs",
    }[bisection.verdict]
