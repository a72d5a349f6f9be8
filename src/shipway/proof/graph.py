"""Proof of an edit: a graph before and after, side by side on hostile inputs at several sizes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shipway.compare.outputs import compare_outputs
from shipway.compare.results import Comparison, Coverage
from shipway.compare.verdict import Limits, limits_for
from shipway.engines.base import EngineOptions, Session
from shipway.engines.registry import find_engine
from shipway.errors import EngineError, ModelError, TensorError
from shipway.export.onnx_file import read_graph, read_specs
from shipway.export.portable import PortableModel
from shipway.export.sizes import dynamic_dims, example_sizes
from shipway.graph.rules import Kind
from shipway.progress import SILENT, Progress
from shipway.proof.graph_feeds import FILLS, find_ranges, hostile_feeds
from shipway.proof.graph_probe import probe_sizes
from shipway.proof.results import Proof, Trial
from shipway.proof.sizes import SizePlan, plan_sizes
from shipway.source.modelfiles import find_model_file, shown_path
from shipway.tensors import Tensors, TensorSpec

__all__ = ["prove_graphs", "run_at"]

_PRECISION = "f32"
_OPTIONS = EngineOptions(precision=_PRECISION, optimize=False)
_EXACT = Limits(1e-6, 1e-5, 1e-6, 1e-3)
"""An engine sums in another order where a weight has become a constant, whatever the edit was."""


def prove_graphs(
    before: Path,
    after: Path,
    *,
    kind: Kind = "reassociating",
    sizes: Sequence[Mapping[str, int]] | None = None,
    seed: int = 0,
    nonempty: bool = False,
    progress: Progress = SILENT,
) -> Proof:
    """Run two ONNX files on the same hostile inputs and compare every output.

    Both run in ONNX Runtime without optimisation, custom operators with their kernels. What the
    first file refuses (a size, a NaN) is noted and no failure; where only the second one fails,
    the proof fails.

    Args:
        before: The file that is right.
        after: The edited one.
        kind: What the edit promises: "exact" is held to 1e-6 of relative L2, for engines sum in
            another order where a weight becomes constant; others to the limits of float32.
            Integers, booleans and places of NaN and Inf are always exact.
        sizes: Sets of sizes of the dynamic dimensions. None takes a usual one, 1, larger ones,
            mixtures and 0, each as far as `before` takes it.
        seed: Of the first input set.
        nonempty: Leave out sizes of 0.
        progress: Told of every trial.

    Raises:
        ModelError: A file is absent or broken, or the two differ in their inputs or outputs.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: A file does not load, or `before` runs at no size.
    """
    golden_model, actual_model = _portable(before), _portable(after)
    _check_signature(golden_model, actual_model, after)
    with _session(golden_model) as golden, _session(actual_model) as actual:
        plan, specs = _plan(before, golden_model.inputs, golden, sizes, nonempty=nonempty)
        random = _random_outputs(golden, specs, plan.sets[0])
        notes = [
            *plan.notes,
            *(f"compared by shape only: {name}, which is random" for name in random),
        ]
        limits = _EXACT if kind == "exact" else limits_for(_PRECISION)
        progress.start("prove the graph", len(plan.sets) * len(FILLS))
        trials = []
        for index, one in enumerate(plan.sets):
            for fill, feeds in hostile_feeds(specs, one, seed + 100 * index):
                progress.advance()
                expected, why = _try(golden, feeds)
                if expected is None:
                    notes.append(
                        f"not tried: {fill} at {_named(one)}, which {before.name} refuses: {why}"
                    )
                    continue
                if empty := _without_finite(expected):
                    notes.append(
                        f"not judged: {fill} at {_named(one)}: '{empty}' has no finite element"
                    )
                    continue
                comparison = _compare(expected, actual, feeds, random, limits)
                trials.append(Trial(fill, dict(one), comparison))
    return Proof("graph", tuple(trials), tuple(dict.fromkeys(notes)))


def _portable(path: Path) -> PortableModel:
    path = find_model_file(path)
    inputs, outputs = read_specs(read_graph(path))
    # Exporters declare false sizes of outputs, which a session would hold a run to.
    anyhow = tuple(replace(spec, shape=None) for spec in outputs)
    return PortableModel(inputs, anyhow, onnx=path)


def _check_signature(golden: PortableModel, actual: PortableModel, path: Path) -> None:
    """Refuse models that cannot be compared: other names, dtypes, ranks, or a size that is fixed."""
    for what, expected, found in (
        ("inputs", golden.inputs, actual.inputs),
        ("outputs", golden.outputs, actual.outputs),
    ):
        if [(spec.name, spec.dtype) for spec in expected] != [
            (spec.name, spec.dtype) for spec in found
        ]:
            listed = [
                ", ".join(f"{one.name}:{one.dtype}" for one in side) for side in (expected, found)
            ]
            raise ModelError(
                f"{shown_path(path)} has the {what} {listed[1]}; before the edit they were {listed[0]}.",
                hint="A proof compares outputs by name: keep names and types of inputs and outputs.",
            )
    for old, new in zip(golden.inputs, actual.inputs, strict=True):
        fixed = _fixed_dims(old, new)
        if fixed:
            raise ModelError(
                f"{shown_path(path)} takes only {new} where {old} was taken: dimension {fixed[0]} "
                "is no longer dynamic.",
                hint="Keep dynamic dimensions dynamic, or prove the sizes that are left: --size.",
            )


def _fixed_dims(old: TensorSpec, new: TensorSpec) -> list[int]:
    if old.shape is None or new.shape is None:
        return []
    if len(old.shape) != len(new.shape):
        return [0]
    pairs = enumerate(zip(old.shape, new.shape, strict=True))
    return [axis for axis, (was, now) in pairs if isinstance(now, int) and was != now]


@contextlib.contextmanager
def _session(model: PortableModel) -> Iterator[Session]:
    engine = find_engine("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="shipway-proof-") as folder:
        lowered = engine.lower(model, Path(folder) / "lowered")
        artifact = engine.compile(lowered, _OPTIONS, Path(folder))
        with engine.load(artifact, _OPTIONS) as session:
            yield session


def _try(session: Session, feeds: Tensors) -> tuple[Tensors | None, str]:
    try:
        return session.run(feeds), ""
    except (EngineError, TensorError) as error:
        return None, str(error)


def run_at(
    path: Path, specs: Sequence[TensorSpec], sets: Sequence[Mapping[str, int]]
) -> Iterator[str]:
    """Yield for each set of sizes why a model does not run there, "" where it does."""
    with _session(_portable(path)) as session:
        for one in sets:
            _, feeds = next(hostile_feeds(specs, one, 0))
            yield _try(session, feeds)[1]


def _add_empty(plan: SizePlan, model: Path, specs: Sequence[TensorSpec]) -> None:
    """Add a set for each dynamic dimension in which it is 0, where the model runs there."""
    sets = [plan.sets[0] | {name: 0} for name in dynamic_dims(specs)]
    for one, why in zip(sets, probe_sizes(model, specs, sets) if sets else [], strict=True):
        if why:
            plan.notes.append(f"not tried: {_named(one)}, which the model before refuses: {why}")
        else:
            plan.sets.append(one)


def _plan(
    model: Path,
    specs: tuple[TensorSpec, ...],
    golden: Session,
    sizes: Sequence[Mapping[str, int]] | None,
    *,
    nonempty: bool,
) -> tuple[SizePlan, tuple[TensorSpec, ...]]:
    """Return the sizes to try, and the specs with ranges for indices."""
    usual = next(example_sizes(specs, {}))
    first = dict(sizes[0]) if sizes else usual
    specs = find_ranges(specs, first, lambda feeds: _try(golden, feeds)[1])

    def accepts(one: dict[str, int]) -> str:
        _, feeds = next(hostile_feeds(specs, one, 0))
        return _try(golden, feeds)[1]

    if sizes is not None:
        plan = SizePlan(lambda _: "")
        plan.sets = [dict(one) for one in sizes]
        return plan, specs
    plan = SizePlan(accepts)
    for example in example_sizes(specs, {}):
        plan = plan_sizes(example, {}, accepts)
        if plan.sets:
            break
    plan.notes = [note.replace("PyTorch", "the model before") for note in plan.notes]
    if not plan.sets:
        raise EngineError(
            f"The model runs at no size that was tried: {plan.notes[0]}.",
            hint=f"Give sizes it takes: {' '.join(f'--size {name}=64' for name in dynamic_dims(specs))}",
        )
    if not nonempty:
        _add_empty(plan, model, specs)
    return plan, specs


def _random_outputs(
    golden: Session, specs: Sequence[TensorSpec], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the outputs that differ when the same model runs twice on the same inputs."""
    _, feeds = next(hostile_feeds(specs, sizes, 7))
    first, second = _try(golden, feeds)[0], _try(golden, feeds)[0]
    if first is None or second is None:
        return ()
    return tuple(
        name
        for name, array in first.items()
        if array.tobytes() != second[name].tobytes() and array.shape == second[name].shape
    )


def _compare(
    expected: Tensors,
    actual: Session,
    feeds: Tensors,
    random: Sequence[str],
    limits: Limits,
) -> Comparison:
    found, why = _try(actual, feeds)
    if found is None:
        skipped = dict.fromkeys(expected, f"fails where the model before runs: {why}")
        return Comparison("before", "after", _PRECISION, (), Coverage(0, skipped))
    golden: dict[str, Any] = dict(expected)
    for name in random:
        if golden[name].shape == found[name].shape:
            found = {**found, name: golden[name]}
    return compare_outputs(
        golden,
        found,
        precision=_PRECISION,
        golden_name="before",
        actual_name="after",
        limits=limits if all(array.dtype != np.float16 for array in golden.values()) else None,
    )


def _without_finite(outputs: Tensors) -> str:
    """Return the name of a floating-point output that has elements, none of them finite."""
    for name, array in outputs.items():
        if array.dtype.kind == "f" and array.size and not np.isfinite(array).any():
            return name
    return ""


def _named(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "its sizes"
