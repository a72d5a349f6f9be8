"""Reading the tensors inside a package; and what is needed for that."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway.artifact import Artifact
from shipway.engines.aotinductor import AotInductorEngine
from shipway.engines.aotinductor.taps import _read_package, source_of
from shipway.engines.base import EngineOptions
from shipway.engines.tapping import Tappable
from shipway.errors import EngineError, ModelError, TensorError
from shipway.export.portable import PortableModel
from shipway.files import file_sha256
from shipway.tensors import TensorSpec, random_feeds

OPTIONS = EngineOptions(threads=1)


@pytest.fixture
def artifact(tmp_path):
    """An artifact that remembers its source."""
    source = tmp_path / "net.pt2"
    source.write_bytes(b"program")
    made = {"source": str(source), "source_sha256": file_sha256(source)}
    return Artifact(
        Path("net.aotinductor.pt2"), "aotinductor-package", "aotinductor", (), (), made=made
    )


def test_the_program_must_still_be_there_and_the_same(artifact):
    """It is compiled again: another one would show other tensors."""
    source = source_of(artifact)
    source.write_bytes(b"other")
    with pytest.raises(ModelError, match="changed since") as caught:
        source_of(artifact)
    assert caught.value.hint.startswith("Compile the program again: shipway compile")
    source.unlink()
    with pytest.raises(ModelError, match=r"net\.pt2 is not there"):
        source_of(artifact)


def test_a_package_without_its_text_is_a_torch_that_is_not_understood(tmp_path):
    """Also a file that is no package at all."""
    path = tmp_path / "p.pt2"
    for content in (b"", b"no zip"):
        path.write_bytes(content)
        with pytest.raises(EngineError, match="does not say which kernels"):
            _read_package(path)


class Net(torch.nn.Module):
    """A convolution, a normalisation, a product: fused kernels and operators outside of them."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.LayerNorm(64)
        self.head = torch.nn.Linear(64, 5)

    def forward(self, x, ids):
        hidden = self.norm(torch.relu(self.stem(x)).flatten(2))
        return self.head(hidden).softmax(-1), ids * 2 + 1, ids


def every_node(program, arrays):
    """What PyTorch computes at each node."""
    found = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node):
            found[node.name] = value = super().run_node(node)
            return value

    with torch.no_grad():
        tensors = list(map(torch.tensor, arrays))
        Recorder(program.module()).run(*tensors, enable_io_processing=False)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_tensors_of_a_small_net(tmp_path, precision):
    """Named after the nodes of the program, right, and the outputs those of the package bit for bit."""
    torch.manual_seed(0)
    module = Net().eval()
    example = torch.ones(2, 3, 8, 8), torch.arange(5)
    program = torch.export.export(module, example)
    torch.export.save(program, tmp_path / "m.pt2")
    inputs = TensorSpec("x in", "float32", (2, 3, 8, 8)), TensorSpec("ids", "int64", (5,))
    outputs = (
        TensorSpec("y/out", "float32", (2, 4, 5)),
        TensorSpec("twice", "int64", (5,)),
        TensorSpec("same", "int64", (5,)),
    )
    model = PortableModel(inputs, outputs, program=tmp_path / "m.pt2")
    engine, options = AotInductorEngine(), replace(OPTIONS, precision=precision)
    assert isinstance(engine, Tappable)
    built = engine.compile(model, options, tmp_path / "out")
    feeds = random_feeds(inputs)
    golden = every_node(program, [feeds[spec.name] for spec in inputs])
    with engine.open_taps(built, options) as session:
        values = {item.tap.name: item.value for item in session.stream(feeds)}
        assert session.check.identical
        assert not session.check.perturbed
        assert list(values) == [tap.name for tap in session.taps]
        named = {name: tap.name for tap in session.taps for name in tap.names if name in golden}
        assert {"conv2d", "layer_norm", "linear"} <= set(named)
        for name, tap in named.items():
            wide = golden[name].double().numpy().ravel()
            error = np.linalg.norm(values[tap].astype(np.float64).ravel() - wide)
            assert error <= {"f32": 1e-5, "bf16": 3e-2}[precision] * np.linalg.norm(wide), name
        norm = next(tap for tap in session.taps if "layer_norm" in tap.names)
        assert norm.covers == ("relu", "flatten")
        assert "layer_norm" in norm.op
        assert [tap.name for tap in session.taps if tap.kind == "output"][-1] == "same"
        with pytest.raises(TensorError, match="no tensor 'nothing'"):
            session.stream(feeds, ["nothing"])
        with pytest.raises(TensorError):
            session.stream({})
        assert [item.tap.name for item in session.stream(feeds, ["twice", norm.name])] == [
            norm.name,
            "twice",
        ]
        folder = session._package.parent
    assert not folder.exists()
    with pytest.raises(EngineError, match="closed"):
        session.stream(feeds)
