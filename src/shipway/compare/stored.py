"""Compare two stored executions, tensor by tensor, by their accumulated errors alone.

There is no golden that could be fed the engine's tensors: the first tensor beyond its limit is
where an error first exceeds what rounding adds up to, which need not be where it was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from shipway.compare.cause.finding import find_cause
from shipway.compare.diagnosis import Cause, Culprit, Diagnosis, TensorComparison
from shipway.compare.execution import CUT_SHORT, Execution, input_problems
from shipway.compare.facts import bound_by_facts, facts_of
from shipway.compare.matching import Candidate, Matching, match_tensors
from shipway.compare.metrics import measure
from shipway.compare.options import DiagnoseOptions, coarsest, limits_of
from shipway.compare.results import Metrics
from shipway.compare.severity import severity_of
from shipway.compare.verdict import judge
from shipway.errors import TensorError
from shipway.tensors import dtype_named
from shipway.trace.statistics import Statistics

__all__ = ["bound_metrics", "diagnose_stored"]

_BOUNDS = "statistics only: errors are lower bounds"


def diagnose_stored(golden: Execution, actual: Execution, options: DiagnoseOptions) -> Diagnosis:
    """Compare two stored executions.

    Args:
        golden: What is taken as right.
        actual: What is under test.
        options: How to compare; limits are those for accumulated errors.

    Raises:
        UsageError: The user's map names a tensor that is not there.
        TensorError: The two have no tensor in common.
    """
    matching = match_tensors(
        [_candidate(golden, place) for place in range(len(golden.taps))],
        [_candidate(actual, place) for place, tap in enumerate(actual.taps) if tap.kind != "input"],
        links=options.links,
        user=options.user,
        precision=options.precision,
    )
    if not matching.pairs:
        raise TensorError(
            f"{actual.title} and {golden.title} have no tensor in common: they are of different models.",
            hint="Compare executions of one model, or give --map with pairs of names.",
        )
    problems = input_problems(golden, actual)
    tensors = _compare_all(golden, actual, matching, options)
    first = None if problems else next((one for one in tensors if not one.verdict.passed), None)
    if first is not None:
        behind = f"behind '{first.golden}', whose error it carries on as far as can be told"
        tensors = [
            replace(one, explained=behind)
            if one.order > first.order and not one.verdict.passed
            else one
            for one in tensors
        ]
    return Diagnosis(
        golden=golden.title,
        actual=actual.title,
        precision=options.precision,
        local=False,
        tensors=tuple(tensors),
        culprits=() if first is None else (_accuse(golden, actual, first, tensors, options),),
        unmatched={**actual.untapped, **matching.unmatched},
        golden_only=_golden_only(golden, matching, complete=actual.complete),
        input_problems=problems,
        identical=actual.identical,
        local_reason="golden is a stored execution, which cannot be fed the engine's tensors",
    )


def _candidate(side: Execution, place: int) -> Candidate:
    tap = side.taps[place]
    return Candidate(
        tap,
        side.shapes[tap.name],
        side.statistics.get(tap.name),
        dtype=side.dtypes[tap.name],
    )


def _golden_only(golden: Execution, matching: Matching, *, complete: bool) -> dict[str, str]:
    shown = {name for name, _ in matching.pairs.values()}
    why = "the other side has no such tensor" if complete else CUT_SHORT
    return {tap.name: why for tap in golden.taps if tap.kind != "input" and tap.name not in shown}


def _compare_all(
    golden: Execution, actual: Execution, matching: Matching, options: DiagnoseOptions
) -> list[TensorComparison]:
    place = {tap.name: at for at, tap in enumerate(golden.taps)}
    found = [
        _compare(golden, actual, name, matching, place[matching.pairs[name][0]], options)
        for name in matching.pairs
    ]
    return sorted((one for one in found if one is not None), key=lambda one: one.order)


def _compare(
    golden: Execution,
    actual: Execution,
    name: str,
    matching: Matching,
    order: int,
    options: DiagnoseOptions,
) -> TensorComparison | None:
    golden_name, match = matching.pairs[name]
    golden_tap = golden.taps[order]
    tap = next(one for one in actual.taps if one.name == name)
    metrics = _measure(golden, actual, golden_name, name)
    if metrics is None:
        matching.unmatched[name] = "neither values nor statistics of it were kept"
        return None
    if golden.read(golden_name) is None or actual.read(name) is None:
        match = replace(match, note="; ".join(filter(None, (match.note, _BOUNDS))))
    dtype = golden.dtypes[golden_name]
    limits = limits_of(options, dtype, actual.dtypes[name], local=False)
    return TensorComparison(
        order=order,
        golden=golden_name,
        actual=name,
        match=match,
        golden_op=golden_tap.op,
        op=tap.op,
        dtype=dtype,
        shape=golden.shapes[golden_name],
        layout=tap.layout,
        module=golden_tap.module or tap.module,
        source=golden_tap.source or tap.source,
        code=golden_tap.code or tap.code,
        is_output=golden_tap.kind == "output" or tap.kind == "output",
        perturbed=actual.perturbed.get(name, ""),
        accumulated=metrics,
        local=None,
        verdict=judge(metrics, dtype, limits),
        severity=severity_of(metrics, dtype, limits),
    )


def _measure(golden: Execution, actual: Execution, golden_name: str, name: str) -> Metrics | None:
    one, other = golden.read(golden_name), actual.read(name)
    if one is not None and other is not None:
        return measure(one, other.reshape(one.shape))
    numbers = golden.statistics.get(golden_name), actual.statistics.get(name)
    dtype = golden.dtypes[golden_name]
    if numbers[0] is not None and numbers[1] is not None:
        return bound_metrics(numbers[0], numbers[1], dtype)
    facts = _facts(golden, golden_name), _facts(actual, name)
    return bound_by_facts(*facts, math.prod(golden.shapes[golden_name]), dtype)


def _facts(side: Execution, name: str) -> Mapping[str, float]:
    statistics = side.statistics.get(name)
    return side.facts.get(name, {}) if statistics is None else facts_of(statistics)


def bound_metrics(golden: Statistics, actual: Statistics, dtype: str) -> Metrics:
    """Return what two tensors of which only statistics are known differ by at least.

    Args:
        golden: Statistics of what is taken as right.
        actual: Statistics of the other, of as many elements.
        dtype: Golden's dtype.

    Returns:
        Metrics whose errors are lower bounds: the L2 of an error is at least the difference of the
        L2s, channel by channel; the largest error at least the largest distance of two quantiles.
    """
    finite = golden.count - golden.nan_count - golden.inf_count
    kinds = (golden.nan_count, golden.inf_count, golden.nonfinite_crc)
    unequal = kinds != (actual.nan_count, actual.inf_count, actual.nonfinite_crc)
    ends = golden.channel_l2, actual.channel_l2
    if len(ends[0]) != len(ends[1]) or not ends[0]:
        ends = (golden.l2,), (actual.l2,)
    apart = [abs(one - other) for one, other in zip(*ends, strict=True)]
    error = math.sqrt(math.fsum(value * value for value in apart))
    floor = golden.l2 / math.sqrt(len(apart))
    shares = [
        value / max(own, floor) if floor else (math.inf if value else 0.0)
        for value, own in zip(apart, ends[0], strict=True)
    ]
    steps = zip(golden.quantiles, actual.quantiles, strict=False)
    max_abs = max((abs(one - other) for one, other in steps), default=0.0)
    differ = golden.crc != actual.crc and not dtype_named(dtype).is_float
    return Metrics(
        count=golden.count,
        mismatches=int(differ),
        nonfinite_mismatches=int(unequal),
        relative_l2=error / golden.l2 if golden.l2 else (math.inf if error else 0.0),
        worst_channel=max(shares),
        worst_channel_index=shares.index(max(shares)),
        gain=actual.l2 / golden.l2 if golden.l2 else None,
        zero_mismatch=0.0,
        cosine=None,
        max_abs=max_abs,
        max_rel=None,
        mean_rel=None,
        rmse=error / math.sqrt(finite) if finite else None,
        snr_db=None,
        max_ulp=None,
        worst_channel_axis=golden.channel_axis,
    )


def _accuse(
    golden: Execution,
    actual: Execution,
    first: TensorComparison,
    tensors: list[TensorComparison],
    options: DiagnoseOptions,
) -> Culprit:
    one, other = golden.read(first.golden), actual.read(first.actual)
    if one is None or other is None:
        cause = Cause("unknown", "only statistics were kept, so nothing more can be said")
    else:
        precision = coarsest(options.precision, one.dtype.name, other.dtype.name)
        cause = find_cause(
            one, other.reshape(one.shape), precision=precision, piece=None, feeds=None
        )
    at = tensors.index(next(item for item in tensors if item.golden == first.golden))
    return Culprit(
        tensor=first,
        cause=cause,
        inputs={item.golden: item.severity for item in tensors[max(0, at - 2) : at]},
        readers={item.golden: item.severity for item in tensors[at + 1 : at + 3]},
        effect={
            item.golden: item.accumulated.relative_l2
            for item in tensors
            if item.is_output and item.order >= first.order
        },
    )
