from dataclasses import replace

import numpy as np

from shipway.compare.diagnosis import Match
from shipway.report.diagnosis_rows import COLUMNS, Gap, TensorRow, make_row, select_rows


def shape_of(rows):
    """Names of the rows, and what the gaps say."""
    return [row.name if isinstance(row, TensorRow) else str(row) for row in rows]


def test_a_window_shows_the_culprit_with_its_neighbours(diagnoses):
    rows = select_rows(diagnoses.make_diagnosis(), limit=40)
    assert shape_of(rows) == [
        "... 7 tensors within limits",
        "linear_7",
        "linear_8",
        "norm2",
        "linear_10",
        "linear_11",
        "... 12 tensors within limits",
    ]
    assert [row.mark for row in rows if isinstance(row, TensorRow)] == [
        "ok", "ok", "FAULT", "ok", "ok",
    ]  # fmt: skip


def test_without_a_limit_every_tensor_is_there_in_order(diagnoses):
    rows = select_rows(diagnoses.make_diagnosis())
    assert [row.order for row in rows] == list(range(24))


def test_the_worst_come_first_culprits_before_all(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    after = diagnoses.make_tensor(15, "add", error=0.5, explained="norm2 lies before it")
    tensors = tuple(after if t.order == 15 else t for t in diagnosis.tensors)
    rows = select_rows(replace(diagnosis, tensors=tensors), order="worst", limit=4)
    assert shape_of(rows)[:2] == ["norm2", "add"]
    assert [row.mark for row in rows[:3]] == ["FAULT", "over", "ok"]
    assert rows[1].notes == "norm2 lies before it"
    assert rows[-1] == Gap(20, 0)


def test_what_does_not_fit_is_counted_and_the_worst_of_it_shown(diagnoses):
    tensors = [diagnoses.make_tensor(i, f"t{i}", error=1e-4 * (i + 1)) for i in range(100)]
    tensors = [t if t.order == 3 else replace(t, explained="t3 lies before") for t in tensors]
    diagnosis = diagnoses.make_diagnosis(
        tensors=tuple(tensors), culprits=(diagnoses.make_fault(tensors[3]),)
    )
    rows = select_rows(diagnosis, limit=10)
    shown = [row for row in rows if isinstance(row, TensorRow)]
    assert [row.name for row in shown] == [
        "t1",
        "t2",
        "t3",
        "t4",
        "t5",
        *(f"t{i}" for i in range(95, 100)),
    ]
    assert [str(row) for row in rows if isinstance(row, Gap)] == [
        "... 1 tensor, 1 beyond limits",
        "... 89 tensors, 89 beyond limits",
    ]


def test_a_clean_engine_shows_its_worst_tensors(diagnoses):
    rows = select_rows(diagnoses.make_diagnosis(fault=None), limit=40)
    assert sum(isinstance(row, TensorRow) for row in rows) == 5
    assert sum(row.count for row in rows if isinstance(row, Gap)) == 19


def test_nothing_compared_has_no_row(diagnoses):
    assert select_rows(diagnoses.make_diagnosis(tensors=(), culprits=()), limit=40) == []


def test_a_row_has_a_cell_for_every_column(diagnoses):
    row = make_row(diagnoses.make_tensor(2, "x"), culprit=False)
    assert len(row.cells) == len(COLUMNS)
    assert row.notes == ""
    assert row.engine == "MatMul"


def test_notes_say_how_a_tensor_was_matched_unless_by_its_plain_name(diagnoses):
    by_numbers = Match("fingerprint", 0.9, "the name 'relu' holds another tensor")
    tensor = diagnoses.make_tensor(
        2, "relu", match=by_numbers, actual="relu_1", layout="NCHWc16", is_output=True,
        perturbed="outputs differ",
    )  # fmt: skip
    row = make_row(tensor, culprit=False)
    assert row.engine == "MatMul relu_1"
    assert row.notes == (
        "by fingerprint (0.9): the name 'relu' holds another tensor; stored as NCHWc16; "
        "perturbed: outputs differ; output"
    )


def test_integers_and_scalars_and_empty_tensors_have_rows(diagnoses):
    exact = diagnoses.make_exact(0, "ids", np.array([1, 2]), np.array([1, 3]))
    assert make_row(exact, culprit=True).local == "1 differ"
    same = diagnoses.make_exact(0, "ids", np.array([1, 2]), np.array([1, 2]))
    assert make_row(same, culprit=False).local == "equal"
    scalar = diagnoses.make_exact(0, "flag", np.array(1), np.array(1))
    assert make_row(scalar, culprit=False).spec == "int64[]"
    empty = diagnoses.make_exact(0, "none", np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64))
    assert make_row(empty, culprit=False).spec == "int64[0,4]"


def test_of_two_tensors_of_the_engine_that_are_one_of_golden_only_one_is_the_fault(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    twin = replace(diagnosis.tensors[9], actual="val_34", explained="computed with operators of it")
    tensors = (*diagnosis.tensors[:10], twin, *diagnosis.tensors[10:])
    rows = select_rows(replace(diagnosis, tensors=tensors))
    assert [row.mark for row in rows[9:11]] == ["FAULT", "over"]
