"""Reading every tensor of a program while it runs."""

import numpy as np
import pytest
import torch
from torch import nn

from shipway.engines.base import EngineOptions
from shipway.engines.tapping import Tappable
from shipway.engines.torch import TorchEngine
from shipway.errors import EngineError, TensorError, UsageError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

OPTIONS = EngineOptions(threads=1)
INPUTS = (TensorSpec("image", "float32", (1, 3, 6, 6)),)
OUTPUTS = (TensorSpec("logits", "float32", (1, 2)), TensorSpec("noise", "float32", (1, 2)))


class Net(nn.Module):
    """A convolution with batch norm and an activation in place, and an output that is drawn."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 2)

    def forward(self, image):
        logits = self.head(self.act(self.bn(self.conv(image))).mean((2, 3)))
        return logits, torch.rand_like(logits)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    torch.manual_seed(0)
    program = torch.export.export(Net().eval(), (torch.randn(1, 3, 6, 6),))
    torch.export.save(program, folder / "net.pt2")
    model = PortableModel(INPUTS, OUTPUTS, program=folder / "net.pt2")
    return TorchEngine().compile(model, OPTIONS, folder / "out")


@pytest.fixture
def session(artifact):
    with TorchEngine().open_taps(artifact, OPTIONS) as opened:
        yield opened


FEEDS = {"image": np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)}


def test_every_tensor_comes_in_order_and_changes_nothing(session):
    """Inputs first, outputs where they are computed; the outputs are those of a plain run."""
    assert isinstance(TorchEngine(), Tappable)
    assert session.check is None
    read = list(session.stream(FEEDS))
    assert tuple(item.tap for item in read) == session.taps
    assert [item.tap.order for item in read] == list(range(len(read)))
    assert read[0].tap.kind == "input"
    np.testing.assert_array_equal(read[0].value, FEEDS["image"])
    assert session.check.identical
    assert session.check.perturbed == {}
    by_op = {item.tap.op: item.value for item in read}
    before, after = by_op["aten.batch_norm.default"], by_op["aten.relu_.default"]
    np.testing.assert_array_equal(np.maximum(before, 0), after)
    assert (before < 0).any()  # it was copied before the activation wrote over it


def test_the_arrays_belong_to_the_receiver(session):
    """Writing into one changes no other, and no later run."""
    first = {}
    for item in session.stream(FEEDS):
        first[item.tap.name] = item.value.copy()
        item.value[...] = 7
    for item in session.stream(FEEDS):
        np.testing.assert_array_equal(item.value, first[item.tap.name])
    assert session.check.identical


def test_names_choose(session):
    """Only those come, and the outputs are checked all the same."""
    (name,) = (tap.name for tap in session.taps if tap.op == "aten.conv2d.default")
    (item,) = session.stream(FEEDS, [name])
    assert (item.tap.module, item.tap.module_class) == (
        "conv",
        "torch.nn.modules.conv.Conv2d",
    )
    assert session.check.identical
    assert list(session.stream(FEEDS, [])) == []
    with pytest.raises(UsageError, match="no tensor 'conv3'"):
        list(session.stream(FEEDS, ["conv3"]))


def test_a_run_that_differs_from_the_plain_one_is_said_to(session, monkeypatch):
    """The check compares bits: here with a plain run that has another weight."""
    plain = session._session.run

    def run(feeds):
        outputs = plain(feeds)
        outputs["logits"] = np.nextafter(outputs["logits"], np.float32(9))
        return outputs

    monkeypatch.setattr(session._session, "run", run)
    count = len(list(session.stream(FEEDS)))
    assert not session.check.identical
    assert len(session.check.perturbed) == count - 1
    assert set(session.check.perturbed.values()) == {
        "outputs differ from those of the plain run: logits"
    }


def test_an_unfinished_stream_has_no_check(session):
    """Nobody has seen the outputs yet."""
    list(session.stream(FEEDS))
    stream = session.stream(FEEDS)
    next(stream)
    assert session.check is None
    stream.close()
    assert session.check is None


def test_feeds_and_closed_sessions_are_refused(artifact):
    """As in a plain session."""
    session = TorchEngine().open_taps(artifact, OPTIONS)
    with pytest.raises(TensorError, match="image"):
        list(session.stream({"image": FEEDS["image"][:, :2]}))
    session.close()
    with pytest.raises(EngineError, match="closed"):
        list(session.stream(FEEDS))


def test_other_sessions_run_between_two_tensors(artifact, session):
    """Nothing of torch's settings is held while the receiver is at work, not even the gate."""
    with TorchEngine().load(artifact, EngineOptions(threads=2)) as other:
        for _ in session.stream(FEEDS):
            assert not torch.is_inference_mode_enabled()
            other.run(FEEDS)
    assert session.check.identical


def test_a_program_that_counts_its_runs_is_read_from_its_exported_state(tmp_path):
    """Every stream is the first run, and is checked against a first run."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    torch.export.save(torch.export.export(Counts(), (torch.ones(2),)), tmp_path / "net.pt2")
    spec = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    model = PortableModel(spec[:1], spec[1:], program=tmp_path / "net.pt2")
    artifact = TorchEngine().compile(model, OPTIONS, tmp_path / "out")
    with TorchEngine().open_taps(artifact, OPTIONS) as session:
        for _ in range(2):
            (last,) = session.stream({"x": np.full(2, 3, np.float32)}, ["mul"])
            np.testing.assert_array_equal(last.value, [3, 3])
            assert session.check.identical
