"""The engine: pre-flight, compile, load, open with taps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipway.artifact import Artifact
from shipway.engines.base import Availability, Device, EngineOptions, Finding
from shipway.engines.exported import (
    import_torch,
    read_program,
    read_signature,
    require_program,
)
from shipway.engines.requests import refuse_extras, require_precision, thread_count
from shipway.engines.staging import Maker, copy_file, placed, staged
from shipway.engines.tapping import DEFAULT_TAP_BYTES
from shipway.engines.torch.flat_program import flatten_program
from shipway.engines.torch.session import TITLE, TorchSession
from shipway.engines.torch.tap_session import TorchTapSession
from shipway.errors import EngineError, EngineMissing, ShipwayError
from shipway.export.portable import PortableModel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TorchEngine"]

_MAKER = Maker("torch", "exported-program", ".pt2")


class TorchEngine:
    """The exported program in eager PyTorch, on the CPU, in the dtypes of the model."""

    name = "torch"

    def probe(self) -> Availability:
        """Say which version there is."""
        try:
            torch = import_torch(self.name)
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=error.hint)
        capability = torch.backends.cpu.get_cpu_capability()
        return Availability(
            installed=True, version=torch.__version__, devices=(Device("CPU", capability),)
        )

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find a missing or broken program, an unregistered operator, state kept between runs."""
        import_torch(self.name)
        try:
            _require_options(options)
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
        """Return the model: the program runs as it was exported."""
        return model

    def compile(self, model: PortableModel, options: EngineOptions, folder: Path) -> Artifact:
        """Copy the program into `folder` once it has loaded.

        Raises:
            EngineMissing: torch is not installed.
            EngineError: An option cannot be honoured, or an operator is not registered.
            ModelError: The file is absent, truncated or no exported program.
            OutputError: `folder` cannot be written to.
        """
        import_torch(self.name)
        _require_options(options)
        path = require_program(model, self.name)
        read_signature(path, read_program(path), model)
        target = _MAKER.target(path, folder)
        with staged(target) as scratch:
            copy_file(path, scratch / target.name)
            artifact = _MAKER.save(path, model, options, scratch / target.name)
        return placed(artifact, target)

    def load(self, artifact: Artifact, options: EngineOptions) -> TorchSession:
        """Load the program.

        Raises:
            EngineMissing: torch is not installed.
            EngineError: An option cannot be honoured, or an operator is not registered.
            ModelError: The artifact changed since it was made.
        """
        import_torch(self.name)
        _require_options(options)
        _MAKER.open(artifact)
        return TorchSession(artifact, read_program(artifact.path), options)

    def open_taps(
        self,
        artifact: Artifact,
        options: EngineOptions,
        *,
        max_bytes: int = DEFAULT_TAP_BYTES,  # noqa: ARG002 -- one tensor is held at a time beyond a plain run
    ) -> TorchTapSession:
        """Load the program so that each of its tensors can be read.

        Raises:
            EngineMissing: torch is not installed.
            EngineError: An option cannot be honoured, or an operator is not registered.
            ModelError: The artifact changed since it was made.
        """
        import_torch(self.name)
        _require_options(options)
        _MAKER.open(artifact)
        program = read_program(artifact.path)
        session = TorchSession(artifact, program, options)
        model = PortableModel(artifact.inputs, artifact.outputs, program=artifact.path)
        flat = flatten_program(artifact.path, model, threads=thread_count(options), program=program)
        return TorchTapSession(session, flat)


def _require_options(options: EngineOptions) -> None:
    hint = "Take --engine openvino or aotinductor for a lower precision; torch is the golden."
    require_precision(TITLE, options, {"f32"}, hint)
    refuse_extras(TITLE, options)
    if options.device.upper() not in {"", "CPU"}:
        raise EngineError(
            f"{TITLE} has no device '{options.device}' in Shipway: the golden runs on the CPU.",
            hint="Leave --device out.",
        )
