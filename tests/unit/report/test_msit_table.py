import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from shipway.report.msit_table import HEADER, write_msit_csv

EXPECTED_HEADER = (
    "Index,OpType,NPUDump,DataType,Address,GroundTruth,DataType,TensorIndex,Shape,OverFlow,"
    "CosineSimilarity,MaxAbsoluteError,AccumulatedRelativeError,RelativeEuclideanDistance,"
    "KullbackLeiblerDivergence,StandardDeviation,MeanAbsoluteError,RootMeanSquareError,"
    "MaxRelativeError,MeanRelativeError,CompareFailReason,IsNpuOps,IsOutputNode,IsPrecisionError"
)


def read(diagnosis):
    """Every row, by the column's title; the engine's DataType under "NpuDataType"."""
    rows = list(csv.reader(io.StringIO(write_msit_csv(diagnosis))))
    titles = list(rows[0])
    titles[titles.index("DataType")] = "NpuDataType"
    return [dict(zip(titles, row, strict=True)) for row in rows[1:]]


def test_the_header_is_msits_letter_for_letter(diagnoses):
    assert write_msit_csv(diagnoses.make_diagnosis()).splitlines()[0] == EXPECTED_HEADER
    assert ",".join(HEADER) == EXPECTED_HEADER


def test_a_tensor_has_its_names_types_and_accumulated_errors(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    row = read(diagnosis)[9]
    metrics = diagnosis.tensors[9].accumulated
    assert row["Index"] == "9"
    assert row["OpType"] == "SkipLayerNormalization"
    assert (row["NPUDump"], row["GroundTruth"]) == ("val_33", "norm2")
    assert (row["NpuDataType"], row["DataType"]) == ("NaN", "float32")
    assert (row["TensorIndex"], row["Shape"]) == ("val_33:output:0", "[1,4,8]")
    assert float(row["RelativeEuclideanDistance"]) == pytest.approx(metrics.relative_l2)
    assert float(row["CosineSimilarity"]) == pytest.approx(metrics.cosine)
    assert float(row["MaxAbsoluteError"]) == pytest.approx(metrics.max_abs)
    assert float(row["RootMeanSquareError"]) == pytest.approx(metrics.rmse)
    assert row["AccumulatedRelativeError"] == row["StandardDeviation"] == "NaN"
    assert (row["IsNpuOps"], row["IsOutputNode"], row["IsPrecisionError"]) == ("NO", "NO", "YES")


def test_only_what_is_at_fault_is_a_precision_error(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    explained = replace(diagnosis.tensors[9], explained="precision only")
    tensors = (*diagnosis.tensors[:9], explained, *diagnosis.tensors[10:])
    rows = read(replace(diagnosis, tensors=tensors))
    assert {row["IsPrecisionError"] for row in rows} == {"NO"}
    assert rows[23]["IsOutputNode"] == "YES"


def test_what_has_no_counterpart_is_listed_with_the_reason(diagnoses):
    rows = read(diagnoses.make_diagnosis())
    engine, golden = rows[24], rows[25]
    assert (engine["NPUDump"], engine["GroundTruth"]) == ("reorder_1", "*")
    assert engine["CompareFailReason"] == "no tensor of golden has its numbers"
    assert engine["IsNpuOps"] == "YES"
    assert (golden["NPUDump"], golden["GroundTruth"]) == ("*", "view_0")
    assert golden["CosineSimilarity"] == "NaN"
    assert golden["IsNpuOps"] == "NO"
    assert len(rows) == 30


def test_infinite_and_absent_numbers_are_written_as_msit_does(diagnoses):
    zeros = np.zeros(4, np.float32)
    tensor = diagnoses.make_tensor(0, "x")
    from shipway.compare.metrics import measure

    odd = replace(tensor, accumulated=measure(zeros, zeros + 1))
    row = read(diagnoses.make_diagnosis(tensors=(odd,), culprits=()))[0]
    assert row["RelativeEuclideanDistance"] == "inf"
    assert row["MaxRelativeError"] == "NaN"


def test_names_survive_commas_and_quotes_and_no_cell_is_a_formula(diagnoses):
    tensor = replace(diagnoses.make_tensor(0, 'a,"b"\nc'), actual="=cmd|' /C calc'!A0", op="-1.5")
    row = read(diagnoses.make_diagnosis(tensors=(tensor,), culprits=()))[0]
    assert row["GroundTruth"] == 'a,"b"\nc'
    assert row["NPUDump"] == "'=cmd|' /C calc'!A0"
    assert row["OpType"] == "-1.5"
