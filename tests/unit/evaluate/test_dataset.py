"""Data sets: folders and arrays, their digests, and what is refused before anything runs."""

import contextlib

import ml_dtypes
import numpy as np
import pytest

from shipway.errors import DatasetError
from shipway.evaluate.dataset import load_dataset
from shipway.evaluate.preprocess import parse_preprocess

PIXELS = parse_preprocess("none")


def arrays(path, **values):
    np.savez(path, **values)
    return path


def test_a_folder_with_labels_txt(write_images):
    folder = write_images([("a.png", 10), ("b.png", 20)], "b.png 1\na.png 0\n")
    dataset = load_dataset(folder, preprocess=PIXELS)
    assert len(dataset) == 2
    assert dataset.name == str(folder)
    assert dataset.ids == ("b.png", "a.png")
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.sample(0), np.full((3, 4, 4), 20, np.float32))


def test_class_folders_count_when_there_is_no_label_file(write_images):
    folder = write_images([("cat/1.png", 1), ("dog/1.png", 2)])
    assert load_dataset(folder, preprocess=PIXELS).labels.tolist() == [0, 1]


def test_a_given_label_file_goes_before_the_one_in_the_folder(write_images, tmp_path):
    folder = write_images([("a.png", 1)], "a.png 1")
    (tmp_path / "other.txt").write_text("a.png 9")
    dataset = load_dataset(folder, labels=tmp_path / "other.txt", preprocess=PIXELS)
    assert dataset.labels.tolist() == [9]


def test_arrays_pass_as_they_are(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    dataset = load_dataset(arrays(tmp_path / "d.npz", x=x, y=np.arange(5, dtype=np.uint8)))
    assert dataset.ids == ("0", "1", "2", "3", "4")
    assert str(dataset.preprocess) == "none"
    np.testing.assert_array_equal(dataset.sample(3), x[3])
    assert dataset.sample(3).dtype == np.float64


def test_bfloat16_arrays_pass_and_have_a_digest(tmp_path):
    x = np.arange(4).astype(ml_dtypes.bfloat16).reshape(2, 2)
    dataset = load_dataset(arrays(tmp_path / "d.npz", x=x, y=np.zeros(2, int)))
    assert dataset.sample(1).dtype == ml_dtypes.bfloat16
    assert dataset.sample(1).astype(float).tolist() == [2, 3]
    assert len(dataset.digest()) == 64


def test_arrays_are_scaled_when_the_preprocessing_says_so(tmp_path):
    x = np.full((2, 1, 2), 255, np.uint8)
    path = arrays(tmp_path / "d.npz", x=x, y=np.zeros(2, int))
    dataset = load_dataset(path, preprocess=parse_preprocess("scale 1/255"))
    np.testing.assert_array_equal(dataset.sample(1), np.ones((1, 2), np.float32))


@pytest.mark.parametrize("text", ["crop 4", "imagenet-bicubic", "order BGR", "channels 1"])
def test_arrays_refuse_the_steps_of_images(tmp_path, text):
    path = arrays(tmp_path / "d.npz", x=np.zeros((1, 3, 8, 8)), y=np.zeros(1, int))
    with pytest.raises(DatasetError, match="only images can"):
        load_dataset(path, preprocess=parse_preprocess(text))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((2, 3))}, "has no array y; it has x"),
        ({"images": np.zeros(2), "labels": np.zeros(2)}, "no array x and no y; it has images, lab"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3, int)}, "x has 2 samples and y 3 labels"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2)}, "y is float64 [2], not one whole number"),
        ({"x": np.zeros((2, 3)), "y": np.zeros((2, 1), int)}, "y is int64 [2, 1]"),
        ({"x": np.zeros((2, 3)), "y": np.array([0, -1])}, "y[1] is -1: no class number"),
        ({"x": np.zeros((1, 3)), "y": np.array([2**63], np.uint64)}, "no class number"),
        ({"x": np.array(3.0), "y": np.zeros(1, int)}, "x is float64 []"),
        ({"x": np.array(["a"]), "y": np.zeros(1, int)}, "not numbers"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "is empty: x has no row"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(tmp_path, values, message):
    with pytest.raises(DatasetError) as caught:
        load_dataset(arrays(tmp_path / "d.npz", **values))
    assert message in str(caught.value)


def test_a_damaged_npz_or_one_with_objects_is_refused(tmp_path):
    path = arrays(tmp_path / "d.npz", x=np.zeros((50, 3)), y=np.zeros(50, int))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="Cannot read"):
        load_dataset(path)
    arrays(path, x=np.zeros((50, 3)), y=np.zeros(50, int))
    whole = path.read_bytes()
    for at in range(0, len(whole), 61):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(DatasetError):
            load_dataset(path)
    np.savez(path, x=np.array([{}], dtype=object), y=np.zeros(1, int))
    with pytest.raises(DatasetError, match="Cannot read"):
        load_dataset(path)


def test_labels_beside_arrays_are_refused(tmp_path):
    path = arrays(tmp_path / "d.npz", x=np.zeros((1, 3)), y=np.zeros(1, int))
    with pytest.raises(DatasetError, match="has its labels in array y"):
        load_dataset(path, labels=tmp_path / "labels.txt")


def test_a_place_that_is_no_data_set_is_refused(tmp_path, write_images):
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset(tmp_path / "absent", preprocess=PIXELS)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DatasetError, match="neither a folder nor"):
        load_dataset(tmp_path / "x.txt", preprocess=PIXELS)
    with pytest.raises(DatasetError, match="is empty"):
        load_dataset(write_images([], "# nothing\n"), preprocess=PIXELS)


def test_images_without_preprocessing_are_refused_with_the_flag_to_give(write_images):
    with pytest.raises(DatasetError) as caught:
        load_dataset(write_images([("a.png", 0)], "a.png 0"))
    assert "--preprocess" in caught.value.hint


def test_a_sample_that_cannot_be_read_names_itself(write_images):
    folder = write_images([("a b.png", 0), ("gone.png", 0)], "a b.png 0\ngone.png 1")
    dataset = load_dataset(folder, preprocess=PIXELS)
    (folder / "a b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "gone.png").unlink()
    with pytest.raises(DatasetError, match=r"^a b\.png: "):
        dataset.sample(0)
    with pytest.raises(DatasetError, match=r"^gone\.png: No such file"):
        dataset.sample(1)


def make(folder, text="none"):
    return load_dataset(folder, preprocess=parse_preprocess(text))


def test_the_digest_changes_with_contents_labels_and_preprocessing_but_not_the_place(
    write_images, tmp_path
):
    folder = write_images([("a.png", 1), ("b.png", 2)], "a.png 0\nb.png 1\n")
    first = make(folder).digest()
    assert len(first) == 64
    assert make(folder).digest() == first
    assert make(folder, "scale 1/255").digest() != first
    moved = folder.rename(tmp_path / "moved")
    assert make(moved).digest() == first
    (moved / "labels.txt").write_text("a.png 0\nb.png 2\n")
    assert make(moved).digest() != first
    (moved / "labels.txt").write_text("b.png 1\na.png 0\n")
    assert make(moved).digest() != first
    (moved / "labels.txt").write_text("# again\na.png 0\nb.png 1\n")
    data = bytearray((moved / "b.png").read_bytes())
    data[-1] ^= 1
    (moved / "b.png").write_bytes(data)
    assert make(moved).digest() != first


def test_the_digest_of_arrays_changes_with_a_value_a_dtype_and_a_shape(tmp_path):
    x, y = np.zeros((4, 2), np.float32), np.arange(4)
    other = x.copy()
    other[3, 1] = 1e-45
    digests = {
        load_dataset(arrays(tmp_path / "d.npz", x=value, y=y)).digest()
        for value in (x, other, x.view(np.int32), x.reshape(4, 2, 1), np.asfortranarray(other))
    }
    assert len(digests) == 4, "Fortran order holds the same values"


def test_a_missing_file_gives_a_digest_of_its_own(write_images):
    folder = write_images([("a.png", 1)], "a.png 0")
    whole, broken = make(folder), make(folder)
    (folder / "a.png").rename(folder / "b.png")
    missing = broken.digest()
    (folder / "b.png").rename(folder / "a.png")
    assert whole.digest() != missing


@pytest.mark.parametrize(("count", "expected"), [(3, (0, 3, 6)), (10, range(10)), (99, range(10))])
def test_a_subset_is_spread_over_the_whole(tmp_path, count, expected):
    path = arrays(tmp_path / "d.npz", x=np.arange(20).reshape(10, 2), y=np.arange(10))
    part = load_dataset(path).subset(count)
    assert part.labels.tolist() == list(expected)
    assert part.ids == tuple(str(index) for index in expected)
    np.testing.assert_array_equal(part.sample(1), np.arange(20).reshape(10, 2)[list(expected)[1]])


def test_a_subset_of_class_folders_sees_every_class(write_images):
    names = [(f"{name}/{index}.png", 0) for name in "abc" for index in range(4)]
    part = make(write_images(names)).subset(3)
    assert part.labels.tolist() == [0, 1, 2]
    assert part.digest() != make(write_images(names)).digest()
    assert part.sample(0).shape == (3, 4, 4)
