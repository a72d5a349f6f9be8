from dataclasses import replace

import numpy as np
import pytest

from shipway.compare.diagnosis import join_channels
from shipway.report.divergence_heat import lay_out_heat


def test_the_metrics_that_are_broken_are_the_hot_ones(diagnoses):
    heat = lay_out_heat(diagnoses.make_diagnosis(), channels=False)
    assert heat.columns == ("Relative L2", "Worst channel", "Gain", "Zero pattern", "NaN, Inf")
    (row,) = [row for row in heat.rows if row.name == "norm2"]
    assert (row.cells[0].text, row.cells[0].step) == ("300x", 5)
    assert row.cells[2].step < 3  # a gain within the noise is no gain
    assert len(heat.rows) == 12
    assert heat.left_out == 12


def test_integers_are_judged_on_equality_alone(diagnoses):
    exact = diagnoses.make_exact(0, "ids", np.array([1, 2]), np.array([1, 3]))
    heat = lay_out_heat(diagnoses.make_diagnosis(tensors=(exact,), culprits=()), channels=False)
    assert heat.columns == ("Unequal",)
    assert (heat.rows[0].cells[0].text, heat.rows[0].cells[0].step) == ("inf", 5)


def test_channels_are_shown_where_they_were_kept(diagnoses):
    heat = lay_out_heat(diagnoses.make_diagnosis(), channels=True)
    (row,) = heat.rows
    assert [cell.title for cell in row.cells] == [
        "0: 1.00e-03",
        "1: 2.00e-03",
        "2: 6.00e-03",
        "3: 5.00e-04",
    ]
    assert [cell.step for cell in row.cells] == [4, 4, 5, 3]  # graded by the worst of them
    clean = diagnoses.make_diagnosis(fault=None)
    assert lay_out_heat(clean, channels=True) is None


def test_joined_channels_name_the_run_they_stand_for(diagnoses):
    errors = np.linspace(0, 1e-3, 150)
    base = diagnoses.make_tensor(0, "wide", error=1e-3, shape=(2, 150))
    local = replace(base.local, worst_channel_axis=1)
    wide = replace(base, local=local, channel_errors=join_channels(errors))
    heat = lay_out_heat(diagnoses.make_diagnosis(tensors=(wide,), culprits=()), channels=True)
    cells = heat.rows[0].cells
    assert len(cells) == 50
    assert cells[0].title.startswith("0 to 2: ")
    assert cells[-1].title == "147 to 149: 1.00e-03"


def test_one_wrong_channel_stands_out_from_those_within_the_limit(diagnoses):
    tensor = diagnoses.make_tensor(0, "x", error=1e-3, channel_errors=(1e-7, 3.9e-5, 4.1e-5, 0.3))
    endless = replace(tensor, golden="y", channel_errors=(0.0, 0.3, float("inf"), 1e-6))
    shown = diagnoses.make_diagnosis(tensors=(tensor, endless), culprits=())
    one, other = lay_out_heat(shown, channels=True).rows
    assert [cell.step for cell in one.cells] == [0, 2, 3, 5]
    assert [cell.step for cell in other.cells] == [0, 3, 5, 1]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129, 4500, 100_000])
def test_joining_channels_keeps_the_worst_and_at_most_64(count):
    errors = list(np.random.default_rng(count).random(count))
    joined = join_channels(errors)
    assert len(joined) <= 64
    assert max(joined, default=0) == max(errors, default=0)
    if count <= 64:
        assert list(joined) == errors


def test_nothing_compared_makes_no_map(diagnoses):
    nothing = diagnoses.make_diagnosis(tensors=(), culprits=())
    assert lay_out_heat(nothing, channels=False) is None
    assert lay_out_heat(nothing, channels=True) is None
