"""`deploy_project`: one call from a project to a run folder with a report in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shipway.deploy.project import Project
from shipway.deploy.road import travel
from shipway.deploy.stages import RunFolder, StageResult
from shipway.deploy.summary import build_report
from shipway.errors import ShipwayError
from shipway.progress import SILENT, Progress
from shipway.report.data import Report
from shipway.report.write import write_report

__all__ = ["Deployment", "deploy_project"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A finished deployment.

    Args:
        report: What was found.
        json_path: Where report.json lies.
        html_path: Where report.html lies.
        stages: Every stage, in order.
        failures: What stopped an engine, by target as text.
    """

    report: Report
    json_path: Path
    html_path: Path
    stages: tuple[StageResult, ...]
    failures: dict[str, ShipwayError]


def deploy_project(
    project: Project, output: Path, *, command: list[str], progress: Progress = SILENT
) -> Deployment:
    """Take a project down the whole road and write its report.

    Finished stages whose inputs have not changed are reused, so a second call, or one after a
    kill, does only what is left.

    Args:
        project: What to do.
        output: The run folder; made if absent.
        command: The command line to show under "how to reproduce".
        progress: Told of every stage.

    Raises:
        ShipwayError: A stage failed that nothing can go on without. Its hint has the command that
            repeats it alone.
    """
    with RunFolder(output).open() as folder:
        journey = travel(project, folder, progress)
        report = build_report(journey, command)
        json_path, html_path = write_report(report, output)
    failures = {str(target): error for target, error in journey.failures.items()}
    if journey.bench_failure is not None:
        failures["bench"] = journey.bench_failure
    stages = tuple(journey.stages.values())
    return Deployment(report, json_path, html_path, stages, failures)
