"""`shipway compare` names the first operator that goes wrong, whatever the two sides are."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

SPEC = "image:float32[batch,3,16,16]"


@pytest.fixture(scope="module")
def model(shipway, tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """An exported model, made once for this file."""
    folder = tmp_path_factory.mktemp("compare")
    source = weights.parent / "net.py"
    words = ("--weights", weights, "--input", SPEC, "--output-name", "scores")
    done = shipway("export", f"{source}:Net", *words, "--output", folder / "export", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "export" / "model.onnx"


@pytest.fixture(scope="module")
def broken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with the weights of its convolution 5 % too large."""
    path = tmp_path_factory.mktemp("broken") / "model.onnx"
    proto = onnx.load(model)
    node = next(one for one in proto.graph.node if one.op_type == "Conv")
    weight = next(one for one in proto.graph.initializer if one.name == node.input[1])
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.05)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(proto, path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.npy"
    np.save(path, np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32))
    return path


def run_json(shipway, *words: str | Path, code: int = 0):
    done = shipway(*words, "--json")
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_clean_engine_is_clean_tensor_by_tensor(shipway, model: Path, engine: str) -> None:
    program = model.with_suffix(".pt2")
    found = run_json(shipway, "compare", program, f"{model}@{engine}", "--dim", "batch=2")
    diagnosis = found["diagnosis"]
    assert found["passed"]
    assert diagnosis["passed"]
    assert diagnosis["local"]
    assert diagnosis["identical"]
    assert len(diagnosis["tensors"]) >= 3
    reasons = set(diagnosis["coverage"]["unmatched"].values())
    assert all("moves a tensor" in one or "prepares a weight" in one for one in reasons)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_fault_is_named_with_its_line(shipway, model: Path, broken: Path, engine: str) -> None:
    program = model.with_suffix(".pt2")
    words = ("compare", program, f"{broken}@{engine}", "--dim", "batch=2")
    done = shipway(*words)
    assert done.returncode == 1, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("FAULT in ")
    assert "net.py" in first
    assert "gain" in done.stdout
    found = run_json(shipway, *words, code=1)
    (culprit,) = found["diagnosis"]["culprits"]
    assert culprit["effect"]["scores"] > 1e-3
    assert culprit["cause"]["kind"] in {"gain", "offset", "input"}


def test_outputs_only_looks_no_further(shipway, model: Path) -> None:
    words = ("compare", model.with_suffix(".pt2"), f"{model}@onnxruntime", "--outputs-only")
    found = run_json(shipway, *words, "--dim", "batch=2")
    assert found["passed"]
    assert "diagnosis" not in found


def test_everything_is_written(shipway, model: Path, broken: Path, tmp_path: Path) -> None:
    words = ("compare", model, f"{broken}@onnxruntime", "--dim", "batch=2")
    out = tmp_path / "out put"
    done = shipway(*words, "--output", out, "--replay", tmp_path / "replay")
    assert done.returncode == 1, done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"comparison.json", "diagnosis.json", "diagnosis.csv", "diagnosis.html"} <= names
    (folder,) = (tmp_path / "replay").iterdir()
    assert {"piece.json", "expected.npy", "actual.npy", "replay.py"} <= {
        path.name for path in folder.iterdir()
    }


def test_a_trace_stands_for_its_engine(shipway, model: Path, broken: Path, image: Path) -> None:
    folder = image.parent
    for name, path in (("good", model), ("bad", broken)):
        words = ("trace", path, "--engine", "onnxruntime", "--input", image)
        assert shipway(*words, "--output", folder / name).returncode == 0
    program = model.with_suffix(".pt2")
    assert run_json(shipway, "compare", program, folder / "good")["diagnosis"]["local"]
    found = run_json(shipway, "compare", program, folder / "bad", code=1)["diagnosis"]
    assert len(found["culprits"]) == 1
    stored = run_json(shipway, "compare", folder / "good", folder / "bad", code=1)["diagnosis"]
    assert not stored["local"]
    assert stored["culprits"][0]["tensor"]


def test_different_inputs_are_named_as_such(shipway, model: Path, image: Path) -> None:
    folder = image.parent
    other = folder / "other.npy"
    np.save(other, np.load(image) + 1)
    for name, file in (("one", image), ("two", other)):
        words = ("trace", model, "--input", f"image={file}", "--output", folder / name)
        assert shipway(*words).returncode == 0
    done = shipway("compare", folder / "one", folder / "two")
    assert done.returncode == 1
    assert "differ" in done.stdout.splitlines()[0]
    assert "FAULT" not in done.stdout
    done = shipway("compare", model, folder / "one", "--input", f"image={other}")
    assert done.returncode == 1
    assert "differ" in done.stdout.splitlines()[0]


def test_a_trace_of_another_model_is_refused(shipway, model: Path, image: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
        other (float[2,3,16,16] image) => (float[2,3,16,16] b) { a = Exp (image)  b = Neg (a) }"""
    other = image.parent / "other.onnx"
    onnx.save(onnx.parser.parse_model(text), other)
    words = ("trace", other, "--input", image, "--output", image.parent / "trace")
    assert shipway(*words).returncode == 0
    done = shipway("compare", model, image.parent / "trace")
    assert done.returncode == 4
    assert "different models" in done.stderr
    assert "hint:" in done.stderr


def test_a_truncated_trace_is_said_to_be_one(shipway, model: Path, image: Path) -> None:
    folder = image.parent / "trace"
    words = ("trace", model, "--input", image, "--output", folder)
    assert shipway(*words).returncode == 0
    victim = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-40])
    done = shipway("compare", model, folder)
    assert done.returncode == 4
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr


def test_bisection_goes_without_taps(shipway, model: Path, broken: Path) -> None:
    words = ("compare", model, f"{broken}@openvino", "--dim", "batch=2", "--bisect")
    found = run_json(shipway, *words, code=1)["bisection"]
    assert found["verdict"] == "found"
    assert found["operator"] == "Conv"
    clean = run_json(shipway, "compare", model, f"{model}@openvino", "--dim", "batch=2", "--bisect")
    assert clean["bisection"]["verdict"] == "clean"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["aotinductor", "aotinductor:bf16"])
def test_a_clean_aotinductor_is_clean(shipway, model: Path, engine: str) -> None:
    """It tells which kernel saved a buffer, not which tensor that is."""
    program = model.with_suffix(".pt2")
    found = run_json(shipway, "compare", program, f"{model}@{engine}", "--dim", "batch=2")
    assert found["diagnosis"]["passed"]
    assert found["diagnosis"]["identical"]


def test_a_map_must_name_tensors(shipway, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    words = ("compare", model, f"{model}@onnxruntime", "--dim", "batch=2", "--map", path)
    for text, said in (("a: b", "'a'"), ("- x", "no pairs"), ("a: 3", "names"), ("{", "YAML")):
        path.write_text(text)
        done = shipway(*words)
        assert done.returncode == 2
        assert said in done.stderr
    path.unlink()
    assert shipway(*words).returncode == 2


def test_artifacts_lead_back_to_their_model(shipway, model: Path, tmp_path: Path) -> None:
    done = shipway("compile", model, "--engine", "openvino", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    artifact = tmp_path / "model.openvino.xml"
    words = ("compare", model.with_suffix(".pt2"), artifact, "--dim", "batch=2")
    assert run_json(shipway, *words)["diagnosis"]["local"]
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("words", [("--max-memory", "lots"), ("--causes", "0")])
def test_senseless_flags_are_refused(shipway, model: Path, words) -> None:
    done = shipway("compare", model, f"{model}@onnxruntime", "--dim", "batch=2", *words)
    assert done.returncode == 2
    assert words[0] in done.stderr
