"""A whole evaluation: counts by construction, bad samples, batches, flips, interruptions."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shipway.engines.base import BaseSession
from shipway.errors import DatasetError, EngineError, TensorError, UsageError
from shipway.evaluate.accuracy import load_predictions
from shipway.evaluate.dataset import ArrayDataset, load_dataset
from shipway.evaluate.preprocess import PRESETS, parse_preprocess
from shipway.evaluate.reading import THREAD_PREFIX
from shipway.evaluate.run import EvaluateOptions, evaluate_session
from shipway.tensors import TensorSpec


def numbers(values, labels, dtype=np.float32):
    """Return a data set whose samples hold one number each."""
    return ArrayDataset(
        name="numbers",
        preprocess=PRESETS["none"],
        ids=tuple(f"n{index}" for index in range(len(values))),
        labels=np.array(labels, np.int64),
        values=np.array(values, dtype).reshape(-1, 1),
    )


def run(session, dataset, golden=None, **options):
    return evaluate_session(
        session, dataset, EvaluateOptions(**options), engine="fake", golden=golden
    )


class Steps:
    def __init__(self):
        self.total = self.done = 0

    def start(self, task, total=None):
        self.task, self.total = task, total

    def advance(self, steps=1):
        self.done += steps


def test_counts_are_those_of_the_construction(score_session, first_pixel):
    """The class is the value: label off by 0, 1, 2 gives rank 0, 1 or 2, 3 or 4."""
    session = score_session(first_pixel(10), ("n", 1), 10)
    dataset = numbers([5, 5, 5, 5, 5, 5], [5, 4, 6, 3, 7, 0])
    evaluation, predictions = run(session, dataset, batch=4)
    assert predictions.ranks.tolist() == [0, 1, 2, 3, 4, 9]
    assert predictions.top[0].tolist() == [5, 4, 6, 3, 7]
    assert [top.correct for top in evaluation.top] == [1, 2, 3, 4, 5]
    assert {top.total for top in evaluation.top} == {6}
    assert evaluation.engine == "fake"
    assert evaluation.dataset == "numbers"
    assert evaluation.preprocess == "none"
    assert evaluation.effective == {"precision": "f32", "threads": "1"}
    assert evaluation.dataset_digest == dataset.digest()
    assert evaluation.flips is None
    assert evaluation.seconds >= 0
    assert [len(batch) for batch in session.batches] == [4, 2]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 5), st.booleans())
def test_the_batch_size_changes_nothing(values, batch, fixed):
    def scores(batch):
        return -np.abs(np.arange(7, dtype=np.float32) - batch)

    class Session(BaseSession):
        def _run(self, feeds):
            return {"s": scores(feeds["x"])}

    labels = [(value + index) % 7 for index, value in enumerate(values)]
    specs = [(TensorSpec(name, "float32", (batch if fixed else "n", size)),)
             for name, size in (("x", 1), ("s", 7))]  # fmt: skip
    evaluation, predictions = run(Session(*specs, {}), numbers(values, labels), batch=batch)
    expected = scores(np.array(values, np.float32)[:, None]).argmax(axis=1)
    assert predictions.top[:, 0].tolist() == expected.tolist()
    assert evaluation.top[0].correct == int((expected == np.array(labels)).sum())
    assert evaluation.top[0].total == len(values)


def test_a_fixed_batch_pads_and_masks_the_last_one(score_session, first_pixel):
    session = score_session(first_pixel(3), (4, 1), 3)
    evaluation, predictions = run(session, numbers([0, 1, 2, 0, 1], [0, 1, 2, 1, 1]))
    assert [batch[:, 0].tolist() for batch in session.batches] == [[0, 1, 2, 0], [1, 1, 1, 1]]
    assert predictions.ranks.tolist() == [0, 0, 0, 1, 0]
    assert evaluation.top[0].total == 5
    assert evaluation.notes == ("Batches of 4: the model takes no other.",)


def test_top_n_stops_at_the_number_of_classes(score_session, first_pixel):
    evaluation, predictions = run(
        score_session(first_pixel(2), ("n", 1), 2), numbers([0, 1], [0, 0])
    )
    assert [top.n for top in evaluation.top] == [1, 2]
    assert predictions.top.shape == (2, 2)


@pytest.mark.parametrize("classes", [4, "classes"], ids=["known before", "known after a batch"])
def test_a_label_beyond_the_classes_is_refused(score_session, first_pixel, classes):
    session = score_session(first_pixel(4), ("n", 1), classes)
    with pytest.raises(DatasetError) as caught:
        run(session, numbers([0, 1, 2], [0, 4, 9]))
    assert "2 of 3 labels are outside the model's classes 0..3" in str(caught.value)
    assert "'n1' has 4, 'n2' has 9" in str(caught.value)
    assert len(session.batches) == (0 if classes == 4 else 1)


@pytest.fixture
def photos(write_images):
    """Five images of which the second is cut off and the fourth is empty."""
    folder = write_images(
        [(f"{index} a.png", index) for index in range(5)],
        "\n".join(f"{index} a.png {index}" for index in range(5)),
    )
    whole = (folder / "1 a.png").read_bytes()
    (folder / "1 a.png").write_bytes(whole[:40])
    (folder / "3 a.png").write_bytes(b"")
    return load_dataset(folder, preprocess=PRESETS["none"])


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_bad_samples_are_counted_named_and_left_out(score_session, first_pixel, photos, batch):
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5)
    evaluation, predictions = run(session, photos, batch=batch, max_bad=2)
    assert [bad.sample for bad in evaluation.bad] == ["1 a.png", "3 a.png"]
    assert evaluation.bad[1].reason == "the file is empty"
    assert not evaluation.bad[0].reason.startswith("1 a.png")
    assert predictions.ranks.tolist() == [0, -1, 0, -1, 0]
    assert (predictions.top[1] == -1).all()
    assert (evaluation.top[0].correct, evaluation.top[0].total) == (3, 3)


@pytest.mark.parametrize("max_bad", [0, 1])
def test_too_many_bad_samples_fail_with_all_of_them_told(
    score_session, first_pixel, photos, max_bad
):
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5)
    with pytest.raises(DatasetError) as caught:
        run(session, photos, max_bad=max_bad)
    assert f"2 of 5 samples of {photos.name} cannot be read ({max_bad} allowed)" in str(
        caught.value
    )
    assert "1 a.png (" in str(caught.value)
    assert "3 a.png (the file is empty)" in str(caught.value)
    assert "--max-bad 2" in caught.value.hint


def test_the_engine_stops_as_soon_as_the_limit_is_exceeded(score_session, first_pixel, photos):
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5)
    with pytest.raises(DatasetError):
        run(session, photos)
    assert len(session.batches) == 1


def test_after_too_many_bad_samples_the_others_are_only_read(
    score_session, first_pixel, write_images
):
    """A picture of the wrong size further on does not hide what came first."""
    folder = write_images([("a.png", 0), ("b.png", 0)], "a.png 0\nb.png 0")
    (folder / "a.png").write_bytes(b"")
    Image.new("RGB", (9, 9)).save(folder / "b.png")
    dataset = load_dataset(folder, preprocess=PRESETS["none"])
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5)
    with pytest.raises(DatasetError, match="1 of 2 samples"):
        run(session, dataset)
    with pytest.raises(TensorError, match=r"'b\.png' has shape"):
        run(session, dataset, max_bad=1)


def test_a_data_set_of_bad_samples_only_is_refused(score_session, first_pixel, write_images):
    folder = write_images([("a.png", 0)], "a.png 0")
    (folder / "a.png").write_text("text")
    dataset = load_dataset(folder, preprocess=PRESETS["none"])
    with pytest.raises(DatasetError, match=r"No sample of .* can be read: a\.png"):
        run(score_session(first_pixel(5), ("n", 3, 4, 4), "c"), dataset, max_bad=9)
    with pytest.raises(DatasetError, match=r"No sample of .* can be read: a\.png"):
        run(score_session(first_pixel(5), ("n", 3, 4, 4), 5), dataset, max_bad=9)


def test_a_sample_that_does_not_fit_is_told_before_the_model_runs(
    score_session, first_pixel, write_images
):
    folder = write_images([("a.png", 0)], "a.png 0")
    dataset = load_dataset(folder, preprocess=parse_preprocess("crop 5, scale 1"))
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5)
    with pytest.raises(TensorError, match=r"'a.png' has shape \[3, 5, 5\]") as caught:
        run(session, dataset)
    assert "crop 5, scale 1" in caught.value.hint
    assert session.batches == []


def test_images_of_different_sizes_are_told_by_name(score_session, first_pixel, write_images):
    folder = write_images([("a.png", 0), ("b.png", 0)], "a.png 0\nb.png 0")
    Image.new("RGB", (4, 5)).save(folder / "b.png")
    dataset = load_dataset(folder, preprocess=PRESETS["none"])
    with pytest.raises(TensorError, match=r"'b.png' has shape \[3, 5, 4\]"):
        run(score_session(first_pixel(5), ("n", 3, 4, 4), 5), dataset)
    with pytest.raises(TensorError, match="one batch have different shapes"):
        run(score_session(first_pixel(5), ("n", 3, "h", "w"), 5), dataset, batch=2)
    evaluation, _ = run(score_session(first_pixel(5), ("n", 3, "h", "w"), 5), dataset)
    assert evaluation.top[0].correct == 2


def test_nan_is_an_engine_error_that_names_the_sample(score_session):
    def scores(batch):
        return np.where(batch == 2, np.nan, batch).astype(np.float32) * np.ones(3, np.float32)

    with pytest.raises(EngineError, match="sample 'n2'"):
        run(score_session(scores, ("n", 1), 3), numbers([0, 1, 2, 1], [0] * 4), batch=2)


def test_scores_that_change_their_number_are_refused(score_session):
    def scores(batch):
        return np.zeros((len(batch), 1 + len(batch)), np.float32)

    session = score_session(scores, ("n", 1), "c")
    with pytest.raises(TensorError, match="gave 2 scores, before 3"):
        run(session, numbers([0, 0, 0], [0, 0, 0]), batch=2)


def test_an_empty_data_set_is_refused(score_session, first_pixel):
    with pytest.raises(DatasetError, match="is empty"):
        run(score_session(first_pixel(3), ("n", 1), 3), numbers([], []))


def test_flips_against_golden(score_session, first_pixel, tmp_path):
    dataset = numbers([0, 1, 2, 3], [0, 1, 2, 0])
    _, golden = run(score_session(first_pixel(4), ("n", 1), 4), dataset)
    golden.save(tmp_path / "golden.npz")
    shifted = score_session(lambda batch: first_pixel(4)(np.minimum(batch, 1)), ("n", 1), 4)
    evaluation, _ = run(shifted, dataset, golden=load_predictions(tmp_path / "golden.npz"))
    flips = evaluation.flips
    assert [flip.sample for flip in flips.flips] == ["n2", "n3"]
    assert (flips.compared, flips.golden_only, flips.actual_only) == (4, 1, 0)
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_golden_of_other_samples_is_refused_before_the_model_runs(score_session, first_pixel):
    _, golden = run(score_session(first_pixel(4), ("n", 1), 4), numbers([0, 1], [0, 1]))
    session = score_session(first_pixel(4), ("n", 1), 4)
    with pytest.raises(DatasetError, match="Golden was evaluated on"):
        run(session, numbers([0, 1], [0, 2]), golden=golden)
    assert session.batches == []


def test_a_limit_spreads_over_the_data_and_changes_the_digest(score_session, first_pixel):
    dataset = numbers(range(10), range(10))
    evaluation, predictions = run(score_session(first_pixel(10), ("n", 1), 10), dataset, limit=4)
    assert predictions.ids == ("n0", "n2", "n5", "n7")
    assert evaluation.top[0].total == 4
    assert evaluation.dataset_digest != dataset.digest()
    assert evaluation.notes == ("4 of 10 samples evaluated, spread evenly.",)


def test_notes_of_the_data_set_and_of_a_cast_are_passed_on(
    score_session, first_pixel, write_images
):
    folder = write_images([("a.png", 0), ("b.png", 0)], "a.png 0")
    dataset = load_dataset(folder, preprocess=PRESETS["none"])
    session = score_session(first_pixel(5), ("n", 3, 4, 4), 5, dtype="float16")
    evaluation, _ = run(session, dataset)
    assert session.batches[0].dtype == np.float16
    assert evaluation.notes == (
        "1 image without a label left out: b.png.",
        "Samples of float32 are cast to float16, the model's input.",
    )
    assert evaluation.to_json()["notes"] == list(evaluation.notes)


def test_progress_is_told_of_every_sample(score_session, first_pixel):
    steps = Steps()
    session = score_session(first_pixel(3), ("n", 1), 3)
    evaluate_session(
        session, numbers([0] * 7, [0] * 7), EvaluateOptions(batch=3), engine="e", progress=steps
    )
    assert (steps.total, steps.done) == (7, 7)
    assert "e" in steps.task


@pytest.mark.parametrize("kind", [KeyboardInterrupt, EngineError])
def test_an_interruption_leaves_no_thread(score_session, kind):
    def stop(batch):
        if batch[0] == 3:
            raise kind("stop")
        return np.zeros((len(batch), 3), np.float32)

    with pytest.raises(kind):
        run(score_session(stop, ("n", 1), 3), numbers(range(500), [0] * 500))
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(THREAD_PREFIX)]


def test_two_runs_give_the_same_result(score_session, first_pixel):
    dataset = numbers(range(40), [value % 7 for value in range(40)])
    first, second = (
        run(score_session(first_pixel(40), ("n", 1), 40), dataset, batch=3)[0].to_json()
        for _ in range(2)
    )
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize("change", [{"batch": 0}, {"max_bad": -1}, {"limit": -5}])
def test_numbers_out_of_range_are_usage_errors(change):
    ((name, value),) = change.items()
    with pytest.raises(UsageError, match=rf"--{name.replace('_', '-')} is {value}"):
        EvaluateOptions(**change)


def test_options_are_plain_data():
    options = EvaluateOptions(batch=8, output="scores", limit=3)
    assert EvaluateOptions(**json.loads(json.dumps(options.to_json()))) == options
