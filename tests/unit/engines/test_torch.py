"""What is particular to PyTorch, the golden."""

import numpy as np
import pytest
import torch

from shipway.engines.base import EngineOptions
from shipway.engines.torch import TorchEngine
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

OPTIONS = EngineOptions(threads=1)


def portable(path, module, args, kwargs=None, *, inputs, outputs, **options):
    program = torch.export.export(module.eval(), args, kwargs, **options)
    torch.export.save(program, path)
    return PortableModel(inputs, outputs, program=path)


def open_session(model, folder):
    engine = TorchEngine()
    return engine.load(engine.compile(model, OPTIONS, folder), OPTIONS)


def test_keywords_constants_and_nested_outputs(tmp_path):
    """Feeds go in by name and position, whatever the signature; tensors come out in order."""

    class Several(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((2, 3), 7.0))

        def forward(self, x, add=True, *, k):
            return {"sum": x + k if add else x - k, "none": None, "own": (x, self.weight.t(), x)}

    inputs = (TensorSpec("x", "float32", (2,)), TensorSpec("k", "float32", (2,)))
    shapes = {"sum": (2,), "same": (2,), "weight": (3, 2), "again": (2,)}
    outputs = tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())
    model = portable(
        tmp_path / "m.pt2",
        Several(),
        (torch.ones(2), True),
        {"k": torch.ones(2)},
        inputs=inputs,
        outputs=outputs,
    )
    feeds = {"k": np.array([10, 20], np.float32), "x": np.array([1, 2], np.float32)}
    with open_session(model, tmp_path / "out") as session:
        first = session.run(feeds)
        np.testing.assert_array_equal(first["sum"], [11, 22])
        np.testing.assert_array_equal(first["weight"], np.full((3, 2), 7))
        for value in first.values():
            np.add(value, 100, out=value)
        np.testing.assert_array_equal(feeds["x"], [1, 2])
        np.testing.assert_array_equal(first["again"], [101, 102])
        np.testing.assert_array_equal(session.run(feeds)["weight"], np.full((3, 2), 7))


def test_a_program_that_writes_to_its_input_leaves_the_callers_array(tmp_path):
    """It works on a copy."""

    class Adds(torch.nn.Module):
        def forward(self, x):
            return x.add_(1) * 2

    spec = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    model = portable(
        tmp_path / "m.pt2", Adds(), (torch.ones(2),), inputs=spec[:1], outputs=spec[1:]
    )
    feeds = {"x": np.array([1, 2], np.float32)}
    with open_session(model, tmp_path / "out") as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.run(feeds)["y"], [4, 6])
    np.testing.assert_array_equal(feeds["x"], [1, 2])


def test_state_between_runs_is_warned_of(tmp_path):
    """A counter in a buffer makes every run depend on those before."""

    class Counts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    spec = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    path = tmp_path / "m.pt2"
    model = portable(path, Counts(), (torch.ones(2),), inputs=spec[:1], outputs=spec[1:])
    torch.export.save(torch.export.load(path).run_decompositions({}), path)
    (finding,) = TorchEngine().check(model, OPTIONS)
    assert finding.severity == "warning"
    assert "'calls'" in finding.message


def test_precision_names_the_dtypes_of_the_weights(tmp_path):
    """A float64 model is computed in float64, and effective says so."""
    spec = TensorSpec("x", "float64", (1, 2)), TensorSpec("y", "float64", (1, 2))
    module = torch.nn.Linear(2, 2).double()
    example = (torch.ones(1, 2, dtype=torch.float64),)
    model = portable(tmp_path / "m.pt2", module, example, inputs=spec[:1], outputs=spec[1:])
    with open_session(model, tmp_path / "out") as session:
        assert session.effective["precision"] == "f64"
        assert session.run({"x": np.ones((1, 2))})["y"].dtype == np.float64


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EngineOptions("bf16"), "does not compute in bf16"),
        (EngineOptions(device="cuda"), "no device 'cuda'"),
        (EngineOptions(extra={"fast": "1"}), "no option fast"),
    ],
)
def test_the_golden_takes_no_shortcuts(tmp_path, options, said):
    """Neither precision nor device nor options: golden is one thing."""
    model = PortableModel((), (), program=tmp_path / "m.pt2")
    with pytest.raises(EngineError, match=said):
        TorchEngine().compile(model, options, tmp_path)
    (finding,) = TorchEngine().check(model, options)
    assert said in finding.message
