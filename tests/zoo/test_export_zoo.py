"""Trained ImageNet classifiers: exported with a dynamic batch, mapped whole, proved."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from shipway.export.model import export_model
from shipway.export.name_map import read_name_map
from shipway.export.options import ExportOptions
from shipway.proof.export import prove_export
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec

NETS = [
    "mobilenet_v1_025",
    pytest.param("squeezenet1_1", marks=pytest.mark.slow),
    pytest.param("mobilenet_v2_dequant", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def load_net(assets):
    """Load one of the nets of the assets by name."""
    folder = assets / "torch"
    spec = importlib.util.spec_from_file_location("imagenet_nets", folder / "imagenet_nets.py")
    nets = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = nets
    spec.loader.exec_module(nets)
    yield lambda name: nets.load(name, folder)[0]
    del sys.modules[spec.name]


@pytest.mark.assets
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(),
        pytest.param(ExportOptions(fold=False), marks=pytest.mark.slow),
        pytest.param(ExportOptions(opset=11, legacy=True), marks=pytest.mark.slow),
    ],
    ids=["folded", "plain", "legacy-11"],
)
def test_a_trained_net_is_exported_mapped_and_proved(name, options, load_net, tmp_path):
    """Every tensor of the program is accounted for, and batches of any size give PyTorch's numbers."""
    inputs = (parse_spec("image:f32[batch,3,224,224]"),)
    source = LoadedSource("module", f"imagenet_nets.py:{name}", inputs, (), module=load_net(name))
    model = export_model(source, tmp_path, name=name, options=options)
    name_map = read_name_map(model.name_map)
    if not options.legacy:
        assert name_map.coverage == 1.0
        assert all(entry.confirmed for entry in name_map.tensors)
    assert str(model.outputs[0]) == "output:float32[batch,1000]"
    proof = prove_export(model, input_sets=1)
    assert proof.passed
    assert proof.worst_relative_l2 <= 1e-5
    assert [trial.sizes["batch"] for trial in proof.trials] == [4, 1, 8]
