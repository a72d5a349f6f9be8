"""What an artifact must fit before its machine code is loaded; and, slowly, the compiler itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway.artifact import Artifact
from shipway.engines.aotinductor import AotInductorEngine
from shipway.engines.aotinductor.compiler import cpu_features
from shipway.engines.aotinductor.engine import _require_fit
from shipway.engines.base import EngineOptions
from shipway.errors import EngineError, EngineMissing, ModelError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

OPTIONS = EngineOptions(threads=1)
ARTIFACT = Artifact(
    Path("m.aotinductor.pt2"),
    "aotinductor-package",
    "aotinductor",
    (),
    (),
    made={"options": OPTIONS.to_json(), "threads": 1, "cpu_features": list(cpu_features())},
    versions={"torch": torch.__version__},
)


def test_an_artifact_made_here_fits():
    """Same torch, same processor, same options."""
    _require_fit(ARTIFACT, OPTIONS)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"versions": {"torch": "2.9.0"}}, OPTIONS, r"torch 2\.9\.0; this is torch"),
        ({"versions": {}}, OPTIONS, "torch an unknown version"),
        ({"cpu_features": ["amx9"]}, OPTIONS, "CPU with amx9, which this one lacks"),
        ({}, EngineOptions("bf16", threads=1), "computes in f32, not in bf16"),
        ({}, EngineOptions(threads=2), "compiled for 1 threads, not for 2"),
        ({}, EngineOptions(threads=1, extra={"max_autotune": "true"}), "other options"),
    ],
    ids=["torch", "no version", "cpu", "precision", "threads", "extra"],
)
def test_what_does_not_fit_is_refused_with_the_command_that_mends_it(change, options, said):
    """Machine code for another torch or CPU would crash; other options would not be honoured."""
    versions = change.pop("versions", ARTIFACT.versions)
    artifact = replace(ARTIFACT, versions=versions, made={**ARTIFACT.made, **change})
    with pytest.raises(EngineError, match=said) as caught:
        _require_fit(artifact, options)
    assert "shipway compile MODEL --engine aotinductor" in caught.value.hint


def portable(folder, module, args, kwargs=None, *, inputs, outputs, **options):
    program = torch.export.export(module.eval(), args, kwargs, **options)
    torch.export.save(program, folder / "m.pt2")
    return PortableModel(inputs, outputs, program=folder / "m.pt2")


@pytest.fixture
def doubling(tmp_path):
    """y = tanh(x) * 2 for any n."""

    class Doubling(torch.nn.Module):
        def forward(self, x):
            return torch.tanh(x) * 2

    spec = TensorSpec("x", "float32", ("n", 3)), TensorSpec("y", "float32", ("n", 3))
    dims = ({0: torch.export.Dim.DYNAMIC},)
    return portable(
        tmp_path,
        Doubling(),
        (torch.ones(2, 3),),
        inputs=spec[:1],
        outputs=spec[1:],
        dynamic_shapes=dims,
    )


def test_without_a_compiler_nothing_is_compiled_but_the_engine_is_there(
    doubling, tmp_path, monkeypatch
):
    """probe says what is missing, check finds it, compile raises; loading still works."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    engine = AotInductorEngine()
    available = engine.probe()
    assert available.installed
    assert "no C++ compiler" in available.why
    assert "apt-get" in available.install
    (finding,) = engine.check(doubling, OPTIONS)
    assert finding.severity == "error"
    with pytest.raises(EngineMissing):
        engine.compile(doubling, OPTIONS, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EngineOptions("f16", threads=1), "does not compute in f16"),
        (EngineOptions(threads=1, device="cuda"), "no device 'cuda'"),
        (EngineOptions(threads=1, optimize=False), "no switch that turns its optimisation off"),
    ],
)
def test_options_it_cannot_honour_are_refused_before_the_compiler_starts(
    doubling, tmp_path, options, said
):
    """In check and in compile."""
    engine = AotInductorEngine()
    (finding,) = engine.check(doubling, options)
    assert said in finding.message
    with pytest.raises(EngineError, match=said):
        engine.compile(doubling, options, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [("kill -9 $PPID", "compiler died .signal SIGKILL"), ("exit 1", "No working C.. compiler")],
    ids=["killed", "fails"],
)
def test_a_compiler_that_dies_takes_nothing_with_it(
    doubling, tmp_path, monkeypatch, capfd, script, said
):
    """An EngineError, an empty folder, and a silent terminal."""
    compiler = tmp_path / "bad-compiler"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(EngineError, match=said):
        AotInductorEngine().compile(doubling, OPTIONS, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_unknown_inductor_option_is_refused(doubling, tmp_path):
    """By its name."""
    options = EngineOptions(threads=1, extra={"no.such.option": "1"})
    with pytest.raises(EngineError, match=r"no\.such\.option"):
        AotInductorEngine().compile(doubling, options, tmp_path)


@pytest.mark.slow
def test_a_transposed_example_input_is_refused(tmp_path):
    """Kernels take its strides for granted and would read any other layout wrongly."""

    class Same(torch.nn.Module):
        def forward(self, x):
            return x + 1

    spec = TensorSpec("x", "float32", (3, 2)), TensorSpec("y", "float32", (3, 2))
    model = portable(tmp_path, Same(), (torch.ones(2, 3).t(),), inputs=spec[:1], outputs=spec[1:])
    with pytest.raises(ModelError, match="'x' that is not contiguous"):
        AotInductorEngine().compile(model, OPTIONS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_keywords_constants_state_and_nested_outputs(tmp_path, precision, capfd):
    """A signature with everything: by name in, in order out, caller's arrays untouched."""

    class Several(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((2, 3), 7.0))

        def forward(self, x, add=True, *, k):
            x.mul_(2)
            total = x + k if add else x - k
            return {"sum": total, "none": None, "three": 3, "own": (self.weight.t(), total)}

    inputs = (TensorSpec("x", "float32", ("n",)), TensorSpec("k", "float32", ("n",)))
    outputs = (
        TensorSpec("sum", "float32", ("n",)),
        TensorSpec("weight", "float32", (3, 2)),
        TensorSpec("again", "float32", ("n",)),
    )
    size = torch.export.Dim("n", max=8)
    model = portable(
        tmp_path,
        Several(),
        (torch.ones(2), True),
        {"k": torch.ones(2)},
        inputs=inputs,
        outputs=outputs,
        dynamic_shapes={"x": {0: size}, "add": None, "k": {0: size}},
    )
    options = EngineOptions(precision, threads=1)
    engine = AotInductorEngine()
    feeds = {"k": np.array([10, 20, 30], np.float32), "x": np.array([1, 2, 3], np.float32)}
    with engine.load(engine.compile(model, options, tmp_path / "out"), options) as session:
        for _ in range(2):
            result = session.run(feeds)
            np.testing.assert_array_equal(result["sum"], [12, 24, 36])
            np.testing.assert_array_equal(result["again"], [12, 24, 36])
            np.testing.assert_array_equal(result["weight"], np.full((3, 2), 7))
            for value in result.values():
                np.add(value, 100, out=value)
            np.testing.assert_array_equal(feeds["x"], [1, 2, 3])
    assert capfd.readouterr() == ("", "")
