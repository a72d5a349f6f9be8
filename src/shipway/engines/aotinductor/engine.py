"""The engine: pre-flight, compile in a child process, load what fits this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.artifact import Artifact
from shipway.engines.aotinductor.child import PACKAGE, run_build
from shipway.engines.aotinductor.compiler import (
    INSTALL,
    cpu_features,
    find_compiler,
    require_compiler,
)
from shipway.engines.aotinductor.session import AotInductorSession, load_package
from shipway.engines.aotinductor.taps import AotInductorTapSession, source_of
from shipway.engines.base import Availability, Device, EngineOptions, Finding
from shipway.engines.exported import (
    TORCH_NOISE,
    import_torch,
    read_program,
    read_signature,
    require_program,
)
from shipway.engines.operators import effective_operators
from shipway.engines.requests import engine_errors, require_precision, thread_count
from shipway.engines.staging import Maker, copy_file, placed, staged
from shipway.engines.tapping import DEFAULT_TAP_BYTES
from shipway.errors import EngineError, EngineMissing, ShipwayError
from shipway.export.portable import PortableModel
from shipway.ops.adoption import foreign_overloads
from shipway.ops.kernel_library import library_of, why_portable
from shipway.ops.torch_op import register_all

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["AotInductorEngine"]

_TITLE = "AOTInductor"
_MAKER = Maker("aotinductor", "aotinductor-package", ".pt2")


class AotInductorEngine:
    """PyTorch's ahead-of-time compiler, for the CPU of this machine."""

    name = "aotinductor"

    def probe(self) -> Availability:
        """Say which version there is, and whether a C++ compiler is there to compile with."""
        try:
            torch = import_torch(self.name)
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=error.hint)
        compiler = find_compiler()
        return Availability(
            installed=True,
            version=torch.__version__,
            devices=(Device("CPU", torch.backends.cpu.get_cpu_capability()),),
            why="" if compiler else "no C++ compiler: packages load, but none can be made",
            install="" if compiler else INSTALL,
        )

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find a missing compiler, a broken program, an unregistered operator, a bad option."""
        import_torch(self.name)
        try:
            _require_options(options)
            require_compiler()
            path = require_program(model, self.name)
            program = read_program(path)
            read_signature(path, program, model)
        except ShipwayError as error:
            return [Finding("error", str(error), where=str(model.program or ""), hint=error.hint)]
        state = program.graph_signature.buffers_to_mutate.values()
        return [
            Finding(
                "warning", f"The model changes its buffer '{name}': a run depends on those before."
            )
            for name in state
        ]

    def lower(
        self,
        model: PortableModel,
        folder: Path,  # noqa: ARG002 -- takes the model as it is
        *,
        inline: bool = False,  # noqa: ARG002 -- the same
    ) -> PortableModel:
        """Return the model: Inductor does the lowering while it compiles."""
        return model

    def compile(self, model: PortableModel, options: EngineOptions, folder: Path) -> Artifact:
        """Compile the program in a child process.

        The thread count is compiled in: kernels that ask for it at run time are slower.

        Raises:
            EngineMissing: torch or a C++ compiler is not installed.
            EngineError: The compiler refuses the model or an option, or dies.
            ModelError: The file is absent, truncated or no exported program.
            OutputError: `folder` cannot be written to.
        """
        import_torch(self.name)
        _require_options(options)
        require_compiler()
        path = require_program(model, self.name)
        target = _MAKER.target(path, folder)
        with staged(target):
            pass  # a folder that cannot be written to is found before the compiler works for it
        # The compiler's command lines break on a path with spaces, so it has a folder of its own.
        with tempfile.TemporaryDirectory(prefix="shipway-") as work:
            facts = run_build(model, path, options, Path(work))
            facts["custom_ops"] = _describe_operators(read_program(path))
            with staged(target) as scratch:
                copy = scratch / target.name
                copy_file(Path(work) / PACKAGE, copy)
                artifact = _MAKER.save(path, model, options, copy, facts=facts)
        return placed(artifact, target)

    def load(self, artifact: Artifact, options: EngineOptions) -> AotInductorSession:
        """Load a package that was compiled for this processor, torch and thread count.

        Raises:
            EngineMissing: torch is not installed.
            EngineError: The package was compiled for something else than is here or asked for.
            ModelError: The artifact changed since it was made.
        """
        import_torch(self.name)
        _require_options(options)
        _MAKER.open(artifact)
        _require_fit(artifact, options)
        _require_operators(artifact)
        with engine_errors(f"{_TITLE} cannot load {artifact.path}", TORCH_NOISE):
            package = load_package(artifact.path)
        return AotInductorSession(artifact, package, _effective(artifact))

    def open_taps(
        self,
        artifact: Artifact,
        options: EngineOptions,
        *,
        max_bytes: int = DEFAULT_TAP_BYTES,  # noqa: ARG002 -- values go through the disk, one by one
    ) -> AotInductorTapSession:
        """Load a package and compile its debug build; see `shipway.engines.aotinductor.taps`.

        Raises:
            EngineMissing: torch or a C++ compiler is not installed.
            EngineError: The package was compiled for something else than is here or asked for, or
                the compiler fails.
            ModelError: The artifact, or the program it was compiled from, changed or is gone.
        """
        session = self.load(artifact, options)
        try:
            require_compiler()
            return AotInductorTapSession(session, artifact, source_of(artifact))
        except ShipwayError:
            session.close()
            raise


def _require_options(options: EngineOptions) -> None:
    hint = "Take bf16 (half the memory of f32), or --engine openvino."
    require_precision(_TITLE, options, {"f32", "bf16"}, hint)
    thread_count(options)
    if options.device.upper() not in {"", "CPU"}:
        raise EngineError(
            f"{_TITLE} has no device '{options.device}' in Shipway yet.", hint="Leave --device out."
        )
    if not options.optimize:
        raise EngineError(
            f"{_TITLE} has no switch that turns its optimisation off.",
            hint="Take --engine torch, which runs the same program operator by operator.",
        )


def _require_fit(artifact: Artifact, options: EngineOptions) -> None:
    """Refuse a package whose machine code would crash or lie here."""
    torch = import_torch("torch")
    made = artifact.made
    asked = made["options"]
    again = f"shipway compile MODEL --engine {artifact.engine}"
    built_with = artifact.versions.get("torch", "an unknown version")
    if built_with != torch.__version__:
        raise EngineError(
            f"{artifact.path} was compiled with torch {built_with}; this is torch {torch.__version__}.",
            hint=f"Compile it again: {again}.",
        )
    lacking = [feature for feature in made["cpu_features"] if feature not in cpu_features()]
    if lacking:
        raise EngineError(
            f"{artifact.path} was compiled for a CPU with {', '.join(lacking)}, which this one lacks.",
            hint=f"Compile it on this machine: {again}.",
        )
    if options.precision != asked["precision"]:
        raise EngineError(
            f"{artifact.path} computes in {asked['precision']}, not in {options.precision}.",
            hint=f"Compile another: {again}:{options.precision}.",
        )
    if thread_count(options) != made["threads"]:
        raise EngineError(
            f"{artifact.path} was compiled for {made['threads']} threads, not for {thread_count(options)}.",
            hint=f"Load it with --threads {made['threads']}, or compile another: {again}.",
        )
    if options.extra and dict(options.extra) != dict(asked["extra"]):
        raise EngineError(
            f"{artifact.path} was compiled with other options ({asked['extra'] or 'none'}).",
            hint=f"Compile another: {again}.",
        )


def _describe_operators(program: ExportedProgram) -> dict[str, str]:
    """Say what computes each custom operator of a program."""
    return {
        name: "native kernel" if library_of(op) else f"PyTorch reference ({why_portable(op)})"
        for name, op in foreign_overloads(program).items()
    }


def _require_operators(artifact: Artifact) -> None:
    """Register the operators a package calls: torch must know them before the package is loaded."""
    register_all()
    import torch

    for name in artifact.made.get("custom_ops", {}):
        namespace, _, short = name.partition("::")
        if not hasattr(getattr(torch.ops, namespace), short):
            raise EngineError(
                f"{artifact.path} calls the operator {name}, which is not defined here.",
                hint="Give the file that defines it with --ops FILE.py.",
            )


def _effective(artifact: Artifact) -> dict[str, str]:
    made = artifact.made
    return {
        "runtime": _TITLE,
        "version": artifact.versions["torch"],
        "provider": made["isa"],
        "device": "CPU",
        "precision": made["options"]["precision"],
        "threads": str(made["threads"]),
        "optimization": "all",
        **effective_operators(artifact),
        **made["options"]["extra"],
    }
