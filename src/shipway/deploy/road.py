"""Drive a project down the whole road, stage by stage."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shipway.deploy.building import compile_for, export_source, prove
from shipway.deploy.journey import Journey
from shipway.deploy.measuring import (
    bench_targets,
    check_batches,
    compare_target,
    evaluate_target,
)
from shipway.deploy.project import DataSection, Project
from shipway.deploy.stages import RunFolder
from shipway.engines.registry import find_engine
from shipway.engines.target import GOLDEN, Target
from shipway.errors import EngineMissing, OutputError, ShipwayError
from shipway.evaluate.dataset import Dataset, load_dataset
from shipway.evaluate.preprocess import parse_preprocess
from shipway.progress import SILENT, Progress
from shipway.source.operators import load_operator_files

__all__ = ["travel"]

_LOG = logging.getLogger("shipway.deploy")


def travel(project: Project, folder: RunFolder, progress: Progress = SILENT) -> Journey:
    """Take the project from source to measurements; the report is the caller's.

    What would fail late is asked early: engines that are missing and data sets that do not read
    stop the run before anything slow begins. An engine that fails on the way is put aside and the
    others go on.

    Raises:
        EngineMissing: An engine of the project is not installed.
        ShipwayError: The export, golden or the data set failed. The hint repeats the stage alone.
    """
    load_operator_files(project.source.ops)
    dataset = _load_data(project.data)
    _probe_all((GOLDEN, *project.targets))
    journey = Journey(project, folder, progress)
    export_source(journey)
    if journey.from_pytorch:
        prove(journey)
    if journey.model.program is None:
        journey.golden = Target("onnxruntime", optimize=False)
    check_batches(journey)
    compile_for(journey, journey.golden)
    data = project.data
    if dataset is not None and data is not None:
        # Before any target is compiled: what does not fit the model shows here, and compilers are slow.
        evaluate_target(journey, journey.golden, dataset, data)
    for target in project.targets:
        _guarded(journey, target, compile_for)
    for target in project.targets:
        _guarded(journey, target, lambda j, t: compare_target(j, t, dataset))
        if dataset is not None and data is not None:
            _guarded(journey, target, lambda j, t: evaluate_target(j, t, dataset, data))
    well = [target for target in project.targets if target not in journey.failures]
    try:
        bench_targets(journey, [journey.golden, *well])
    except OutputError:
        raise
    except ShipwayError as error:
        _LOG.error("bench failed: %s", error)
        journey.bench_failure = error
    return journey


def _load_data(data: DataSection | None) -> Dataset | None:
    if data is None:
        return None
    preprocess = parse_preprocess(data.preprocess) if data.preprocess else None
    return load_dataset(data.path, labels=data.labels, preprocess=preprocess)


def _probe_all(targets: tuple[Target, ...]) -> None:
    for target in targets:
        availability = find_engine(target.engine).probe()
        if not availability.installed:
            raise EngineMissing(target.engine, install=availability.install, why=availability.why)


def _guarded(journey: Journey, target: Target, step: Callable[[Journey, Target], None]) -> None:
    """Run a step of one target; its failure stops this target only."""
    if target in journey.failures:
        return
    try:
        step(journey, target)
    except OutputError:
        raise
    except ShipwayError as error:
        _LOG.error("%s failed: %s", target, error)
        journey.failures[target] = error
