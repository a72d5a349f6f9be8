from dataclasses import replace

import numpy as np

from shipway.compare.metrics import measure
from shipway.report.divergence_plots import lay_out_depth, lay_out_histogram


def test_every_tensor_has_a_mark_at_its_depth_and_the_fault_its_number(diagnoses):
    plot = lay_out_depth(diagnoses.make_diagnosis())
    assert plot.joined == 1
    places = [point.at for point in plot.points]
    assert places == sorted(places)
    assert len(set(places)) == 24
    assert [point.fault for point in plot.points] == [0] * 9 + [1] + [0] * 14
    fault, clean = plot.points[9], plot.points[8]
    assert fault.local < clean.local  # heights count from the top
    assert fault.title.startswith("9 norm2: local 3.00e-03, accumulated 3.00e-03, 300x the limit")


def test_errors_beyond_the_limit_stand_above_its_line(diagnoses):
    plot = lay_out_depth(diagnoses.make_diagnosis())
    height = {title: at for at, title in plot.limits}
    assert height["accumulated limit"] < height["local limit"]
    assert plot.points[9].local < height["local limit"] < plot.points[8].local


def test_without_local_errors_there_is_one_kind_of_mark_and_one_limit(diagnoses):
    diagnosis = diagnoses.make_diagnosis(local=False)
    blind = replace(diagnosis, tensors=tuple(replace(t, local=None) for t in diagnosis.tensors))
    plot = lay_out_depth(blind)
    assert [title for _, title in plot.limits] == ["accumulated limit"]
    assert all(point.local is None for point in plot.points)
    assert all(point.accumulated is not None for point in plot.points)


def test_of_thousands_the_worst_of_neighbours_is_shown_and_no_fault_is_lost(diagnoses):
    tensor, bad = diagnoses.make_tensor(0, "t"), diagnoses.make_tensor(0, "t", error=0.1)
    many = [replace(tensor, order=i, golden=f"t{i}") for i in range(5000)]
    many[3210] = replace(bad, order=3210, golden="t3210")
    diagnosis = diagnoses.make_diagnosis(
        tensors=tuple(many), culprits=(diagnoses.make_fault(many[3210]),)
    )
    plot = lay_out_depth(diagnosis)
    assert plot.joined == 13
    assert len(plot.points) == 385
    (found,) = [point for point in plot.points if point.fault]
    assert "t3210" in found.title
    assert found.title.endswith("the worst of 13")
    assert found.local == min(point.local for point in plot.points)


def test_an_infinite_error_stands_at_the_upper_edge_and_none_is_left_out(diagnoses):
    zeros = np.zeros(4)
    tensor = diagnoses.make_tensor(0, "a")
    endless = replace(
        tensor, local=measure(zeros, zeros + 1), accumulated=measure(zeros, zeros + 1)
    )
    empty = np.zeros((0, 2))
    absent = replace(
        tensor, order=1, golden="b", local=measure(empty, empty), accumulated=measure(empty, empty)
    )
    rest = replace(tensor, order=2, golden="c")
    plot = lay_out_depth(diagnoses.make_diagnosis(tensors=(endless, absent, rest), culprits=()))
    assert [point.local for point in plot.points[:2]] == [0.0, None]
    assert plot.points[2].local > 0


def test_one_tensor_makes_a_plot_and_none_makes_no_plot(diagnoses):
    one = diagnoses.make_diagnosis(tensors=(diagnoses.make_tensor(7, "x"),), culprits=())
    (point,) = lay_out_depth(one).points
    assert 0 <= point.start <= point.at <= point.start + point.width <= 100
    assert sum(bar.height > 0 for bar in lay_out_histogram(one).bars) == 1
    nothing = diagnoses.make_diagnosis(tensors=(), culprits=())
    assert lay_out_depth(nothing) is None
    assert lay_out_histogram(nothing) is None


def test_the_histogram_counts_every_finite_error_once(diagnoses):
    tensors = [diagnoses.make_tensor(i, f"t{i}", error=10.0**-i) for i in range(2, 9)]
    exact = diagnoses.make_exact(9, "same", np.ones(3), np.ones(3))
    diagnosis = diagnoses.make_diagnosis(tensors=(*tensors, exact), culprits=())
    plot = lay_out_histogram(diagnosis)
    counts = [bar.title.split(": ")[1] for bar in plot.bars]
    assert sum(int(count.split(",")[0]) for count in counts) == 8
    assert plot.bars[0].title == "no error: 1"
    assert sum("beyond limits" in count for count in counts) == 4  # 1e-2 to 1e-5
    starts = [bar.start for bar in plot.bars]
    assert starts == sorted(starts)


def test_one_tensor_among_thousands_is_still_a_bar(diagnoses):
    tensor, bad = diagnoses.make_tensor(0, "t"), diagnoses.make_tensor(0, "t", error=0.1)
    many = (*(replace(tensor, order=i, golden=f"t{i}") for i in range(3000)), bad)
    plot = lay_out_histogram(diagnoses.make_diagnosis(tensors=many, culprits=()))
    assert plot.bars[-1].over >= 0.8
