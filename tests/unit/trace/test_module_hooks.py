"""What the modules of a model return, whether it exports or not."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from shipway.errors import EngineError, TensorError, UsageError
from shipway.source.loading import SourceRequest, load_source
from shipway.tensors import TensorSpec, parse_spec
from shipway.trace.module_hooks import ModuleSession, open_modules


class Loops(nn.Module):
    """Does not export: the number of steps depends on the data. Its cell is called again and again."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        self.cell = nn.GRUCell(4, 4)
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, *, scale):
        self.calls += 1
        x = self.stem(x) * scale
        state = torch.zeros_like(x)
        for _ in range(int(x.abs().sum().item()) % 3 + 2):
            state = self.cell(x, state)
        sequence, _ = self.lstm(state[:, None])
        return {"state": state, "sequence": [sequence, None], "noise": torch.rand(2)}


@dataclass
class Call:
    """Inputs of a module, and how they are passed."""

    specs: tuple[TensorSpec, ...]

    def arguments(self, values):
        return (values["x"],), {"scale": values["scale"]}


CALL = Call((TensorSpec("x", "float32", (2, 4)), TensorSpec("scale", "float32", ())))
FEEDS = {
    "x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32),
    "scale": np.float32(2).reshape(()),
}


def session_of(module=None, **options):
    torch.manual_seed(0)
    return ModuleSession((module or Loops()).eval(), CALL, FEEDS, **options)


def test_every_module_hands_on_what_it_returns():
    """By path; again with a number; the parts of tuples and dicts behind a dot."""
    with session_of() as session:
        read = {item.tap.name: item for item in session.stream(FEEDS)}
    names = list(read)
    assert names[:5] == ["input.x", "input.scale", "stem.0", "stem.1", "stem"]
    cells = [name for name in names if name.startswith("cell")]
    assert cells == ["cell", "cell#2", "cell#3", "cell#4"][: len(cells)]
    assert len(cells) >= 2
    assert names[-6:] == [
        "lstm.0", "lstm.1.0", "lstm.1.1", "Loops.state", "Loops.sequence.0", "Loops.noise",
    ]  # fmt: skip
    assert tuple(names) == tuple(tap.name for tap in session.taps)
    assert [item.tap.order for item in read.values()] == list(range(len(read)))
    assert {item.tap.kind for item in list(read.values())[-3:]} == {"output"}
    assert session.check.identical
    tap = read["lstm.0"].tap
    assert (tap.op, tap.module, tap.module_class) == ("torch.nn.modules.rnn.LSTM", "lstm", "LSTM")
    assert tap.source.startswith("test_module_hooks.py:")
    assert tap.code == "sequence, _ = self.lstm(state[:, None])"
    np.testing.assert_array_equal(np.maximum(read["stem.0"].value, 0), read["stem.1"].value)
    assert (read["stem.0"].value < 0).any()  # copied before the activation wrote over it


def test_operators_are_read_in_eager_names():
    """With the module that called them, and the line."""
    with session_of(level="operator") as session:
        read = {item.tap.name: item for item in session.stream(FEEDS)}
    linear = read["stem.0/aten.addmm.default#1"]
    assert (linear.tap.op, linear.tap.module) == ("aten.addmm.default", "stem.0")
    assert linear.tap.code == "x = self.stem(x) * scale"
    assert read["Loops/aten.mul.Tensor#1"].tap.module == ""
    assert not any(".t.default" in name for name in read)  # views of weights
    assert "Loops.state" in read
    assert session.check.identical


def test_the_model_is_left_as_it_was():
    """Its counter, its hooks, torch's random numbers."""
    module = Loops()
    with session_of(module) as session:
        state = torch.get_rng_state()
        list(session.stream(FEEDS))
        assert torch.equal(torch.get_rng_state(), state)
    assert module.calls == 0
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks


def test_names_choose_and_a_stream_may_be_left():
    """The model's thread ends when nobody listens."""
    import threading

    with session_of() as session:
        (only,) = session.stream(FEEDS, ["stem"])
        assert only.tap.name == "stem"
        assert session.check.identical
        stream = session.stream(FEEDS)
        next(stream)
        stream.close()
        assert session.check is None
        with pytest.raises(UsageError, match="no tensor 'stam'"):
            list(session.stream(FEEDS, ["stam"]))
    assert not any(thread.name == "shipway-modules" for thread in threading.enumerate())
    with pytest.raises(EngineError, match="closed"):
        list(session.stream(FEEDS))


def test_a_model_that_changes_from_run_to_run_is_said_to():
    """Not by its random numbers, which are seeded, but by what it keeps outside its buffers."""

    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.runs = 0

        def forward(self, x, *, scale):
            self.runs += 1
            return x * self.runs + scale

    with session_of(Remembers()) as session:
        list(session.stream(FEEDS))
    assert not session.check.identical
    assert set(session.check.perturbed) == {"Remembers"}


def test_what_a_module_returns_besides_tensors_is_listed():
    """It is not there, and the session says why."""

    class Counts(nn.Module):
        def forward(self, x):
            return len(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = Counts()

        def forward(self, x, *, scale):
            return x * self.count(x) * scale

    with session_of(Outer()) as session:
        assert session.untapped == {"count": "returns no tensor: int"}


def test_failures_are_errors():
    """Of the model, of the feeds; an error in the middle of a stream comes out of it."""

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x, *, scale):
            y = self.inner(x)
            if scale > 5:
                raise ValueError("too much")
            return y

    with session_of(Fails()) as session:
        with pytest.raises(EngineError, match="The model failed: too much"):
            list(session.stream({**FEEDS, "scale": np.float32(9).reshape(())}))
        with pytest.raises(TensorError, match="scale"):
            list(session.stream({"x": FEEDS["x"]}))
        assert len(list(session.stream(FEEDS))) == 4


def test_a_source_is_opened_by_its_input_specs(tmp_path):
    """As `shipway trace` would name it; what is no module is refused."""
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())\n"
    )
    request = SourceRequest(f"{path}:make", inputs=(parse_spec("x:[batch,2]"),))
    source = load_source(request)
    with open_modules(source) as session:
        feeds = {"x": np.ones((4, 2), np.float32)}
        read = {item.tap.name: item.value for item in session.stream(feeds)}
    assert list(read) == ["input.input", "0", "1", "Sequential"]
    np.testing.assert_array_equal(np.tanh(read["0"]).shape, (4, 3))
    other = replace(source, kind="onnx", module=None, onnx=tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="no PyTorch module"):
        open_modules(other)
