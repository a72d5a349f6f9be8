"""Proof of an edit: a graph before and after, side by side on hostile inputs at several sizes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.outputs import compare_outputs
from shipway.compare.results import Comparison, Coverage
from shipway.compare.verdict import Limits, limits_for
from shipway.engines.base import EngineOptions, Session
from shipway.engines.onnxfile import require_onnx
from shipway.engines.registry import find_engine
from shipway.errors import EngineError, TensorError
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.export.sizes import dynamic_dims, example_sizes, long_sizes
from shipway.graph.loading import load_graph, read_outline
from shipway.graph.pieces import cut_pieces, weights_bytes
from shipway.graph.rules import Kind
from shipway.progress import SILENT, Progress
from shipway.proof.graph_feeds import FILLS, NAN_FILL, find_ranges, hostile_feeds
from shipway.proof.graph_probe import probe_sizes
from shipway.proof.graph_signature import check_dynamic, check_names
from shipway.proof.piecewise import PiecewiseSession
from shipway.proof.results import Proof, Trial
from shipway.proof.sessions import PRECISION, Runner, open_plainly
from shipway.proof.sizes import SizePlan, plan_sizes
from shipway.source.modelfiles import find_model_file
from shipway.tensors import Tensors, TensorSpec, dtype_named

__all__ = [
    "Draws",
    "find_differing",
    "open_model",
    "open_session",
    "pieces_notes",
    "plan_trials",
    "prove_graphs",
    "read_model",
    "run_at",
    "run_trials",
]

_LEAN = EngineOptions(
    precision=PRECISION, optimize=False, extra={"session.disable_prepacking": "1"}
)
_WHOLE_BYTES = 512 * 2**20
"""Weights up to which a model runs as a whole; larger ones run in pieces, within bounded memory."""
_PIECE_BYTES = 128 * 2**20
_BEFORE = "the model before"
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
    finite: bool = False,
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
        sizes: Sets of sizes of the dynamic dimensions; a dimension may be fixed to them. None takes
            a usual one, 1, larger ones, mixtures and 0, each as far as `before` takes it.
        seed: Of the first input set.
        nonempty: Leave out sizes of 0.
        finite: Leave out inputs with a NaN.
        progress: Told of every trial.

    Raises:
        ModelError: A file is absent or broken, or the two differ in their inputs or outputs.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: A file does not load, or `before` runs at no size.
    """
    golden_model, actual_model = read_model(before), read_model(after)
    check_names(golden_model, actual_model, after)
    if sizes is None:
        check_dynamic(golden_model, actual_model, after)
    with open_session(golden_model) as golden, open_session(actual_model) as actual:
        plan, specs = plan_trials(before, golden_model.inputs, golden, sizes, nonempty=nonempty)
        draws = Draws.find(golden, actual, specs, plan.sets[0])
        limits = _EXACT if kind == "exact" else limits_for(PRECISION)
        plan.left_out = (NAN_FILL,) if finite else ()
        trials, notes = run_trials(golden, actual, specs, plan, draws, limits, seed, progress)
        notes = (*notes, *pieces_notes(golden, actual))
    return Proof("graph", trials, notes)


def run_trials(
    golden: Runner,
    actual: Runner,
    specs: Sequence[TensorSpec],
    plan: SizePlan,
    draws: Draws,
    limits: Limits = _EXACT,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """Run both sides on hostile inputs at every size of a plan.

    Args:
        golden: What is right.
        actual: What is proved.
        specs: The inputs of both, with ranges.
        plan: The sizes.
        draws: The outputs that are random.
        limits: What the outputs are held to.
        seed: Of the first input set.
        progress: Told of every trial.

    Returns:
        The trials, and notes on what was not tried.
    """
    trials, notes = [], [*plan.notes, *draws.notes(), *_left_out(plan.left_out, specs)]
    progress.start("prove the graph", len(plan.sets) * len(FILLS))
    for index, one in enumerate(plan.sets):
        for fill, feeds in hostile_feeds(specs, one, seed + 100 * index):
            progress.advance()
            if fill in plan.left_out:
                continue
            expected, why = _try(golden, feeds)
            if expected is None:
                notes.append(f"not tried: {fill} at {_named(one)}, which {_BEFORE} refuses: {why}")
                continue
            comparison = _compare(expected, actual, feeds, draws, limits)
            if comparison is None:
                notes.append(f"equal, with nothing finite to measure: {fill} at {_named(one)}")
            else:
                trials.append(Trial(fill, dict(one), comparison))
    return tuple(trials), tuple(dict.fromkeys(notes))


def _left_out(fills: Collection[str], specs: Sequence[TensorSpec]) -> list[str]:
    """Say what is not tried because the edit holds only without it."""
    if not any(dtype_named(spec.dtype).is_float for spec in specs):
        return []
    return [f"not tried: {fill}, which the edit takes for granted there is not" for fill in fills]


def read_model(path: Path) -> PortableModel:
    """Return an ONNX file with its specs, those of outputs without sizes.

    Raises:
        ModelError: The file is absent or broken.
    """
    path = find_model_file(path)
    inputs, outputs = read_specs(read_outline(path))
    # Exporters declare false sizes of outputs, which a session would hold a run to.
    anyhow = tuple(replace(spec, shape=None) for spec in outputs)
    return PortableModel(inputs, anyhow, onnx=path)


@contextlib.contextmanager
def open_model(path: Path) -> Iterator[Session]:
    """Open a model in ONNX Runtime, without optimisation; a large one in pieces.

    Args:
        path: The .onnx file. What it declares of the shapes of its outputs is not trusted.

    Raises:
        ModelError: The file is absent or broken.
        EngineError: It does not load.
    """
    with open_session(read_model(path)) as session:
        yield session


@contextlib.contextmanager
def open_session(model: PortableModel, *, in_pieces: bool = False) -> Iterator[Session]:
    """Yield a session of ONNX Runtime with optimisation off; a large model runs in pieces.

    Args:
        model: The model.
        in_pieces: Run a small one in pieces too.
    """
    whole = load_graph(require_onnx(model, "ONNX Runtime"))
    if not in_pieces and weights_bytes(whole) <= _WHOLE_BYTES:
        with open_plainly(model) as session:
            yield session
        return
    pieces, engine = cut_pieces(whole, _PIECE_BYTES), find_engine("onnxruntime")
    with (
        tempfile.TemporaryDirectory(prefix="shipway-proof-") as folder,
        PiecewiseSession(model, whole, pieces, engine, _LEAN, Path(folder)) as pieced,
    ):
        yield pieced


def _try(session: Runner, feeds: Tensors) -> tuple[Tensors | None, str]:
    try:
        return session.run(feeds), ""
    except (EngineError, TensorError) as error:
        return None, str(error)


def run_at(
    path: Path, specs: Sequence[TensorSpec], sets: Sequence[Mapping[str, int]]
) -> Iterator[str]:
    """Yield for each set of sizes why a model does not run there, "" where it does."""
    with open_model(path) as session:
        for one in sets:
            _, feeds = next(hostile_feeds(specs, one, 0))
            yield _try(session, feeds)[1]


def _add_empty(plan: SizePlan, model: Path, specs: Sequence[TensorSpec]) -> None:
    """Add a set for each dynamic dimension in which it is 0, where the model runs there."""
    sets = [plan.sets[0] | {name: 0} for name in dynamic_dims(specs)]
    for one, why in zip(sets, probe_sizes(model, specs, sets) if sets else [], strict=True):
        if why:
            plan.notes.append(f"not tried: {_named(one)}, which {_BEFORE} refuses: {why}")
        else:
            plan.sets.append(one)


def plan_trials(
    model: Path,
    specs: tuple[TensorSpec, ...],
    golden: Runner,
    sizes: Sequence[Mapping[str, int]] | None,
    *,
    nonempty: bool,
) -> tuple[SizePlan, tuple[TensorSpec, ...]]:
    """Return the sizes to try, and the specs with ranges for indices.

    Args:
        model: The file.
        specs: Its inputs.
        golden: A session on it.
        sizes: Sets of sizes; None chooses some.
        nonempty: Leave out sizes of 0.

    Raises:
        EngineError: The model runs at no size.
    """
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
    plan = SizePlan(accepts, _BEFORE)
    for example in (*example_sizes(specs, {}), *long_sizes(specs)):
        plan = plan_sizes(example, {}, accepts, _BEFORE)
        if plan.sets:
            break
    if not plan.sets:
        raise EngineError(
            f"The model runs at no size that was tried: {plan.notes[0]}.",
            hint=f"Give sizes it takes: {' '.join(f'--size {name}=64' for name in dynamic_dims(specs))}",
        )
    if not nonempty:
        _add_empty(plan, model, specs)
    return plan, specs


@dataclass(frozen=True, slots=True)
class Draws:
    """Outputs that differ when one model runs twice on the same inputs.

    Args:
        random: Those of the model before.
        settled: Those among them that no longer differ after the edit.
    """

    random: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()

    @classmethod
    def find(
        cls,
        golden: Session,
        actual: Session,
        specs: Sequence[TensorSpec],
        sizes: Mapping[str, int],
    ) -> Draws:
        """Run each model twice."""
        _, feeds = next(hostile_feeds(specs, sizes, 7))
        random = find_differing(golden, feeds)
        still = find_differing(actual, feeds) if random else ()
        return cls(random, tuple(name for name in random if name not in still))

    def notes(self) -> list[str]:
        """Say which outputs are compared by shape only."""
        return [f"compared by shape only: {name}, which is random" for name in self.random]


def find_differing(session: Runner, feeds: Tensors) -> tuple[str, ...]:
    """Return the outputs that differ when a session runs twice on the same inputs."""
    first, second = _try(session, feeds)[0], _try(session, feeds)[0]
    if first is None or second is None:
        return ()
    return tuple(name for name, array in first.items() if array.tobytes() != second[name].tobytes())


def _compare(
    expected: Tensors, actual: Runner, feeds: Tensors, draws: Draws, limits: Limits
) -> Comparison | None:
    """Compare what both compute; None where all of it is NaN or infinite, at the same places."""
    found, why = _try(actual, feeds)
    if found is None:
        skipped = dict.fromkeys(expected, f"fails where {_BEFORE} runs: {why}")
        return Comparison("before", "after", PRECISION, (), Coverage(0, skipped))
    if draws.settled:
        reason = "was random before, and is the same in each run now"
        skipped = dict.fromkeys(draws.settled, reason)
        return Comparison("before", "after", PRECISION, (), Coverage(0, skipped))
    golden: dict[str, NDArray[Any]] = {
        name: array
        for name, array in expected.items()
        # Between NaNs and infinities that are all where they were there is no error to measure.
        if not (_has_no_finite(array) and np.array_equal(array, found[name], equal_nan=True))
    }
    if not golden:
        return None
    drawn = {name for name in draws.random if name in golden}
    same_shape = {name for name in drawn if golden[name].shape == found[name].shape}
    found = {name: golden[name] if name in same_shape else found[name] for name in golden}
    return compare_outputs(
        golden,
        found,
        precision=PRECISION,
        golden_name="before",
        actual_name="after",
        limits=limits if all(array.dtype != np.float16 for array in golden.values()) else None,
    )


def _has_no_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.size > 0 and not np.isfinite(array).any()


def pieces_notes(golden: Session, actual: Session) -> list[str]:
    """Say which side ran in pieces."""
    sides = {_BEFORE: golden, "the one after": actual}
    pieces = {side: session.effective.get("pieces") for side, session in sides.items()}
    return [
        f"{side} ran in {count} pieces, for its weights are larger than {_WHOLE_BYTES >> 20} MiB"
        for side, count in pieces.items()
        if count
    ]


def _named(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "its sizes"
