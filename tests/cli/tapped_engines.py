"""Two engines of the tests' own: one whose tensors can be read, and one whose cannot."""

# ruff: noqa: ARG002 -- an engine's methods have the arguments that the protocol gives them

import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from shipway.artifact import Artifact
from shipway.engines.base import Availability, BaseSession
from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.errors import EngineError
from shipway.tensors import Tensors, TensorSpec, check_feeds

STEPS = 12
INPUTS = (TensorSpec("x", "float32", ("n", 4)),)
OUTPUTS = (TensorSpec("y", "float32", ("n", 4)),)
TAPS = (
    Tap("x", 0, kind="input"),
    *(
        Tap(f"block/{step} out", step, "Mul" if step % 2 else "Add", names=(f"value_{step}",))
        for step in range(1, STEPS)
    ),
    Tap("y", STEPS, "Softmax", "output", module="head", source="net.py:18"),
)


class StepsSession:
    """Adds one, or doubles, step after step.

    Args:
        fail_at: Order of the tap at which the engine breaks down.
        strange_at: Order of the tap that comes as complex numbers.
        silent_at: Order of the tap that never comes.
        scale: What every value is multiplied with: another run gives other numbers.
    """

    def __init__(self, *, fail_at=-1, strange_at=-1, silent_at=-1, scale=1.0) -> None:
        self.inputs, self.outputs, self.taps = INPUTS, OUTPUTS, TAPS
        self.effective = {"precision": "f32", "threads": "1"}
        self.untapped = {"loop body": "it runs inside Loop", "other body": "it runs inside Loop"}
        self.check: TapCheck | None = None
        self.closed = False
        self.perturbed: dict[str, str] = {}
        self._odd = {fail_at: "fail", strange_at: "strange", silent_at: "silent"}
        self._scale = scale
        self.asked: list[Collection[str] | None] = []

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        check_feeds(self.inputs, feeds)
        self.asked.append(names)
        self.check = None
        value = feeds["x"]
        for tap in self.taps:
            odd = self._odd.get(tap.order)
            if odd == "fail":
                raise EngineError(f"The steps broke down at {tap.name}.")
            time.sleep(float(os.environ.get("STEPS_DELAY_S", "0")))
            if tap.order:
                value = np.float32(self._scale) * (value * 2 if tap.op == "Mul" else value + 1)
            if odd != "silent" and (names is None or tap.name in names):
                yield TappedTensor(tap, value.astype(np.complex64) if odd == "strange" else value)
        self.check = TapCheck(not self.perturbed, self.perturbed)

    def close(self) -> None:
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _PlainSession(BaseSession):
    def _run(self, feeds: Tensors):
        return {"y": np.zeros_like(feeds["x"])}


class PlainEngine:
    """Runs, and shows nothing of what is inside."""

    name = "plain"

    def probe(self) -> Availability:
        return Availability(installed=True, version="1")

    def check(self, model, options):
        return []

    def lower(self, model, folder: Path, *, inline: bool = False):
        return model

    def compile(self, model, options, folder: Path) -> Artifact:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"model.{self.name}.onnx"
        shutil.copyfile(model.onnx, path)
        made = {"options": options.to_json()}
        return Artifact(path, "onnx", self.name, model.inputs, model.outputs, made=made).save()

    def load(self, artifact, options):
        return _PlainSession(artifact.inputs, artifact.outputs, {"precision": "f32"})


class StepsEngine(PlainEngine):
    """Its tensors can be read."""

    name = "steps"

    def open_taps(self, artifact, options, *, max_bytes: int = 1 << 30) -> StepsSession:
        session = StepsSession(fail_at=int(os.environ.get("STEPS_FAIL_AT", "-1")))
        session.effective["max_bytes"] = str(max_bytes)
        return session
