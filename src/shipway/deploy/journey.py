"""A project on its way: what is asked, and which stages are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway.artifact import Artifact
from shipway.deploy.project import Project
from shipway.deploy.stages import RunFolder, StageResult
from shipway.engines.base import EngineOptions, Session
from shipway.engines.registry import find_engine
from shipway.engines.target import GOLDEN, Target
from shipway.environment import describe_machine, package_versions
from shipway.errors import ShipwayError
from shipway.export.model import load_portable
from shipway.export.portable import PortableModel
from shipway.progress import SILENT, Progress

__all__ = ["Journey"]


@dataclass(slots=True)
class Journey:
    """A project on its way: what is finished so far.

    Args:
        project: What to do.
        folder: The run folder.
        progress: Told of every stage.
        golden: The target everything is judged against.
        stages: Finished stages by name.
        artifacts: Compiled artifacts by target.
        failures: What stopped a target; its later stages were left out.
        bench_failure: What stopped the benchmark.
    """

    project: Project
    folder: RunFolder
    progress: Progress = SILENT
    golden: Target = GOLDEN
    stages: dict[str, StageResult] = field(default_factory=dict)
    artifacts: dict[Target, Artifact] = field(default_factory=dict)
    failures: dict[Target, ShipwayError] = field(default_factory=dict)
    bench_failure: ShipwayError | None = None

    def path(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.folder.path / name

    @property
    def model(self) -> PortableModel:
        """The exported model."""
        return load_portable(self.path("export"), self.project.name)

    @property
    def from_pytorch(self) -> bool:
        """Whether the source is PyTorch: code or a program, and not an ONNX file."""
        return not self.project.source.reference.lower().endswith(".onnx")

    def options(self, target: Target) -> EngineOptions:
        """Return what is asked of the engine of `target`."""
        return EngineOptions(target.precision, self.project.threads, optimize=target.optimize)

    def load(self, target: Target) -> Session:
        """Load the compiled artifact of `target`."""
        return find_engine(target.engine).load(self.artifacts[target], self.options(target))

    def engine_stage(self, target: Target) -> str:
        """Name the stage that compiles `target`."""
        return "golden" if target == self.golden else f"engine-{target.slug}"

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        command: list[str],
        work: Callable[[Path], Iterable[Path] | None],
    ) -> StageResult:
        """Run or reuse one stage."""
        self.progress.start(name)
        keyed = {"versions": package_versions(), **inputs}
        if name not in {"export", "proof"}:
            # What was compiled or measured on another machine says nothing about this one.
            keyed["machine"] = describe_machine()
        self.stages[name] = self.folder.run(name, inputs=keyed, command=command, work=work)
        return self.stages[name]
