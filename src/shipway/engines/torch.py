"""PyTorch itself, running the exported program operator by operator: the golden of every comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import (
    Availability,
    BaseSession,
    Device,
    EngineOptions,
    Finding,
)
from shipway.engines.exported import (
    import_torch,
    memory_of,
    own_arrays,
    read_program,
    read_signature,
    require_program,
    to_tensors,
    torch_settings,
)
from shipway.engines.limits import check_limits, read_limits
from shipway.engines.requests import refuse_extras, require_precision, thread_count
from shipway.engines.staging import Maker, copy_file, placed, staged
from shipway.errors import EngineError, EngineMissing, ShipwayError
from shipway.export.portable import PortableModel
from shipway.ops.adoption import is_operator
from shipway.ops.registry import known_operator
from shipway.ops.widening import call_reference
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram

    from shipway.ops.definition import CustomOp

__all__ = ["TorchEngine"]

_TITLE = "PyTorch"
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


class TorchSession(BaseSession):
    """An exported program, called with flat tensors."""

    def __init__(
        self, artifact: Artifact, program: ExportedProgram, options: EngineOptions
    ) -> None:
        """Flatten the call and note which tensors belong to the program."""
        self._threads = thread_count(options)
        module = program.module()
        effective = _effective(program, self._threads)
        if called := _call_references(module):
            effective["custom_ops"] = "; ".join(f"{name}: reference" for name in called)
        super().__init__(artifact.inputs, artifact.outputs, effective)
        model = PortableModel(artifact.inputs, artifact.outputs, program=artifact.path)
        self._signature = read_signature(artifact.path, program, model)
        self._limits = read_limits(program, self._signature.placeholders)
        self._in_spec = program.call_spec.in_spec
        self._module: Any = module
        constants = [value for value in program.constants.values() if hasattr(value, "dtype")]
        weights = [*self._module.parameters(), *self._module.buffers(), *constants]
        self._weights = memory_of(weights)

    def _check(self, feeds: Tensors) -> dict[str, int]:
        sizes = super()._check(feeds)
        check_limits(self.inputs, self._limits, feeds)
        return sizes

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        from torch.utils import _pytree as pytree

        feeds_in_order = (feeds[spec.name] for spec in self.inputs)
        tensors = to_tensors(feeds_in_order, copy=self._signature.mutates)
        args, kwargs = pytree.tree_unflatten(self._signature.leaves(tensors), self._in_spec)
        with torch_settings(self._threads):
            leaves = pytree.tree_leaves(self._module(*args, **kwargs))
            results = [leaves[at] for at in self._signature.outputs]
            arrays = own_arrays(results, memory_of(tensors) | self._weights)
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, arrays, strict=True))

    def _release(self) -> None:
        self._module = None


def _call_references(module: Any) -> tuple[str, ...]:
    """Have a program call the references of its custom operators, and return their names.

    Golden is what the kernels are judged against, so it must not run them.
    """
    import torch

    called: dict[str, None] = {}
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            op = known_operator(str(node.target.name())) if is_operator(node.target) else None
            if op is not None and not op.foreign:
                node.target = _reference(op)
                called[op.name] = None
        part.recompile()
    return tuple(called)


def _reference(op: CustomOp) -> Callable[..., Any]:
    """Return the reference as a function with a name, which torch writes into the program's code."""

    def reference(*args: Any, **kwargs: Any) -> Any:
        return call_reference(op, *args, **kwargs)

    reference.__name__ = f"reference_of_{op.namespace}_{op.short_name}"
    return reference


def _require_options(options: EngineOptions) -> None:
    hint = "Take --engine openvino or aotinductor for a lower precision; torch is the golden."
    require_precision(_TITLE, options, {"f32"}, hint)
    refuse_extras(_TITLE, options)
    if options.device.upper() not in {"", "CPU"}:
        raise EngineError(
            f"{_TITLE} has no device '{options.device}' in Shipway: the golden runs on the CPU.",
            hint="Leave --device out.",
        )


def _effective(program: ExportedProgram, threads: int) -> dict[str, str]:
    torch = import_torch("torch")
    return {
        "runtime": _TITLE,
        "version": torch.__version__,
        "provider": "eager",
        "device": "CPU",
        "precision": _precision(program),
        "threads": str(threads),
        "optimization": "none (eager)",
    }


def _precision(program: ExportedProgram) -> str:
    """Name the float dtypes of the program's weights: what "f32" means for this model."""
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}
    names = {str(value.dtype).removeprefix("torch.") for value in program.state_dict.values()}
    return "+".join(sorted(short[name] for name in names & set(short))) or "f32"
