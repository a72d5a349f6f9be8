"""One small model in both portable forms, and one compiled artifact an engine for all tests.

The model is made to be awkward, so that few compilations show much: four inputs of four kinds, four
outputs, names with spaces and slashes, a scalar in and a scalar out, a free batch size, and one
output that is an input unchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from shipway.artifact import Artifact
from shipway.engines.base import Engine, EngineOptions, Session
from shipway.engines.registry import engine_names, find_engine
from shipway.environment import usable_cores
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

INPUTS = ("images/in put", "ids", "mask", "scale")
OUTPUTS = ("log its/out", "same_ids", "flags", "doubled")
THREADS = 1

Compile = Callable[..., Artifact]
Open = Callable[..., Session]


class Awkward(nn.Module):
    """Convolution, embedding, boolean choice and a scalar; every sample depends on itself alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.table = nn.Embedding(7, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(8 * 4 * 4, 16)
        self.classes = nn.Linear(16, 5)

    def forward(self, images, ids, mask, scale):
        hidden = self.head(torch.tanh(self.stem(images)).flatten(1))
        hidden = hidden + images.mean((1, 2, 3))[:, None]
        hidden = self.norm(hidden + self.table(ids)) + hidden
        hidden = torch.where(mask[:, None], hidden, hidden * scale)
        return self.classes(hidden), ids, ~mask, scale * 2


@dataclass(frozen=True)
class Example:
    """The model as a module, in its portable forms, and with its feeds."""

    module: nn.Module
    portable: PortableModel

    def feeds(self, batch: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs."""
        generator = np.random.default_rng(seed)
        values = (
            generator.standard_normal((batch, 3, 8, 8)).astype(np.float32),
            generator.integers(0, 7, batch),
            generator.integers(0, 2, batch).astype(bool),
            np.asarray(generator.standard_normal(), np.float32),
        )
        return dict(zip(INPUTS, values, strict=True))

    def eager(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What PyTorch itself says."""
        with torch.no_grad():
            results = self.module(*(torch.tensor(feeds[name]) for name in INPUTS))
        return {name: value.numpy() for name, value in zip(OUTPUTS, results, strict=True)}


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The model, exported to .pt2 and to .onnx from the same program."""
    folder = tmp_path_factory.mktemp("portable model")
    torch.manual_seed(0)
    module = Awkward().eval()
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(
        module,
        (
            torch.randn(2, 3, 8, 8),
            torch.tensor([1, 2]),
            torch.tensor([True, False]),
            torch.ones(()),
        ),
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}, None),
    )
    torch.export.save(program, folder / "awk ward.pt2")
    torch.onnx.export(
        program, f=folder / "awk ward.onnx", input_names=INPUTS, output_names=OUTPUTS, verbose=False
    )
    inputs = (
        TensorSpec(INPUTS[0], "float32", ("batch", 3, 8, 8)),
        TensorSpec(INPUTS[1], "int64", ("batch",), (0, 6)),
        TensorSpec(INPUTS[2], "bool", ("batch",)),
        TensorSpec(INPUTS[3], "float32", ()),
    )
    outputs = (
        TensorSpec(OUTPUTS[0], "float32", ("batch", 5)),
        TensorSpec(OUTPUTS[1], "int64", ("batch",)),
        TensorSpec(OUTPUTS[2], "bool", ("batch",)),
        TensorSpec(OUTPUTS[3], "float32", ()),
    )
    portable = PortableModel(inputs, outputs, folder / "awk ward.onnx", folder / "awk ward.pt2")
    return Example(module, portable)


@pytest.fixture(scope="session", params=engine_names())
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every registered engine in turn; one whose runtime is absent is skipped, by name."""
    found = find_engine(request.param)
    available = found.probe()
    if not available.installed or available.why:
        pytest.skip(f"{request.param}: {available.why}; {available.install}")
    return found


@pytest.fixture(scope="session")
def compile_once(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile the model for an engine, once for each engine and set of options."""
    made: dict[tuple[str, str, int], Artifact] = {}

    def compile_for(engine: Engine, precision: str = "f32", threads: int = THREADS) -> Artifact:
        # Only AOTInductor compiles precision and threads in; the others take them when they load.
        baked = engine.name == "aotinductor"
        key = (engine.name, precision, threads) if baked else (engine.name, "f32", THREADS)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{engine.name} {precision}")
            made[key] = engine.compile(example.portable, EngineOptions(*key[1:]), folder)
        return made[key]

    return compile_for


@pytest.fixture(scope="session")
def open_session(compile_once: Compile) -> Open:
    """Load a compiled artifact; the caller closes it."""

    def open_for(engine: Engine, precision: str = "f32", threads: int = THREADS) -> Session:
        artifact = compile_once(engine, precision, threads)
        return engine.load(artifact, EngineOptions(precision, threads))

    return open_for


@pytest.fixture(scope="session")
def session(engine: Engine, open_session: Open):
    """A session of the engine in float32 with one thread, open for all tests."""
    with open_session(engine) as opened:
        yield opened


@pytest.fixture
def two_cores() -> None:
    """Skip where two threads would have to share one core: an engine may refuse them."""
    if usable_cores() < 2:
        pytest.skip("needs two usable cores")
