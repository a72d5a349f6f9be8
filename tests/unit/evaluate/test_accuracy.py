"""Ranks, Top-N and intervals: against brute force and the closed form; predictions on disk."""

import contextlib
import math
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, stats

from shipway.errors import DatasetError, OutputError
from shipway.evaluate.accuracy import (
    Z_95,
    Predictions,
    load_predictions,
    ranks,
    top_classes,
    top_n,
    wilson_interval,
)

DTYPES = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int64]


@st.composite
def scored(draw):
    """Few distinct scores, so that ties are common; both zeros, and both infinities of sorting."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 9)))
    values = [0, 1, 2, 100] if dtype.kind == "u" else [-2, -0.0, 0.0, 1, 100]
    scores = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(np.array(values, dtype))))
    labels = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return scores, labels


def best_first(row):
    return sorted(range(len(row)), key=lambda index: (-float(row[index]), index))


@given(scored())
def test_rank_is_the_place_of_the_label_in_the_sorted_scores(case):
    scores, labels = case
    expected = [best_first(row).index(label) for row, label in zip(scores, labels, strict=True)]
    assert ranks(scores, labels).tolist() == expected


@given(scored(), st.integers(1, 9))
def test_top_classes_are_the_first_of_the_sorted_scores(case, count):
    scores, _ = case
    count = min(count, scores.shape[1])
    expected = [best_first(row)[:count] for row in scores]
    assert top_classes(scores, count).tolist() == expected


@given(scored())
def test_rank_zero_means_the_label_is_numpys_argmax(case):
    scores, labels = case
    assert ((ranks(scores, labels) == 0) == (scores.argmax(axis=1) == labels)).all()


def test_equal_scores_everywhere_give_every_label_its_own_rank():
    labels = np.arange(4)
    assert ranks(np.zeros((4, 4)), labels).tolist() == [0, 1, 2, 3]


def test_top_n_counts_ranks_and_leaves_bad_samples_out():
    result = top_n(np.array([0, 1, 5, -1, 4, 0]), classes=1000)
    assert [(top.n, top.correct, top.total) for top in result] == [
        (1, 2, 5), (2, 3, 5), (3, 3, 5), (4, 3, 5), (5, 4, 5),
    ]  # fmt: skip
    assert (result[0].low, result[0].high) == wilson_interval(2, 5)


def test_top_n_goes_no_further_than_the_classes():
    assert [top.n for top in top_n(np.array([0, 1]), classes=2)] == [1, 2]


def test_top_n_of_no_sample_is_refused():
    with pytest.raises(ValueError, match="0 correct of 0"):
        top_n(np.array([-1]), classes=3)


def test_z_is_the_normal_quantile():
    assert stats.norm.ppf(0.975) == pytest.approx(Z_95, rel=1e-15)


counts = st.integers(1, 60_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_interval_is_scipys(case):
    correct, total = case
    expected = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(correct, total)
    assert low == pytest.approx(expected.low, rel=1e-9, abs=1e-12)
    assert high == pytest.approx(expected.high, rel=1e-9, abs=1e-12)


@given(counts)
def test_wilson_interval_holds_the_rate_and_stays_in_0_to_1(case):
    correct, total = case
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    mirrored = wilson_interval(total - correct, total)
    assert low == pytest.approx(1 - mirrored[1], abs=1e-12)


def test_wilson_ends_solve_the_score_equation():
    """The definition: at an end p, the rate lies z standard errors of p away."""
    correct, total = 37, 130
    low, high = wilson_interval(correct, total)

    def distance(p):
        return abs(correct / total - p) - Z_95 * math.sqrt(p * (1 - p) / total)

    rate = correct / total
    assert low == pytest.approx(optimize.brentq(distance, 1e-9, rate), abs=1e-10)
    assert high == pytest.approx(optimize.brentq(distance, rate, 1 - 1e-9), abs=1e-10)


def test_wilson_of_none_and_all_reaches_the_end():
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


@pytest.mark.parametrize("case", [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(case):
    with pytest.raises(ValueError, match="correct of"):
        wilson_interval(*case)


def predictions(samples=3, classes=10, ids=None):
    return Predictions(
        ids=ids or tuple(f"photo {index}.jpg" for index in range(samples)),
        labels=np.arange(samples, dtype=np.int64),
        ranks=np.array([0, -1, 7][:samples], np.int32),
        top=np.arange(samples * min(5, classes), dtype=np.int32).reshape(samples, -1),
        classes=classes,
    )


@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_predictions_read_back(tmp_path, classes):
    golden = predictions(classes=classes, ids=("ü/图.png", "a b", "0"))
    golden.save(tmp_path / "new" / "predictions.npz")
    actual = load_predictions(tmp_path / "new" / "predictions.npz")
    assert actual.ids == golden.ids
    assert actual.classes == classes
    for name in ("labels", "ranks", "top"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(golden, name))
        assert getattr(actual, name).dtype == getattr(golden, name).dtype


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    predictions().save(tmp_path / "1.npz")
    predictions().save(tmp_path / "2.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_damaged_or_foreign_files_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    predictions().save(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError):
            load_predictions(path)
    for at in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(DatasetError):
            load_predictions(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(DatasetError, match="no predictions of Shipway"):
        load_predictions(path)
    np.save(tmp_path / "p.npy", np.zeros(3))
    with pytest.raises(DatasetError, match="no predictions of Shipway"):
        load_predictions(tmp_path / "p.npy")
    with pytest.raises(DatasetError, match="No such file"):
        load_predictions(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"ranks": np.zeros(2, np.int32)},
        {"labels": np.zeros(3, np.float32)},
        {"top": np.zeros(3, np.int32)},
        {"top": np.zeros((3, 4), np.int32)},
        {"schema_version": np.int64(99)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, change):
    predictions().save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as archive:
        content = {**archive, **change}
    np.savez(tmp_path / "q.npz", **content)
    with pytest.raises(DatasetError):
        load_predictions(tmp_path / "q.npz")


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = shutil.which("mount")
    done = command and subprocess.run(
        [command, "-t", "tmpfs", "-o", "size=64k", "none", str(mount)], check=False
    )
    if not done or done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        names = tuple(np.random.default_rng(0).bytes(40).hex() + str(i) for i in range(20_000))
        big = Predictions(
            ids=names,
            labels=np.random.default_rng(0).integers(0, 1000, 20_000),
            ranks=np.zeros(20_000, np.int32),
            top=np.zeros((20_000, 5), np.int32),
            classes=1000,
        )
        with pytest.raises(OutputError, match="No space left"):
            big.save(mount / "p.npz")
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run([shutil.which("umount"), str(mount)], check=True)
