"""The commands of the road one at a time, as a user chains them."""

import json
from pathlib import Path

import numpy as np
import pytest

SPEC = "image:float32[batch,3,16,16]"


@pytest.fixture(scope="module")
def model(shipway, tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """An exported model with its proof, made once for this file."""
    folder = tmp_path_factory.mktemp("steps")
    source = weights.parent / "net.py"
    words = ("--weights", weights, "--input", SPEC, "--output-name", "scores")
    done = shipway("export", f"{source}:Net", *words, "--output", folder / "export", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "proof  PASS" in done.stdout
    assert "image:float32[batch,3,16,16]" in done.stdout
    return folder / "export" / "model.onnx"


def run_json(shipway, *words: str | Path, code: int = 0):
    done = shipway(*words, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_run_reads_what_it_wrote_in_every_format(shipway, model: Path, tmp_path: Path) -> None:
    """NPY, BIN and TXT hold the same values, and inputs come from npy, npz and bin alike."""
    image = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    np.savez(tmp_path / "set.npz", image=image)
    image.tofile(tmp_path / "image.bin")
    inputs = {"NPY": "image.npy", "BIN": "image=image.bin", "TXT": "set.npz"}
    values = {}
    for outfmt, text in inputs.items():
        name, equals, file = text.rpartition("=")
        words = ("--input", f"{name}{equals}{tmp_path / file}", "--outfmt", outfmt)
        out = tmp_path / outfmt
        done = run_json(shipway, "run", model, *words, "--output", out, "--loop", "3")
        path = Path(done["written"][0])
        assert path == out / f"scores.{outfmt.lower()}"
        assert done["latency"]["count"] == 3
        assert done["effective"]["precision"] == "f32"
        read = {"NPY": np.load, "BIN": lambda p: np.fromfile(p, "float32"), "TXT": np.loadtxt}
        values[outfmt] = np.asarray(read[outfmt](path), "float32").reshape(2, 4)
    np.testing.assert_array_equal(values["BIN"], values["NPY"])
    np.testing.assert_array_equal(values["TXT"], values["NPY"])


def test_run_takes_a_folder_as_one_run_a_file(shipway, model: Path, project: Path) -> None:
    words = ("--input", project / "photos.in", "--preprocess", "resize 16 bilinear, crop 16")
    (project / "photos.in").mkdir()
    for index in range(3):
        photo = project / "photos" / f"photo {index}.jpg"
        (project / "photos.in" / f"{index}.jpg").write_bytes(photo.read_bytes())
    done = run_json(shipway, "run", model, *words, "--output", project / "out")
    assert [one["input"] for one in done["runs"]] == ["0", "1", "2"]
    assert (project / "out" / "2" / "scores.npy").is_file()


def test_run_without_input_is_seeded(shipway, model: Path, tmp_path: Path) -> None:
    outputs = []
    for folder in ("a", "b"):
        run_json(shipway, "run", model, "--dim", "batch=3", "--output", tmp_path / folder)
        outputs.append(np.load(tmp_path / folder / "scores.npy"))
    assert outputs[0].shape == (3, 4)
    np.testing.assert_array_equal(*outputs)


def test_compare_engines_and_saved_files(shipway, model: Path, tmp_path: Path) -> None:
    """A clean engine passes; a gain of 4 % fails and is called a gain."""
    program = model.with_suffix(".pt2")
    clean = run_json(shipway, "compare", program, f"{model}@onnxruntime", "--dim", "batch=2")
    assert clean["passed"]
    assert clean["coverage"] == {"compared": 1, "skipped": {}}

    scores = np.random.default_rng(0).random((8, 4), dtype=np.float32)
    np.savez(tmp_path / "golden.npz", scores=scores)
    np.savez(tmp_path / "actual.npz", scores=scores * np.float32(1.04))
    words = ("compare", tmp_path / "golden.npz", tmp_path / "actual.npz")
    scaled = run_json(shipway, *words, code=1)
    reasons = scaled["outputs"][0]["verdict"]["reasons"]
    assert any("gain is 1.04" in reason for reason in reasons)

    np.savez(tmp_path / "other.npz", scores=scores, extra=scores)
    extra = run_json(shipway, "compare", tmp_path / "golden.npz", tmp_path / "other.npz", code=1)
    assert list(extra["coverage"]["skipped"]) == ["extra"]


def test_compare_bin_files_needs_a_spec(shipway, tmp_path: Path) -> None:
    value = np.arange(8, dtype=np.float32).reshape(2, 4)
    for name in ("golden", "actual"):
        value.tofile(tmp_path / f"{name}.bin")
    words = ("compare", tmp_path / "golden.bin", tmp_path / "actual.bin")
    assert shipway(*words).returncode == 4
    done = run_json(shipway, *words, "--spec", "scores:float32[2,4]")
    assert done["passed"]


def test_compile_then_use_the_artifact(shipway, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "engine"
    made = run_json(shipway, "compile", model, "--engine", "onnxruntime", "--output", out)
    artifact = Path(made["path"])
    assert made["engine"] == "onnxruntime"
    assert run_json(shipway, "run", artifact)["engine"] == "onnxruntime"
    wrong = shipway("run", artifact, "--engine", "torch")
    assert wrong.returncode == 2
    assert "was compiled for onnxruntime" in wrong.stderr


def test_evaluate_against_golden(shipway, model: Path, project: Path) -> None:
    data = ("--data", project / "photos", "--preprocess", "resize 16 bilinear, crop 16")
    golden = project / "golden"
    first = run_json(
        shipway, "evaluate", model.with_suffix(".pt2"), *data, "--output", golden, "--batch", "5"
    )
    assert [top["n"] for top in first["top"]] == [1, 2, 3, 4]
    assert first["top"][3]["correct"] == first["top"][3]["total"] == 12
    words = ("--golden", golden / "predictions.npz", "--max-flips", "0")
    second = run_json(shipway, "evaluate", model, *data, *words)
    assert second["top"] == first["top"]
    assert second["flips"]["mcnemar_p"] == 1.0
    assert run_json(shipway, "evaluate", model, *data, "--min-top1", "1", code=1)


def test_bench_compares_engines_in_one_run(shipway, model: Path, tmp_path: Path) -> None:
    pair = (f"{model}@onnxruntime", f"{model.with_suffix('.pt2')}@torch")
    words = ("--seconds", "0.05", "--calls", "70", "--batch", "1", "--batch", "4")
    rows = run_json(shipway, "bench", *pair, *words, "--output", tmp_path)
    assert [(row["engine"], row["batch"]) for row in rows] == [
        ("onnxruntime", 1),
        ("torch", 1),
        ("onnxruntime", 4),
        ("torch", 4),
    ]
    assert rows[0]["latency"]["p90_ms"] is not None
    assert json.loads((tmp_path / "bench.json").read_text()) == rows
    if rows[0]["latency"]["count"] < 662:
        assert rows[0]["latency"]["p99_ms"] is None


def test_doctor_names_every_engine(shipway) -> None:
    found = run_json(shipway, "doctor")
    assert {"torch", "onnxruntime", "openvino", "aotinductor"} <= found["engines"].keys()
    assert found["engines"]["torch"]["installed"]
    assert found["environment"]["versions"]["torch"]


def test_token_ids_out_of_range_are_refused_by_every_engine(shipway, tmp_path: Path) -> None:
    """OpenVINO reads beyond the table without a word; the spec's range is held to before it can."""
    (tmp_path / "words.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Embedding(10, 4))\n"
    )
    spec = "ids:int64[batch,3]{0..9}"
    words = ("--input", spec, "--output", tmp_path / "e", "--no-proof")
    assert shipway("export", f"{tmp_path}/words.py:make", *words).returncode == 0
    np.save(tmp_path / "ids.npy", np.array([[0, 9, 10]]))
    for engine in ("onnxruntime", "openvino"):
        pair = ("--input", tmp_path / "ids.npy", "--engine", engine)
        done = shipway("run", tmp_path / "e" / "model.onnx", *pair)
        assert done.returncode == 4
        assert "values from 0 to 10" in done.stderr


def test_files_of_one_stem_do_not_overwrite_each_other(
    shipway, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    value = np.zeros((1, 3, 16, 16), np.float32)
    np.save(folder / "a.npy", value)
    value.tofile(folder / "a.bin")
    (folder / "labels.txt").write_text("a 0\n")
    done = shipway("run", model, "--input", folder, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    assert (tmp_path / "out" / "a.npy" / "scores.npy").is_file()
    assert (tmp_path / "out" / "a.bin" / "scores.npy").is_file()


def test_two_single_tensors_belong_together(shipway, tmp_path: Path) -> None:
    for name in ("first", "second"):
        np.save(tmp_path / f"{name}.npy", np.arange(6.0))
    assert shipway("compare", tmp_path / "first.npy", tmp_path / "second.npy").returncode == 0


def test_a_missed_limit_is_said(shipway, model: Path, project: Path) -> None:
    data = ("--data", project / "photos", "--preprocess", "resize 16 bilinear, crop 16")
    done = shipway("evaluate", model, *data, "--min-top1", "1")
    assert done.returncode == 1
    assert "missed: Top-1 is" in done.stderr
    slow = shipway("bench", model, "--seconds", "0", "--calls", "5", "--max-p50-ms", "0.000001")
    assert slow.returncode == 1
    assert "missed: onnxruntime has a median" in slow.stderr


def test_a_size_beside_input_files_is_refused_instead_of_ignored(
    shipway, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    done = shipway("run", model, "--input", tmp_path / "x.npy", "--dim", "batch=8")
    assert done.returncode == 2
    assert "--dim sizes random inputs" in done.stderr
