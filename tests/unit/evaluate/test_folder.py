"""Label files and class folders: what is found, what is said of the rest."""

import os

import pytest

from shipway.errors import DatasetError
from shipway.evaluate.folder import read_class_folders, read_label_file


def read(folder):
    return read_label_file(folder / "labels.txt", folder)


def test_names_labels_and_order_are_those_of_the_file(write_images):
    folder = write_images([("b.png", 0), ("a.png", 0)], "b.png 3\n\n# a comment\n  a.png\t1\n")
    found = read(folder)
    assert found.ids == ("b.png", "a.png")
    assert found.labels == (3, 1)
    assert found.paths == (folder / "b.png", folder / "a.png")
    assert found.notes == ()


@pytest.mark.parametrize(
    "line",
    [
        "my photo.jpg 3",
        "my photo.jpg\t3",
        "my photo.jpg,3",
        "my photo.jpg ,\t 3",
        "./my photo.jpg 3",
    ],
)
def test_a_name_may_hold_spaces_and_the_label_is_the_last_field(write_images, line):
    folder = write_images([("my photo.jpg", 0)], line + "\r\n")
    assert read(folder).ids == ("my photo.jpg",)
    assert read(folder).labels == (3,)


@pytest.mark.parametrize("name", ["a,b.jpg", "dir one/x.jpg", "#1.jpg", "ü 图.jpg", "3 4"])
def test_unusual_names_work(write_images, name):
    folder = write_images([(name, 0)], f"./{name} 7")
    assert read(folder).ids == (name,)


def test_a_byte_order_mark_is_no_part_of_the_first_name(write_images):
    folder = write_images([("a.png", 0)], "\ufeffa.png 0")
    assert read(folder).ids == ("a.png",)


@pytest.mark.parametrize(
    "line",
    ["a.png", "a.png cat", "a.png 1.0", "a.png -1", "a.png \u0661", "7", ", 7", "a.png 3,", ",,", ", ,",
     "a.png 9999999999", "a.png " + "9" * 190, "name,label"],
)  # fmt: skip
def test_a_bad_line_is_named_with_file_line_and_text(write_images, line):
    folder = write_images([("a.png", 0)], f"# header\n{line}\n")
    with pytest.raises(DatasetError) as caught:
        read(folder)
    assert f"labels.txt:2: bad line '{line}'" in str(caught.value)
    assert "name label" in caught.value.hint


def test_a_long_line_of_blanks_takes_no_time(write_images):
    folder = write_images([("a.png", 0)], "a" + " " * 200_000 + "b\n")
    with pytest.raises(DatasetError, match="bad line") as caught:
        read(folder)
    assert len(str(caught.value)) < 1000


def test_a_name_given_twice_is_refused_with_both_lines(write_images):
    folder = write_images([("a.png", 0)], "a.png 1\n./a.png 2\n")
    with pytest.raises(
        DatasetError, match=r"labels\.txt:2: 'a\.png' was labelled before, on line 1"
    ):
        read(folder)


def test_missing_images_are_counted_and_the_first_ones_listed(write_images):
    lines = [f"m{index}.png 0" for index in range(8)]
    folder = write_images([("a.png", 0)], "\n".join(["a.png 1", *lines]))
    with pytest.raises(DatasetError) as caught:
        read(folder)
    assert "8 images named in" in str(caught.value)
    assert "m0.png (line 2), m1.png (line 3)" in str(caught.value)
    assert "and 3 more" in str(caught.value)


def test_a_name_too_long_for_the_file_system_is_a_missing_image(write_images):
    folder = write_images([], "x" * 5000 + ".png 1")
    with pytest.raises(DatasetError, match="1 image named in"):
        read(folder)


def test_images_without_a_label_are_counted_and_named(write_images):
    folder = write_images([("a.png", 0), ("b.png", 0), ("sub/c.JPEG", 0)], "a.png 1")
    (folder / "readme.md").write_text("no image")
    assert read(folder).notes == ("2 images without a label left out: b.png, sub/c.JPEG.",)


def test_a_label_file_that_is_absent_or_no_text_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        read(tmp_path)
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9.png 3\n")
    with pytest.raises(DatasetError, match=r"not UTF-8 text \(byte 3\)"):
        read(tmp_path)


def test_a_label_file_elsewhere_names_images_relative_to_the_folder(write_images, tmp_path):
    folder = write_images([("a.png", 0)])
    (tmp_path / "val.txt").write_text("a.png 5")
    assert read_label_file(tmp_path / "val.txt", folder).labels == (5,)


def test_class_folders_are_numbered_in_the_order_of_their_names(write_images):
    folder = write_images([("b/2.png", 0), ("b/1.png", 0), ("a/x/deep.png", 0), ("B/3.png", 0)])
    found = read_class_folders(folder)
    assert found.ids == ("B/3.png", "a/x/deep.png", "b/1.png", "b/2.png")
    assert found.labels == (0, 1, 2, 2)
    assert found.notes == ()


def test_an_empty_class_folder_keeps_its_number_and_oddities_are_said(write_images):
    folder = write_images([("a/1.png", 0), ("c/1.png", 0), ("loose.png", 0), (".cache/x.png", 0)])
    (folder / "b").mkdir()
    found = read_class_folders(folder)
    assert found.labels == (0, 2)
    assert found.notes == (
        "1 class folder without an image: b.",
        "1 hidden folder left out: .cache.",
        "1 image outside every class folder left out: loose.png.",
    )


def test_links_are_followed_and_a_circle_of_links_ends(write_images, tmp_path):
    folder = write_images([("real/1.png", 0)])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes((folder / "real/1.png").read_bytes())
    (folder / "real" / "loop").symlink_to(folder / "real")
    assert read_class_folders(folder).ids == ("linked/2.png", "real/1.png")


def test_a_folder_without_classes_or_labels_says_how_to_give_them(write_images):
    folder = write_images([("a.png", 0)])
    with pytest.raises(DatasetError, match="nor class folders") as caught:
        read_class_folders(folder)
    assert "--labels" in caught.value.hint


def test_a_name_that_is_no_utf8_gets_an_id_that_a_report_can_hold(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xff.png", "wb"):  # noqa: PTH123 - a name that no str has
        pass
    assert read_class_folders(tmp_path).ids == ("c/\\udcff.png",)
