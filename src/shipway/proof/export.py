"""Proof of an export: PyTorch and ONNX Runtime side by side, on several inputs and sizes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway.artifact import load_artifact
from shipway.compare.outputs import compare_outputs
from shipway.compare.results import Comparison, Coverage
from shipway.errors import EngineError, ExportError, ModelError, TensorError
from shipway.export.portable import PortableModel
from shipway.export.sizes import Bounds, dynamic_dims, example_sizes
from shipway.files import write_json
from shipway.progress import SILENT, Progress
from shipway.proof.audit_results import AuditFinding
from shipway.proof.eager import EagerGolden
from shipway.proof.results import Proof, Trial
from shipway.proof.sessions import PRECISION, Runner, open_plainly
from shipway.proof.sizes import SizePlan, plan_sizes
from shipway.tensors import random_feeds

__all__ = ["prove_export", "save_proof"]


def prove_export(
    model: PortableModel,
    *,
    input_sets: int = 3,
    seed: int = 0,
    sizes: Sequence[Mapping[str, int]] | None = None,
    module: Any = None,
    original: Callable[[], Any] | None = None,
    progress: Progress = SILENT,
) -> Proof:
    """Run golden and the ONNX model on the same random inputs and compare every output.

    Both run in f32 without graph optimisation, so that a difference is the export's. A size at
    which ONNX Runtime fails and PyTorch does not, fails the proof. So does a dynamic dimension that
    is none any more: a size that the module takes and the exported program refuses, or an output
    whose declared shape is false.

    Args:
        model: What `export_model` returned.
        input_sets: Random input sets for each set of sizes.
        seed: Of the first input set; the others follow.
        sizes: Sets of sizes of the dynamic dimensions. None takes those of the export, the
            smallest and larger ones, each as far as PyTorch accepts it.
        module: The torch.nn.Module the model was exported from. It then is golden instead of the
            saved program; needed where torch.export refused it.
        original: Returns that module, None where there is none; asked where the saved program
            refuses a size.
        progress: Told of every trial.

    Raises:
        ExportError: There is no ONNX model, or nothing to compare it with.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: An engine does not load the model, or golden fails at sizes that were given.
    """
    if model.onnx is None:
        raise ExportError("There is no ONNX model to prove.", hint="Export one: shipway export.")
    name = "torch" if module is None else "torch (eager)"
    with _golden(model, module) as golden, open_plainly(model) as actual:
        plan = _plan(model, golden, sizes)
        progress.start("prove the export", len(plan.sets) * input_sets)
        trials = []
        for index, one in enumerate(plan.sets):
            for repeat in range(input_sets):
                number = seed + index * input_sets + repeat
                trials.append(_try(model, golden, actual, one, number, golden_name=name))
                progress.advance()
    findings: list[AuditFinding] = []
    notes = [*plan.notes, *_why_eager(model)]
    if sizes is None and dynamic_dims(model.inputs):
        # It imports ONNX, which a command does not do to show its help.
        from shipway.proof.survival import audit_export, find_lost_sizes

        if module is None and original is not None:
            findings += find_lost_sizes(model, plan.sets[0], plan.refused, original)
        found, more = audit_export(model, plan.sets, _bounds(model), progress)
        findings, notes = [*findings, *found], [*notes, *more]
    return Proof("export", tuple(trials), tuple(notes), tuple(findings))


def _why_eager(model: PortableModel) -> list[str]:
    """Say why there is no exported program: the line that loses a dimension, as a rule."""
    reason = str(_facts(model).get("program", ""))
    return [f"no exported program: {reason.removeprefix('none: ')}"] if reason else []


def _bounds(model: PortableModel) -> Bounds:
    return {name: (low, high) for name, (low, high) in _facts(model).get("bounds", {}).items()}


def save_proof(proof: Proof, path: Path) -> None:
    """Write a proof as JSON, atomically."""
    write_json(path, proof.to_json())


@contextlib.contextmanager
def _golden(model: PortableModel, module: Any) -> Iterator[Runner]:
    if module is not None:
        yield EagerGolden(module, model)
        return
    if model.program is None:
        reason = _facts(model).get("program", "none was saved")
        raise ExportError(
            f"{model.onnx} has no PyTorch program to be compared with: {reason}",
            hint="Prove it against the module itself: prove_export(model, module=module).",
        )
    with open_plainly(model, "torch") as session:
        yield session


def _facts(model: PortableModel) -> Mapping[str, Any]:
    """Return what the export noted; nothing for a model without a side-car."""
    if model.onnx is None:
        return {}
    try:
        return load_artifact(model.onnx, verify=False).made
    except ModelError:
        return {}


def _plan(
    model: PortableModel, golden: Runner, sizes: Sequence[Mapping[str, int]] | None
) -> SizePlan:
    def accepts(one: dict[str, int]) -> str:
        try:
            golden.run(random_feeds(model.inputs, seed=0, sizes=one))
        except (EngineError, TensorError) as error:
            return str(error)
        return ""

    if sizes is not None:
        plan = SizePlan(lambda _: "")
        plan.sets = [dict(one) for one in sizes]
        return plan
    facts = _facts(model)
    names = dynamic_dims(model.inputs)
    known = facts.get("example_sizes", {})
    bounds = _bounds(model)
    usual = next(example_sizes(model.inputs, bounds))
    plan = plan_sizes({name: known.get(name, usual[name]) for name in names}, bounds, accepts)
    if not plan.sets:
        raise EngineError(f"PyTorch does not run at the sizes of the export: {plan.notes[0]}.")
    for name in names:
        # Where all dimensions must not be small together, one sample alone would not be tried.
        plan.add(plan.sets[0] | {name: bounds.get(name, (1, None))[0]})
    return plan


def _try(
    model: PortableModel,
    golden: Runner,
    actual: Runner,
    sizes: Mapping[str, int],
    seed: int,
    *,
    golden_name: str,
) -> Trial:
    expected = golden.run(random_feeds(model.inputs, seed=seed, sizes=sizes))
    feeds = random_feeds(model.inputs, seed=seed, sizes=sizes)
    try:
        comparison = compare_outputs(
            expected,
            actual.run(feeds),
            precision=PRECISION,
            golden_name=golden_name,
            actual_name="onnxruntime",
        )
    except EngineError as error:
        skipped = dict.fromkeys(expected, f"onnxruntime fails where PyTorch runs: {error}")
        comparison = Comparison(golden_name, "onnxruntime", PRECISION, (), Coverage(0, skipped))
    return Trial(f"random, seed {seed}", dict(sizes), comparison)
