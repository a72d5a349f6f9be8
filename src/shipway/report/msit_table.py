"""The tensors of a diagnosis as the table that msit's comparison writes, column by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.compare.results import Metrics

__all__ = ["HEADER", "write_msit_csv"]

_MISSING = "NaN"
_NOBODY = "*"
_UNSAFE_STARTS = ("=", "+", "-", "@", "\t", "\r")

_METRICS: tuple[tuple[str, str], ...] = (
    ("CosineSimilarity", "cosine"),
    ("MaxAbsoluteError", "max_abs"),
    ("AccumulatedRelativeError", ""),
    ("RelativeEuclideanDistance", "relative_l2"),
    ("KullbackLeiblerDivergence", "kl_divergence"),
    ("StandardDeviation", ""),
    ("MeanAbsoluteError", "mean_abs"),
    ("RootMeanSquareError", "rmse"),
    ("MaxRelativeError", "max_rel"),
    ("MeanRelativeError", "mean_rel"),
)
"""msit's column and the field of `Metrics` of that definition; "" where there is none."""

HEADER = (
    "Index",
    "OpType",
    "NPUDump",
    "DataType",
    "Address",
    "GroundTruth",
    "DataType",
    "TensorIndex",
    "Shape",
    "OverFlow",
    *(title for title, _ in _METRICS),
    "CompareFailReason",
    "IsNpuOps",
    "IsOutputNode",
    "IsPrecisionError",
)
"""The columns, in msit's order; two of them are called DataType there too."""


def write_msit_csv(diagnosis: Diagnosis) -> str:
    """Return the table: tensors compared, in golden's order, then what has no counterpart.

    The errors are the accumulated ones, as msit measures them. What is not known is "NaN", as
    there: the engine's own dtype, addresses, whether the hardware saw an overflow, and the metrics
    for which `Metrics` has no field. KullbackLeiblerDivergence is `Metrics.kl_divergence`, there for
    distributions only; msit squeezes any tensor into one first. IsPrecisionError is YES where a tensor is at fault by
    Shipway's limits: not by msit's, which let a NaN pass.

    A name that a spreadsheet would take for a formula is written with an apostrophe before it.

    Source: columns of msit 8.2.0 and of mindstudio-probe 26.2.0.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(HEADER)
    for index, row in enumerate(_rows(diagnosis)):
        table.writerow([index, *map(_safe, row)])
    return stream.getvalue()


def _rows(diagnosis: Diagnosis) -> Iterator[list[str]]:
    for tensor in diagnosis.tensors:
        yield _compared(tensor)
    for name, reason in diagnosis.unmatched.items():
        yield _alone(name, _NOBODY, reason)
    for name, reason in diagnosis.golden_only.items():
        yield _alone(_NOBODY, name, reason)


def _compared(tensor: TensorComparison) -> list[str]:
    return [
        tensor.op or _MISSING,
        tensor.actual,
        _MISSING,
        _MISSING,
        tensor.golden,
        tensor.dtype,
        f"{tensor.actual}:output:0",
        f"[{','.join(map(str, tensor.shape))}]",
        _MISSING,
        *(_metric(tensor.accumulated, field) for _, field in _METRICS),
        "",
        "NO",
        _yes(tensor.is_output),
        _yes(tensor.at_fault),
    ]


def _alone(actual: str, golden: str, reason: str) -> list[str]:
    missing = [_MISSING] * len(_METRICS)
    index = _MISSING if actual == _NOBODY else f"{actual}:output:0"
    names = [_MISSING, actual, _MISSING, _MISSING, golden, _MISSING, index]
    is_engines = _yes(golden == _NOBODY)
    return [*names, _MISSING, _MISSING, *missing, reason, is_engines, "NO", "NO"]


def _metric(metrics: Metrics, field: str) -> str:
    value = getattr(metrics, field, None) if field else None
    return _MISSING if value is None else f"{value:.9g}"


def _yes(answer: bool) -> str:
    return "YES" if answer else "NO"


def _safe(cell: str) -> str:
    if not cell.startswith(_UNSAFE_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
