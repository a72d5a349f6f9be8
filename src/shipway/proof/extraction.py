"""Proof of an extraction: the part computes what the whole model computes there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.engines.base import Session
from shipway.export.onnx_file import read_graph, read_specs
from shipway.export.portable import PortableModel
from shipway.graph.loading import load_graph
from shipway.graph.locating import locate_value
from shipway.graph.saving import save_graph
from shipway.progress import SILENT, Progress
from shipway.proof.graph import (
    Draws,
    find_differing,
    open_session,
    plan_trials,
    read_model,
    run_trials,
)
from shipway.proof.graph_feeds import hostile_feeds
from shipway.proof.results import Proof
from shipway.source.modelfiles import find_model_file
from shipway.tensors import Tensors, TensorSpec, bind_dims, dtype_named

__all__ = ["prove_extraction"]

Arrays = dict[str, NDArray[Any]]


def prove_extraction(
    whole: Path,
    part: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    nonempty: bool = False,
    progress: Progress = SILENT,
) -> Proof:
    """Run a model on hostile inputs, feed a part of it what flows into it there, compare its outputs.

    Both run in ONNX Runtime without optimisation. The sizes that the part declares of its inputs
    and outputs must hold too.

    Args:
        whole: The model.
        part: What was cut out of it; its inputs and outputs are values of the model.
        sizes: Numbers for dynamic dimensions of the model; only these are tried then.
        seed: Of the first input set.
        nonempty: Leave out sizes of 0.
        progress: Told of every trial.

    Raises:
        UsageError: The model has no value of the name of an input or output of the part.
        ModelError: A file is absent or broken.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: A file does not load, or `whole` runs at no size.
    """
    part = find_model_file(part)
    inputs, outputs = read_specs(read_graph(part))
    with tempfile.TemporaryDirectory(prefix="shipway-proof-") as folder:
        tapped = Path(folder) / whole.name
        constants = _save_tapped(whole, tapped, inputs, outputs)
        model = read_model(tapped)
        with (
            open_session(model) as session,
            open_session(PortableModel(inputs, outputs, onnx=part)) as actual,
        ):
            golden = _Whole(session, tuple(spec.name for spec in outputs))
            follower = _Part(actual, golden, constants)
            specs = bind_dims(model.inputs, sizes or {})
            plan, specs = plan_trials(tapped, specs, golden, None, nonempty=nonempty)
            draws = _find_draws(golden, follower, next(hostile_feeds(specs, plan.sets[0], 7))[1])
            trials, notes = run_trials(
                golden, follower, specs, plan, draws, seed=seed, progress=progress
            )
    return Proof("extraction", trials, notes)


def _save_tapped(
    whole: Path, target: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Arrays:
    """Write the model with the ends of the part as its outputs; return those that are weights.

    Raises:
        UsageError: The model has no value of the name of an end.
    """
    model = load_graph(whole)
    given, taps, constants = set(model.graph.inputs), dict[ir.Value, TensorSpec](), Arrays()
    for spec in (*outputs, *inputs):
        value = locate_value(model, spec.name)
        if value.producer() is not None or spec in outputs:
            taps[value] = spec
        elif value not in given and value.const_value is not None:
            constants[spec.name] = value.const_value.numpy()
    for value, spec in taps.items():
        if value.producer() is not None:
            value.type = ir.TensorType(ir.DataType(dtype_named(spec.dtype).onnx))
            value.shape = None
    model.graph.outputs[:] = taps
    save_graph(model, target)
    return constants


class _Whole:
    """The whole model; it keeps what its last run put out beside the outputs of the part."""

    def __init__(self, session: Session, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = outputs
        self.flow: Tensors = {}

    def run(self, feeds: Tensors, /) -> Tensors:
        found = self._session.run(feeds)
        self.flow = {**feeds, **found}
        return {name: found[name] for name in self._outputs}


class _Part:
    """The part, fed with what flowed through the whole model in its last run."""

    def __init__(self, session: Session, whole: _Whole, constants: Tensors) -> None:
        self._session = session
        self._whole = whole
        self._constants = constants

    def run(self, _feeds: Tensors, /) -> Tensors:
        flow = {**self._whole.flow, **self._constants}
        return self._session.run({spec.name: flow[spec.name] for spec in self._session.inputs})


def _find_draws(whole: _Whole, part: _Part, feeds: Tensors) -> Draws:
    """Return what is random inside the part: randomness before it is fed to it as it was drawn."""
    whole.run(feeds)
    return Draws(find_differing(part, feeds))
