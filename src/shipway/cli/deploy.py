"""The `shipway deploy` command."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shipway.bench.measure import BenchOptions
from shipway.cli.flags import DataFlags, Flag, Many, SourceFlags, read_bounds
from shipway.cli.terminal import print_json, print_result, show_progress, start_log
from shipway.deploy.deployment import Deployment, deploy_project
from shipway.deploy.project import DataSection, Limits, Project, load_project, name_of
from shipway.engines.target import GOLDEN, parse_target
from shipway.errors import UsageError
from shipway.export.options import ExportOptions
from shipway.report.terminal import render_terminal

__all__ = ["RoadFlags", "deploy", "project_from_flags"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RoadFlags:
    """Everything a ship.toml can say besides the source and the data set.

    Args:
        engine: Engine, or engine:precision, to deploy to. Again for each; onnxruntime if none.
        name: Name of the model.
        opset: ONNX opset.
        legacy: Export with the old tracer.
        bound: Limits of a dynamic dimension, e.g. batch=1..64. Again for each.
        threads: Threads inside one operator; 0 takes all physical cores.
        batch: Samples a call when measuring accuracy.
        max_bad: Samples that may be unreadable.
        bench: Measure speed.
        bench_batch: Batch size to measure. Again for each.
        bench_seconds: How long to measure each engine at each batch size, at least.
        min_top1: Lowest Top-1 rate of PyTorch that passes, in [0, 1].
        max_flips: Largest number of samples an engine may classify differently.
        max_relative_l2: Largest relative L2 of an f32 engine's outputs.
    """

    engine: Many = ()
    name: str = ""
    opset: int = ExportOptions().opset
    legacy: Flag = False
    bound: Many = ()
    threads: int = 0
    batch: int = 1
    max_bad: int = 0
    bench: bool = True
    bench_batch: Annotated[tuple[int, ...], Parameter(negative=(), consume_multiple=False)] = (1,)
    bench_seconds: float = BenchOptions().min_seconds
    min_top1: float | None = None
    max_flips: int | None = None
    max_relative_l2: float | None = None


_NO_SOURCE, _NO_DATA, _NO_ROAD = SourceFlags(), DataFlags(), RoadFlags()


def deploy(
    source: str,
    *,
    model: SourceFlags = _NO_SOURCE,
    data: DataFlags = _NO_DATA,
    road: RoadFlags = _NO_ROAD,
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Take a model the whole road and write one report.

    Source, export, proof, engines, comparison, accuracy, speed, report: each stage is kept in the
    run folder and reused while its inputs stay the same. A run that was killed goes on where it
    was. With a ship.toml, only --output and --json may be given beside it.

    ```
    shipway deploy ship.toml
    shipway deploy model.py:Net --input "x:float32[batch,3,224,224]"
    shipway deploy net.onnx --engine openvino:bf16 --data test.npz
    ```

    Args:
        source: ship.toml, file.py:name, package.module:name, .pt2 or .onnx.
        model: What belongs to the source.
        data: The data set.
        road: Everything else.
        output: Run folder; runs/NAME if not given.
        json: Print the report as JSON.
    """
    start_log(quiet=json)
    if source.endswith(".toml"):
        if (model, data, road) != (_NO_SOURCE, _NO_DATA, _NO_ROAD):
            raise UsageError(
                f"{source} says what to do; flags cannot change it.",
                hint=f"Edit {source}, or leave it out and give everything by flags.",
            )
        project = load_project(Path(source))
    else:
        project = project_from_flags(source, model, data, road)
    folder = output or Path("runs") / project.name
    with show_progress() as progress:
        deployment = deploy_project(
            project, folder, command=["shipway", *sys.argv[1:]], progress=progress
        )
    return _finish(deployment, as_json=json)


def project_from_flags(
    source: str, model: SourceFlags, data: DataFlags, road: RoadFlags
) -> Project:
    """Build the project that a ship.toml with the same values would give.

    Raises:
        UsageError: A flag has a value that makes no sense.
    """
    section = None
    if data.data is not None:
        section = DataSection(
            data.data, data.labels, data.preprocess, road.batch, max_bad=road.max_bad
        )
    targets = tuple(parse_target(text) for text in road.engine or ("onnxruntime",))
    if GOLDEN in targets or len(set(targets)) < len(targets):
        raise UsageError(
            "Name each --engine once, and not torch: it is always there, as golden.",
            hint="E.g. --engine onnxruntime --engine openvino",
        )
    return Project(
        name=road.name or name_of(source),
        source=model.request(source),
        export=ExportOptions(opset=road.opset, legacy=road.legacy, bounds=read_bounds(road.bound)),
        targets=targets,
        threads=road.threads,
        data=section,
        bench=BenchOptions(batches=road.bench_batch, min_seconds=road.bench_seconds)
        if road.bench
        else None,
        limits=Limits(
            min_top1=road.min_top1,
            max_flips=road.max_flips,
            max_relative_l2=road.max_relative_l2,
        ),
    )


def _finish(deployment: Deployment, *, as_json: bool) -> int:
    report = deployment.report
    if as_json:
        print_json(report.to_json())
    else:
        reused = sum(stage.reused for stage in deployment.stages)
        print_result(render_terminal(report), "")
        print_result(f"{len(deployment.stages)} stages, {reused} reused")
        print_result(f"report  {deployment.html_path}\n        {deployment.json_path}")
    for target, failure in deployment.failures.items():
        log = logging.getLogger("shipway")
        log.error("%s failed: %s\n%s", target, failure, failure.hint)
    codes = [failure.exit_code for failure in deployment.failures.values()]
    return codes[0] if codes else int(not report.passed)
