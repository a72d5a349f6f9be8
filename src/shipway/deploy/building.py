"""The stages that make things: export, proof, compiled artifacts."""

from __future__ import annotations

from pathlib import Path

from shipway.artifact import SIDECAR_SUFFIX, Artifact, load_artifact
from shipway.deploy import commands
from shipway.deploy.journey import Journey
from shipway.engines.opening import compile_target
from shipway.engines.registry import find_engine
from shipway.engines.target import Target
from shipway.errors import EngineError
from shipway.export.model import export_model
from shipway.files import write_json
from shipway.proof.export import prove_export
from shipway.source.loading import load_source
from shipway.source.openings import files_read

__all__ = ["compile_for", "export_source", "prove"]


def export_source(journey: Journey) -> None:
    """Export the source."""
    project = journey.project

    def work(folder: Path) -> tuple[Path, ...]:
        with files_read() as opened:
            source = load_source(project.source)
        export_model(
            source, folder, name=project.name, options=project.export, progress=journey.progress
        )
        return tuple(dict.fromkeys((*source.files, *opened)))

    journey.do(
        "export",
        {
            "source": project.source.to_json(),
            "options": project.export.to_json(),
            "name": project.name,
        },
        [*commands.export_command(project, journey.path("export")), "--no-proof"],
        work,
    )


def prove(journey: Journey) -> None:
    """Prove the export."""
    project = journey.project
    section = project.compare

    def work(folder: Path) -> None:
        # Where torch.export refused the model, the module itself is the only PyTorch there is.
        refused = journey.model.program is None
        proof = prove_export(
            journey.model,
            module=load_source(project.source).module if refused else None,
            original=lambda: load_source(project.source).module,
            input_sets=section.input_sets,
            seed=section.seed,
            progress=journey.progress,
        )
        write_json(folder / "proof.json", proof.to_json())

    journey.do(
        "proof",
        {
            "model": journey.stages["export"].digest,
            "sets": section.input_sets,
            "seed": section.seed,
        },
        commands.export_command(project, journey.path("export-and-proof")),
        work,
    )


def compile_for(journey: Journey, target: Target) -> None:
    """Compile the exported model for one target."""
    name = journey.engine_stage(target)
    options = journey.options(target)
    model = journey.model
    engine = find_engine(target.engine)

    def work(folder: Path) -> None:
        compile_target(model, target, options, folder)

    takes_program = target.engine in {"torch", "aotinductor"}
    portable = (model.program if takes_program else model.onnx) or journey.path("export")
    threads = journey.project.threads
    journey.do(
        name,
        {
            "model": journey.stages["export"].digest,
            "target": str(target),
            "options": options.to_json(),
            "version": engine.probe().version,
        },
        commands.compile_command(portable, target, threads, journey.path(name)),
        work,
    )
    journey.artifacts[target] = _find_artifact(journey.path(name))


def _find_artifact(folder: Path) -> Artifact:
    for sidecar in sorted(folder.glob(f"*{SIDECAR_SUFFIX}")):
        path = sidecar.with_name(sidecar.name.removesuffix(SIDECAR_SUFFIX))
        # The engine verifies the hashes when it loads the artifact.
        artifact = load_artifact(path, verify=False)
        if artifact.engine:
            return artifact
    raise EngineError(f"The compiler left no artifact in {folder}.")
