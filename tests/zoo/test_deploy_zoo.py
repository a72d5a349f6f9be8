"""Real ImageNet classifiers with trained weights, deployed on real photographs."""

import json
from pathlib import Path

import pytest

NETS = {
    # name: (class and arguments, mean, std) as beside the weights, in imagenet_nets.py
    "mobilenet_v2_dequant": ("MobileNetV2", "{}", "0.5 0.5 0.5", "0.5 0.5 0.5"),
    "squeezenet1_1": ("SqueezeNet", "{}", "0.485 0.456 0.406", "0.229 0.224 0.225"),
    "mobilenet_v1_025": ("MobileNetV1", "{alpha = 0.25}", "0.5 0.5 0.5", "0.5 0.5 0.5"),
}
PROJECT = """
[model]
name = "{name}"
source = "{assets}/torch/imagenet_nets.py:{net}"
arguments = {arguments}
weights = "{assets}/torch/{name}.pth"
inputs = ["image:float32[batch,3,224,224]"]

[engines]
targets = [{targets}]

[data]
path = "{assets}/images/imagenet_val_130"
preprocess = "crop 224, scale 1/255, mean {mean}, std {std}"
batch = 10

[bench]
enabled = false

[limits]
max_flips = 0
max_relative_l2 = 1e-5
"""


def write_project(folder: Path, assets: Path, name: str, targets: list[str]) -> Path:
    net, arguments, mean, std = NETS[name]
    path = folder / "ship.toml"
    quoted = ", ".join(f'"{target}"' for target in targets)
    path.write_text(
        PROJECT.format(
            name=name,
            assets=assets,
            net=net,
            arguments=arguments,
            mean=mean,
            std=std,
            targets=quoted,
        )
    )
    return path


def assert_agreement(report: dict, engines: int) -> None:
    """Every f32 engine counts what golden counts, and its outputs are within 1e-5."""
    golden, *others = report["engines"]
    assert len(others) == engines
    assert golden["evaluation"]["top"][0]["total"] == 130
    for engine in others:
        assert engine["evaluation"]["top"] == golden["evaluation"]["top"]
        assert engine["evaluation"]["flips"]["count"] == 0
        for output in engine["comparison"]["outputs"]:
            assert output["metrics"]["relative_l2"] <= 1e-5
    assert report["proof"]["passed"]
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.assets
@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_golden_and_three_engines_agree(shipway, assets: Path, tmp_path: Path, name: str) -> None:
    targets = ["onnxruntime", "openvino", "aotinductor"]
    project = write_project(tmp_path, assets, name, targets)
    done = shipway("deploy", project, "--output", tmp_path / "run", "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    assert_agreement(json.loads(done.stdout), len(targets))


@pytest.mark.assets
def test_golden_and_onnx_engines_agree(shipway, assets: Path, tmp_path: Path) -> None:
    targets = ["onnxruntime", "openvino"]
    project = write_project(tmp_path, assets, "squeezenet1_1", targets)
    done = shipway("deploy", project, "--output", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert_agreement(json.loads(done.stdout), len(targets))
