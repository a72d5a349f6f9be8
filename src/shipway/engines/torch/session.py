"""An exported program, called as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import BaseSession, EngineOptions
from shipway.engines.exported import (
    import_torch,
    memory_of,
    own_arrays,
    read_signature,
    to_tensors,
    torch_settings,
)
from shipway.engines.limits import check_limits, read_limits
from shipway.engines.requests import thread_count
from shipway.engines.torch.references import call_references
from shipway.export.portable import PortableModel
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["TITLE", "TorchSession", "effective_settings"]

TITLE = "PyTorch"


class TorchSession(BaseSession):
    """An exported program, called with flat tensors."""

    def __init__(
        self, artifact: Artifact, program: ExportedProgram, options: EngineOptions
    ) -> None:
        """Flatten the call and note which tensors belong to the program."""
        self._threads = thread_count(options)
        module = program.module()
        effective = effective_settings(program, self._threads)
        if called := call_references(module):
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

    @property
    def state(self) -> tuple[Any, ...]:
        """The buffers, which a run may change."""
        return tuple(self._module.buffers())

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


def effective_settings(program: ExportedProgram, threads: int) -> dict[str, str]:
    """Say what is in force when a program runs: version, precision, threads."""
    torch = import_torch("torch")
    return {
        "runtime": TITLE,
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
