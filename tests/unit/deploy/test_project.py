"""ship.toml: what is read, what is refused, and what the message says."""

from pathlib import Path

import pytest

from shipway.deploy.project import DataSection, Limits, load_project, name_of, read_project
from shipway.engines.target import Target
from shipway.errors import ShipwayError, UsageError

MINIMAL = '[model]\nsource = "net.py:Net"\ninputs = ["x:float32[batch,3]"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "ship.toml"
    path.write_text(text)
    return path


def test_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, MINIMAL))
    assert project.name == "net"
    assert project.source.reference == f"{tmp_path / 'net.py'}:Net"
    assert project.targets == (Target("onnxruntime"),)
    assert (project.export.opset, project.export.fold, project.export.legacy) == (20, True, False)
    assert project.data is None
    assert project.limits == Limits()
    assert project.bench is not None
    assert project.bench.batches == (1,)


def test_every_key_of_the_reference_is_read(tmp_path: Path) -> None:
    text = (
        MINIMAL.replace("[model]", '[model]\nname = "n"\nweights = "w.pth"\nallow_pickle = true')
        + """
        arguments = {width = 0.25}
        [export]
        opset = 18
        legacy = true
        fold = false
        outputs = ["y"]
        bounds = {batch = [1, 64]}
        [engines]
        targets = ["openvino:bf16", "openvino"]
        threads = 2
        [compare]
        input_sets = 5
        samples = 0
        seed = 7
        [data]
        path = "photos"
        labels = "l.txt"
        preprocess = "imagenet-bicubic"
        batch = 8
        output = "y"
        max_bad = 3
        limit = 100
        [bench]
        batches = [1, 8]
        seconds = 0.5
        calls = 10
        seed = 1
        [limits]
        min_top1 = 0.5
        max_top1_drop = 1
        max_flips = 0
        max_relative_l2 = 1e-5
        max_p50_ms = 3
        """
    )
    project = load_project(write(tmp_path, text))
    assert project.name == "n"
    assert project.source.weights == tmp_path / "w.pth"
    assert project.source.arguments == {"width": 0.25}
    assert project.source.allow_pickle
    assert project.export.to_json()["bounds"] == {"batch": [1, 64]}
    assert project.targets == (Target("openvino", "bf16"), Target("openvino"))
    assert project.threads == 2
    assert (project.compare.input_sets, project.compare.samples, project.compare.seed) == (5, 0, 7)
    assert project.data == DataSection(
        tmp_path / "photos", tmp_path / "l.txt", "imagenet-bicubic", 8, "y", 3, 100
    )
    assert project.bench is not None
    assert (project.bench.batches, project.bench.min_seconds) == ((1, 8), 0.5)
    assert project.limits == Limits(0.5, 1.0, 0, 1e-5, 3.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model.source is missing"),
        ("[model", "not valid TOML"),
        (MINIMAL + "[exprot]", "unknown key exprot"),
        (MINIMAL + "[export]\nopst = 18", "unknown key export.opst"),
        (MINIMAL + '[export]\nopset = "18"', "export.opset must be a whole number, not '18'"),
        (MINIMAL + "[engines]\nthreads = true", "engines.threads must be a whole number"),
        (MINIMAL + "[engines]\nthreads = -1", "engines.threads must be at least 0"),
        (MINIMAL + '[engines]\ntargets = ["tensorflow"]', "Unknown engine 'tensorflow'"),
        (MINIMAL + '[engines]\ntargets = ["openvino:f8"]', "Unknown precision 'f8'"),
        (
            MINIMAL + '[engines]\ntargets = ["torch"]',
            "torch is always there|always there, as golden",
        ),
        (MINIMAL + '[engines]\ntargets = ["openvino", "openvino"]', "openvino twice"),
        (MINIMAL + "[limits]\nmin_top1 = 90", "rate from 0 to 1, not 90"),
        (MINIMAL + "[limits]\nmax_flips = 0", "max_flips needs a data set"),
        (MINIMAL + "[bench]\nenabled = false\n[limits]\nmax_p50_ms = 1", "needs the benchmark"),
        (MINIMAL + "[data]\nbatch = 1", "data.path is missing"),
        (MINIMAL + "[bench]\nbatches = []", "bench.batches must be"),
        (MINIMAL + "[export]\nbounds = {batch = 3}", "export.bounds.batch must be"),
        (MINIMAL.replace("x:float32[batch,3]", "x:floaty[1]"), "Unknown dtype 'floaty'"),
        (MINIMAL.replace("x:float32[batch,3]", "what?"), "not a tensor spec"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ShipwayError, match=message) as caught:
        load_project(write(tmp_path, text))
    assert caught.value.exit_code in {2, 4}


def test_unknown_key_suggests_the_close_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_project(write(tmp_path, MINIMAL + "[export]\nopst = 18"))
    assert caught.value.hint == "Did you mean opset?"


def test_bench_can_be_switched_off() -> None:
    data = {"model": {"source": "m.onnx"}, "bench": {"enabled": False}}
    assert read_project(data, folder=Path()).bench is None


@pytest.mark.parametrize(
    ("reference", "name"),
    [("a/net.py:Net", "net"), ("pkg.nets:make", "nets"), ("a/b.onnx", "b"), ("m.pt2", "m")],
)
def test_the_name_comes_from_the_source(reference: str, name: str) -> None:
    assert name_of(reference) == name
