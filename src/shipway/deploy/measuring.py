"""The stages that measure: outputs against golden, accuracy, speed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from shipway.bench.feeds import batch_feeds, check_batch
from shipway.bench.measure import bench_sessions
from shipway.compare.sessions import compare_sessions
from shipway.deploy import commands
from shipway.deploy.journey import Journey
from shipway.deploy.project import DataSection, Project
from shipway.engines.target import Target
from shipway.evaluate.accuracy import load_predictions
from shipway.evaluate.dataset import Dataset
from shipway.evaluate.feeds import sample_feeds
from shipway.evaluate.run import EvaluateOptions, evaluate_session
from shipway.export.portable import PortableModel
from shipway.files import write_json
from shipway.tensors import Tensors, random_feeds

__all__ = ["bench_targets", "check_batches", "compare_target", "evaluate_target"]

_PREDICTIONS = "predictions.npz"


def compare_target(journey: Journey, target: Target, dataset: Dataset | None) -> None:
    """Compare the outputs of `target` with golden's, on random inputs and on real samples."""
    project = journey.project
    section = project.compare
    name = f"compare-{target.slug}"
    sizes = _sizes(journey.model, project)

    def work(folder: Path) -> None:
        feeds: list[Tensors] = [
            random_feeds(journey.model.inputs, seed=section.seed + index, sizes=sizes)
            for index in range(section.input_sets)
        ]
        if dataset is not None:
            feeds += sample_feeds(journey.model.inputs, dataset, section.samples)
        with journey.load(journey.golden) as golden, journey.load(target) as actual:
            comparison = compare_sessions(
                golden,
                actual,
                feeds,
                precision=target.precision,
                golden_name=str(journey.golden),
                actual_name=str(target),
                progress=journey.progress,
            )
        write_json(folder / "comparison.json", comparison.to_json())

    journey.do(
        name,
        {
            "golden": journey.stages["golden"].digest,
            "actual": journey.stages[journey.engine_stage(target)].digest,
            "inputs": [section.input_sets, section.samples, section.seed, sizes],
            "threads": project.threads,
            "data": dataset.digest() if dataset is not None and section.samples else None,
        },
        commands.compare_command(
            journey.artifacts[journey.golden].path,
            journey.artifacts[target].path,
            project,
            sizes,
            journey.path(name) / "comparison.json",
        ),
        work,
    )


def _sizes(model: PortableModel, project: Project) -> dict[str, int]:
    """Choose a size for each dynamic dimension: 2, or the nearest inside its bounds."""
    names = dict.fromkeys(name for spec in model.inputs for name in spec.dynamic_dims)
    bounds = project.export.bounds
    return {
        name: min(max(2, bounds[name][0]), bounds[name][1]) if name in bounds else 2
        for name in names
    }


def evaluate_target(journey: Journey, target: Target, dataset: Dataset, data: DataSection) -> None:
    """Measure the accuracy of `target`; golden comes first, so that the others have its classes."""
    is_golden = target == journey.golden
    name = f"evaluate-{'golden' if is_golden else target.slug}"
    golden_file = None if is_golden else journey.path("evaluate-golden") / _PREDICTIONS
    options = EvaluateOptions(
        batch=data.batch,
        output=data.output,
        max_bad=data.max_bad,
        limit=data.limit,
    )

    def work(folder: Path) -> None:
        with journey.load(target) as session:
            evaluation, predictions = evaluate_session(
                session,
                dataset,
                options,
                engine=str(target),
                golden=None if golden_file is None else load_predictions(golden_file),
                progress=journey.progress,
            )
        write_json(folder / "evaluation.json", evaluation.to_json())
        predictions.save(folder / _PREDICTIONS)

    threads = journey.project.threads
    journey.do(
        name,
        {
            "engine": journey.stages[journey.engine_stage(target)].digest,
            "golden": None if is_golden else journey.stages["evaluate-golden"].digest,
            "data": dataset.digest(),
            "options": options.to_json(),
            "threads": threads,
        },
        commands.evaluate_command(
            journey.artifacts[target].path, golden_file, data, threads, journey.path(name)
        ),
        work,
    )


def check_batches(journey: Journey) -> None:
    """Refuse a batch size of the benchmark that the model cannot take.

    Raises:
        UsageError: The model's batch is fixed to another size, or bounded below it.
    """
    if journey.project.bench is not None:
        for batch in journey.project.bench.batches:
            check_batch(journey.model.inputs, batch, journey.project.export.bounds)


def bench_targets(journey: Journey, targets: list[Target]) -> None:
    """Measure the speed of all targets in turn."""
    project, options = journey.project, journey.project.bench
    if options is None:
        return
    shape = journey.model.inputs[0].shape or ("",)
    sizes = {k: v for k, v in _sizes(journey.model, project).items() if k != shape[0]}

    def work(folder: Path) -> None:
        with ExitStack() as stack:
            sessions = {
                str(target): stack.enter_context(journey.load(target)) for target in targets
            }
            feeds = batch_feeds(journey.model.inputs, sizes, seed=options.seed)
            results = bench_sessions(sessions, feeds, options, progress=journey.progress)
        write_json(folder / "bench.json", [result.to_json() for result in results])

    journey.do(
        "bench",
        {
            "engines": {
                str(target): journey.stages[journey.engine_stage(target)].digest
                for target in targets
            },
            "options": options.to_json(),
            "sizes": sizes,
            "threads": project.threads,
        },
        commands.bench_command(
            [journey.artifacts[target].path for target in targets],
            options,
            sizes,
            project.threads,
            journey.path("bench"),
        ),
        work,
    )
