"""The .csv file that an Ascend dump has for an operator with `"dump_data": "stats"`.

A line for each input and output: `Input/Output,Index,Data Size,Data Type,Format,Shape`, then the
numbers that were asked for, named in the first line. Sizes are joined by `x`, and are those that
the device holds the tensor in.

Source: adx_dump_record.cpp and dump_task.cpp in hicann/runtime. Not tried on files of a device.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from shipway.errors import TensorError
from shipway.trace.importing.dump import finite_facts

__all__ = ["StatisticsRow", "read_statistics"]

_FIXED = ("Input/Output", "Index", "Data Size", "Data Type", "Format", "Shape")
_DTYPES = {
    "DT_FLOAT": "float32",
    "DT_FLOAT16": "float16",
    "DT_BF16": "bfloat16",
    "DT_DOUBLE": "float64",
    "DT_BOOL": "bool",
    **{
        f"DT_{sign}INT{bits}": f"{sign.lower()}int{bits}"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}


class StatisticsRow(NamedTuple):
    """What one line says; `facts` as in `ImportedTensor`."""

    side: str
    position: int
    dtype: str
    format_name: str
    shape: tuple[int, ...]
    facts: Mapping[str, float]


def read_statistics(path: Path) -> tuple[list[StatisticsRow], dict[str, str]]:
    """Return the lines of a file, and why others cannot be used.

    Raises:
        TensorError: It cannot be read, or its first line is another.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            lines, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TensorError(f"Cannot read {path}: {error}.") from error
    if any(name not in columns for name in _FIXED):
        raise TensorError(f"{path} is no statistics of an Ascend dump: its first line is another.")
    rows, problems = [], {}
    for number, line in enumerate(lines, 2):
        try:
            rows.append(_row(line))
        except (ValueError, TypeError, AttributeError) as error:
            problems[f"{path.name}, line {number}"] = f"it is damaged or cut off: {error}"
        except TensorError as error:
            problems[f"{path.name}, line {number}"] = str(error)
    return rows, problems


def _row(row: Mapping[str, str]) -> StatisticsRow:
    side = row["Input/Output"].lower()
    if side not in {"input", "output"}:
        raise ValueError(f"'{row['Input/Output']}' is neither Input nor Output")
    dtype = row["Data Type"]
    if dtype not in _DTYPES:
        raise TensorError(f"{dtype} values, which Shipway does not carry")
    return StatisticsRow(
        side,
        int(row["Index"]),
        _DTYPES[dtype],
        row["Format"],
        tuple(int(size) for size in row["Shape"].split("x") if size),
        finite_facts(
            max=row.get("Max Value"),
            min=row.get("Min Value"),
            mean=row.get("Avg Value"),
            l2=row.get("l2norm"),
            nan_count=row.get("Nan Count"),
            inf_count=_infinities(row),
        ),
    )


def _infinities(row: Mapping[str, str]) -> float | None:
    counts = [row.get(f"{sign} Inf Count") for sign in ("Negative", "Positive")]
    return None if None in counts else sum(float(one) for one in counts if one is not None)
