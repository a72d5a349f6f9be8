"""Folders of tensor files without any tool's marks."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest

from shipway.errors import TensorError
from shipway.tensors import TensorSpec
from shipway.trace.importing.plain import read_plain


def value(number: float) -> np.ndarray:
    return np.full((2, 3), number, np.float32)


def test_a_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        np.save(tmp_path / f"layer{number}.npy", value(number))
    np.savez(tmp_path / "set.npz", **{"z/out": value(20), "a": value(21)})
    value(30).tofile(tmp_path / "raw.bin")
    found = list(read_plain(tmp_path, [TensorSpec("raw", "float32", (2, 3))]))
    names = ["layer1", "layer2", "layer10", "raw", "z/out", "a"]
    assert [tap.name for tap, _ in found] == names
    assert [tap.order for tap, _ in found] == list(range(6))
    assert [float(array[0, 0]) for _, array in found] == [1, 2, 10, 30, 20, 21]


def test_names_that_a_file_cannot_have_come_back_with_their_spec(tmp_path: Path) -> None:
    from shipway.tensorfiles import save_tensors

    save_tensors({"layer1/relu out": value(1)}, tmp_path, format_name="BIN")
    spec = TensorSpec("layer1/relu out", "float32", (2, 3))
    ((tap, array),) = read_plain(tmp_path, [spec])
    assert tap.name == "layer1/relu out"
    np.testing.assert_array_equal(array, value(1))


def test_two_files_with_the_same_name_inside(tmp_path: Path) -> None:
    for number in (1, 2):
        np.savez(tmp_path / f"run{number}.npz", x=value(number))
    found = {tap.name: float(array[0, 0]) for tap, array in read_plain(tmp_path)}
    assert found == {"x": 1, "run2/x": 2}


def test_one_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.array(3.5), empty=np.zeros((0, 4)))
    found = {tap.name: array.shape for tap, array in read_plain(tmp_path / "set.npz")}
    assert found == {"x": (), "empty": (0, 4)}


def test_one_polygraphy_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, value(4))
    encoded = base64.b64encode(stream.getvalue()).decode()
    runner = [{"conv1": {"values": {"array": encoded, "polygraphy_class": "ndarray"}}}]
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps({"lst": [["onnxrt-runner", runner]]}))
    ((tap, array),) = read_plain(path)
    assert tap.name == "conv1"
    np.testing.assert_array_equal(array, value(4))


def test_damaged_files_are_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", value(1))
    np.save(tmp_path / "cut.npy", value(2))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-4])
    value(3).tofile(tmp_path / "raw.bin")
    (tmp_path / "read me.txt").write_text("x")
    (tmp_path / "more").mkdir()
    problems: dict[str, str] = {}
    found = [tap.name for tap, _ in read_plain(tmp_path, problems=problems)]
    assert found == ["good"]
    assert set(problems) == {"cut.npy", "raw.bin", "read me.txt", "more"}
    assert "no spec" in problems["raw.bin"]
    with pytest.raises(TensorError, match=r"cut\.npy"):
        list(read_plain(tmp_path))


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(TensorError, match=r"x\.npy"):
        list(read_plain(tmp_path))


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.mkdir()])
def test_nothing_there(tmp_path: Path, make) -> None:
    make(tmp_path / "dump")
    with pytest.raises(TensorError, match="dump") as caught:
        list(read_plain(tmp_path / "dump"))
    assert caught.value.hint
