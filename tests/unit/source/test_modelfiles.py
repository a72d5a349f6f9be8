"""Files the user names: each way in which one is not usable has its own message."""

from pathlib import Path

import pytest

from shipway.errors import ModelError
from shipway.source.modelfiles import find_model_file, shown_path


def test_a_file_is_returned_as_an_absolute_path_and_links_stay(project: Path):
    (project / "blob").write_bytes(b"x")
    (project / "net.onnx").symlink_to("blob")
    assert find_model_file(Path("net.onnx")) == project / "net.onnx"


def test_an_absent_file_comes_with_near_names(project: Path):
    for name in ("squeezenet.onnx", "other.onnx", "notes.txt"):
        (project / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"^No such file: squeeznet\.onnx\.$") as caught:
        find_model_file(Path("squeeznet.onnx"))
    assert caught.value.hint == "This folder has: squeezenet.onnx, other.onnx."


def test_an_absent_folder_is_said_to_be_absent(project: Path):
    with pytest.raises(ModelError) as caught:
        find_model_file(Path("models/net.onnx"))
    assert caught.value.hint == "There is no folder models either."


def test_nothing_alike_gives_no_hint(project: Path):
    with pytest.raises(ModelError) as caught:
        find_model_file(Path("net.onnx"))
    assert not caught.value.hint


def test_a_folder_is_not_a_file(project: Path):
    (project / "net").mkdir()
    (project / "net/net.pt2").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"^net is a folder, not a file\.$") as caught:
        find_model_file(Path("net"))
    assert caught.value.hint == "net has: net.pt2."


def test_an_empty_file_is_refused(project: Path):
    (project / "net.onnx").touch()
    with pytest.raises(ModelError, match=r"net\.onnx is empty \(0 bytes\)"):
        find_model_file(Path("net.onnx"))


def test_a_git_lfs_pointer_is_recognised(project: Path):
    (project / "net.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")
    with pytest.raises(ModelError, match="is a Git LFS pointer") as caught:
        find_model_file(Path("net.onnx"))
    assert caught.value.hint == "git lfs pull"


def test_a_dangling_link_is_an_absent_file(project: Path):
    (project / "net.onnx").symlink_to("gone")
    with pytest.raises(ModelError, match="No such file"):
        find_model_file(Path("net.onnx"))


def test_paths_are_shown_relative_to_the_current_folder_only_inside_it(project: Path):
    assert shown_path(project / "nets/net.py") == "nets/net.py"
    assert shown_path(Path("/elsewhere/net.py")) == "/elsewhere/net.py"
