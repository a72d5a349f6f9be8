"""Tensors in files: each format reads back what was written, and damaged files are refused."""

import base64
import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.errors import OutputError, TensorError, UsageError
from shipway.tensorfiles import file_name, read_bin, read_tensors, save_tensors
from shipway.tensors import ANY, DTYPES, TensorSpec, random_feeds

NATIVE = [dtype.numpy for dtype in DTYPES]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = st.sampled_from([dtype for dtype in NATIVE if dtype != ml_dtypes.bfloat16]).flatmap(
    lambda dtype: hnp.arrays(dtype, SHAPES)
)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal dtype, shape and bits."""
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


def spec_of(name: str, value: np.ndarray) -> TensorSpec:
    return TensorSpec(name, value.dtype.name, value.shape)


class TestRoundTrip:
    """What save_tensors writes, read_tensors reads."""

    @given(ARRAYS)
    def test_npy_and_bin_give_back_every_bit(self, tmp_path_factory, value: np.ndarray):
        folder = tmp_path_factory.mktemp("round")
        (npy,) = save_tensors({"x": value}, folder, format_name="npy")
        (raw,) = save_tensors({"x": value}, folder, format_name="BIN")
        assert same(read_tensors(npy)["x"], value)
        assert same(read_tensors(raw, [spec_of("x", value)])["x"], value)

    @pytest.mark.parametrize("dtype", NATIVE, ids=str)
    def test_txt_has_enough_digits_to_read_the_same_value(self, tmp_path: Path, dtype: np.dtype):
        value = random_feeds([TensorSpec("x", dtype.name, (2, 3, 4))])["x"]
        (path,) = save_tensors({"x": value}, tmp_path, format_name="TXT")
        rows = [line.split() for line in path.read_text().splitlines()]
        assert [len(row) for row in rows] == [4] * 6
        numbers = [
            word == "True" if dtype.kind == "b" else float(word) for row in rows for word in row
        ]
        assert same(np.array(numbers).astype(dtype).reshape(2, 3, 4), value)

    @pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1,)])
    def test_txt_of_one_value_or_none(self, tmp_path: Path, shape: tuple[int, ...]):
        (path,) = save_tensors({"x": np.full(shape, 0.1)}, tmp_path, format_name="TXT")
        assert path.read_text() == "0.1\n" * int(np.prod(shape))

    def test_bfloat16_survives_every_format(self, tmp_path: Path):
        value = random_feeds([TensorSpec("x", "bfloat16", (2, 3))])["x"]
        (npy,) = save_tensors({"x": value}, tmp_path)
        (raw,) = save_tensors({"x": value}, tmp_path, format_name="BIN")
        np.savez(tmp_path / "x.npz", x=value)
        assert same(read_tensors(npy)["x"], value)
        assert same(read_tensors(raw, [TensorSpec("x", "bfloat16", (2, 3))])["x"], value)
        assert same(read_tensors(tmp_path / "x.npz")["x"], value)

    def test_big_endian_and_strided_values_are_written_as_they_count(self, tmp_path: Path):
        value = np.arange(12, dtype=">i4").reshape(3, 4).T
        (raw,) = save_tensors({"x": value}, tmp_path, format_name="BIN")
        (npy,) = save_tensors({"x": value}, tmp_path)
        expected = value.astype("<i4").copy(order="C")
        assert raw.read_bytes() == expected.tobytes()
        read = read_tensors(npy)["x"]
        assert read.dtype == np.dtype("int32")
        np.testing.assert_array_equal(read, expected)

    def test_all_tensors_of_an_npz_come_back_by_name(self, tmp_path: Path):
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros(3), **{"y/z": np.ones((), bool)})
        assert set(read_tensors(tmp_path / "a.npz")) == {"x", "y/z"}

    def test_an_unknown_format_is_refused(self, tmp_path: Path):
        with pytest.raises(UsageError, match="Unknown output format 'HDF5'") as caught:
            save_tensors({}, tmp_path, format_name="HDF5")
        assert caught.value.hint == "One of: NPY, BIN, TXT."

    def test_objects_are_never_pickled(self, tmp_path: Path):
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            save_tensors({"x": np.array([{}])}, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made_is_an_output_error(self, tmp_path: Path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError):
            save_tensors({"x": np.zeros(1)}, tmp_path / "file" / "deep")


class TestNames:
    """Names of tensors as names of files."""

    @given(st.lists(st.text(max_size=200), unique=True, min_size=2, max_size=2))
    def test_every_name_gives_a_usable_file_and_no_two_the_same(self, names: list[str]):
        stems = [file_name(name) for name in names]
        assert stems[0] != stems[1]
        for stem in stems:
            assert stem
            assert not stem.startswith(".")
            assert not {"/", "\0", "\n"} & set(stem)
            assert len(stem.encode()) < 200

    def test_plain_names_stay(self):
        assert file_name("layer1.conv-2_out") == "layer1.conv-2_out"

    def test_a_strange_name_comes_back_when_its_spec_is_known(self, tmp_path: Path):
        specs = [TensorSpec("a/b", "float32", (2,)), TensorSpec("c", "float32", (2,))]
        for kind in ("NPY", "BIN"):
            (path,) = save_tensors({"a/b": np.ones(2, "float32")}, tmp_path, format_name=kind)
            assert set(read_tensors(path, specs)) == {"a/b"}

    def test_one_file_for_one_input_takes_the_name_of_the_input(self, tmp_path: Path):
        np.save(tmp_path / "photo.npy", np.zeros(3))
        assert set(read_tensors(tmp_path / "photo.npy")) == {"photo"}
        assert set(
            read_tensors(tmp_path / "photo.npy", [TensorSpec("image", "float64", (3,))])
        ) == {"image"}


class TestBin:
    """Raw files, which say nothing of themselves."""

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((2, 3), (2, 3)),
            (("n", 3), (2, 3)),
            ((ANY, 3), (2, 3)),
            ((2, "h"), (2, 3)),
            (("n", "h"), (6, 1)),
            (None, (6,)),
            ((1, "n", 1, 2), (1, 3, 1, 2)),
        ],
    )
    def test_a_free_size_is_worked_out(self, tmp_path: Path, shape, expected: tuple[int, ...]):
        (tmp_path / "x.bin").write_bytes(np.arange(6, dtype="float32").tobytes())
        value = read_bin(tmp_path / "x.bin", TensorSpec("x", "float32", shape))
        assert value.shape == expected
        assert value.ravel().tolist() == [0, 1, 2, 3, 4, 5]
        assert value.flags.writeable

    @pytest.mark.parametrize(
        ("shape", "needs"),
        [
            ((2, 3), "needs 24."),
            ((7,), "needs 28."),
            ((), "needs 4."),
            (("n", 4), "needs a multiple of 16."),
        ],
    )
    @pytest.mark.parametrize("size", [23, 25, 100])
    def test_a_size_that_does_not_fit_is_told_with_both_numbers(self, tmp_path, shape, needs, size):
        (tmp_path / "x.bin").write_bytes(bytes(size))
        with pytest.raises(TensorError) as caught:
            read_bin(tmp_path / "x.bin", TensorSpec("x", "float32", shape))
        assert f"has {size} bytes; x:float32[" in str(caught.value)
        assert str(caught.value).endswith(needs)

    def test_an_empty_file_is_an_empty_tensor_only_where_the_spec_allows(self, tmp_path: Path):
        (tmp_path / "x.bin").write_bytes(b"")
        assert read_bin(tmp_path / "x.bin", TensorSpec("x", "float32", ("n", 3))).shape == (0, 3)
        assert read_bin(tmp_path / "x.bin", TensorSpec("x", "float32", (0, 3))).shape == (0, 3)
        with pytest.raises(TensorError, match="has 0 bytes"):
            read_bin(tmp_path / "x.bin", TensorSpec("x", "float32", (1, 3)))

    def test_a_raw_file_needs_a_spec(self, tmp_path: Path):
        (tmp_path / "x.bin").write_bytes(bytes(4))
        for specs in ([], [TensorSpec("a", "float32", (1,)), TensorSpec("b", "float32", (1,))]):
            with pytest.raises(TensorError, match="is raw data") as caught:
                read_tensors(tmp_path / "x.bin", specs)
            assert "--input name=file.bin" in caught.value.hint

    def test_a_folder_in_its_place_is_an_error(self, tmp_path: Path):
        with pytest.raises(TensorError, match="Is a directory"):
            read_bin(tmp_path, TensorSpec("x", "float32", (1,)))


def encoded(value: np.ndarray) -> dict[str, str]:
    """Encode an array as Polygraphy does: base64 of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=False)
    return {"array": base64.b64encode(stream.getvalue()).decode(), "polygraphy_class": "ndarray"}


def iteration(**outputs: np.ndarray) -> dict[str, object]:
    lazy = {n: {"values": encoded(v), "polygraphy_class": "LazyArray"} for n, v in outputs.items()}
    return {
        "outputs": lazy,
        "runtime": 0.001,
        "runner_name": "onnxrt-runner-N0",
        "polygraphy_class": "IterationResult",
    }


def run_results(**runners: list[dict[str, object]]) -> dict[str, object]:
    return {"lst": [[name, its] for name, its in runners.items()], "polygraphy_class": "RunResults"}


class TestPolygraphy:
    """Files in the format of Polygraphy 0.53.6 (json/serde.py, comparator/struct.py)."""

    X = np.arange(6, dtype="float32").reshape(2, 3)
    MASK = np.array([True, False])

    def read(self, folder: Path, data: object) -> dict[str, np.ndarray]:
        (folder / "a.json").write_text(json.dumps(data, indent=4))
        return read_tensors(folder / "a.json")

    @pytest.mark.parametrize(
        "data",
        [
            [{"x": encoded(X), "mask": encoded(MASK)}],
            {"x": encoded(X), "mask": encoded(MASK)},
            run_results(runner=[iteration(x=X, mask=MASK)]),
        ],
        ids=["save-inputs", "one feed dict", "save-outputs"],
    )
    def test_inputs_and_outputs_of_one_iteration(self, tmp_path: Path, data: object):
        read = self.read(tmp_path, data)
        assert list(read) == ["x", "mask"]
        assert same(read["x"], self.X)
        assert same(read["mask"], self.MASK)

    def test_older_names_of_the_classes(self, tmp_path: Path):
        old = {
            "array": encoded(self.X)["array"],
            "__polygraphy_encoded_ndarray": "polygraphy_serialized_json_type",
        }
        lazy = {"values": old, "polygraphy_class": "LazyNumpyArray"}
        data = run_results(r=[{"outputs": {"x": lazy}, "runtime": None, "runner_name": "r"}])
        assert same(self.read(tmp_path, data)["x"], self.X)

    @pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16"])
    def test_torch_tensors(self, tmp_path: Path, dtype: str):
        torch = pytest.importorskip("torch")
        stream = io.BytesIO()
        torch.save(torch.ones((2, 3), dtype=getattr(torch, dtype)), stream)
        data = [
            {
                "x": {
                    "tensor": base64.b64encode(stream.getvalue()).decode(),
                    "polygraphy_class": "Tensor",
                }
            }
        ]
        value = self.read(tmp_path, data)["x"]
        assert (value.dtype.name, value.shape, bool(value.all())) == (dtype, (2, 3), True)

    @pytest.mark.parametrize(
        "data",
        [
            [{"x": encoded(X)}, {"x": encoded(X)}],
            run_results(one=[iteration(x=X), iteration(x=X)]),
            run_results(one=[iteration(x=X)], two=[iteration(x=X)]),
        ],
    )
    def test_several_iterations_or_runners_are_not_dropped_in_silence(self, tmp_path: Path, data):
        with pytest.raises(TensorError, match="holds 2 sets of tensors") as caught:
            self.read(tmp_path, data)
        assert "--iterations 1" in caught.value.hint

    @pytest.mark.parametrize(
        "data",
        [
            {},
            [],
            3,
            None,
            "text",
            {"x": 3},
            {"x": encoded(X), "y": 3},
            {"x": {"array": "not base64!", "polygraphy_class": "ndarray"}},
            {"x": {"array": "AAAA", "polygraphy_class": "ndarray"}},
            {"x": {"tensor": "AAAA", "polygraphy_class": "Tensor"}},
        ],
    )
    def test_other_json_is_refused(self, tmp_path: Path, data: object):
        with pytest.raises(TensorError, match=r"Cannot read .*a\.json"):
            self.read(tmp_path, data)


class TestDamage:
    """Files that are not what they seem."""

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".json"])
    @given(data=st.binary(max_size=200))
    def test_garbage_is_refused(self, tmp_path_factory, suffix: str, data: bytes):
        path = tmp_path_factory.mktemp("garbage") / f"x{suffix}"
        path.write_bytes(data)
        with pytest.raises(TensorError, match=r"Cannot read .*x\.np|Cannot read .*x\.json"):
            read_tensors(path)

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".json"])
    def test_a_file_cut_off_anywhere_is_refused(self, tmp_path: Path, suffix: str):
        path = tmp_path / f"x{suffix}"
        if suffix == ".npy":
            np.save(path, np.arange(50))
        elif suffix == ".npz":
            np.savez(path, x=np.arange(50), y=np.ones(3))
        else:
            path.write_text(json.dumps([{"x": encoded(np.arange(50))}]))
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(TensorError):
                read_tensors(path)

    def test_a_flipped_bit_in_an_archive_is_noticed(self, tmp_path: Path):
        np.savez_compressed(tmp_path / "x.npz", x=np.arange(500))
        data = bytearray((tmp_path / "x.npz").read_bytes())
        data[len(data) // 2] ^= 4
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(TensorError):
            read_tensors(tmp_path / "x.npz")

    def test_a_header_that_promises_terabytes_is_refused(self, tmp_path: Path):
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"
        text = header.ljust(117) + "\n"
        (tmp_path / "x.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + bytes([len(text), 0]) + text.encode()
        )
        with pytest.raises(TensorError, match="Cannot read"):
            read_tensors(tmp_path / "x.npy")

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_python_objects_are_refused(self, tmp_path: Path, suffix: str):
        path = tmp_path / f"x{suffix}"
        value = np.array([{"a": 1}], dtype=object)
        np.save(path, value) if suffix == ".npy" else np.savez(path, x=value)
        with pytest.raises(TensorError, match="Object arrays cannot be loaded"):
            read_tensors(path)

    def test_swapped_endings_are_told(self, tmp_path: Path):
        np.savez(tmp_path / "a.npz", x=np.zeros(1))
        np.save(tmp_path / "b.npy", np.zeros(1))
        (tmp_path / "a.npz").rename(tmp_path / "a.npy")
        (tmp_path / "b.npy").rename(tmp_path / "b.npz")
        with pytest.raises(TensorError, match=r"it is a \.npz file with the wrong ending"):
            read_tensors(tmp_path / "a.npy")
        with pytest.raises(TensorError, match=r"it is a \.npy file with the wrong ending"):
            read_tensors(tmp_path / "b.npz")

    def test_an_archive_of_other_things_is_refused(self, tmp_path: Path):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(TensorError, match="Cannot read"):
            read_tensors(tmp_path / "x.npz")

    def test_other_endings_and_absent_files_are_told_apart(self, tmp_path: Path):
        with pytest.raises(UsageError, match=r"unknown ending '\.csv'"):
            read_tensors(tmp_path / "x.csv")
        with pytest.raises(TensorError, match="No such tensor file"):
            read_tensors(tmp_path / "x.npy")
