"""What the two engines that run exported PyTorch programs share: reading, tensors, threads.

`torch` runs such a program as it is, `aotinductor` compiles it first. Both live in the one PyTorch
of this process, so its process-wide settings are guarded here, in one place.
"""

from __future__ import annotations

import contextlib
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.requests import engine_errors
from shipway.environment import package_version
from shipway.errors import EngineError, EngineMissing, ModelError
from shipway.export.portable import PortableModel
from shipway.source.programs import load_program
from shipway.tensors import TensorSpec, dtype_named

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = [
    "TORCH_NOISE",
    "Signature",
    "import_torch",
    "memory_of",
    "own_arrays",
    "read_program",
    "read_signature",
    "require_program",
    "to_tensors",
    "torch_settings",
]

TORCH_NOISE = re.compile(r"\[enforce fail at .*?\] ?\.? ?|^Exception raised from .*", re.MULTILINE)
_INSTALL = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
_UNKNOWN_OPERATOR = re.compile(r"failed to resolve torch\.ops\.(\w+)\.(\w+)")


def import_torch(engine: str) -> ModuleType:
    """Import torch for an engine.

    Raises:
        EngineMissing: It is not installed.
    """
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        why = "" if package_version("torch") == "" else str(error)
        raise EngineMissing(engine, install=_INSTALL, why=why) from error
    module: ModuleType = torch
    return module


def require_program(model: PortableModel, engine: str) -> Path:
    """Return the model's exported program.

    Raises:
        ModelError: The model has none, or the file is absent, truncated or of another kind.
    """
    if model.program is None:
        raise ModelError(
            f"The engine {engine} needs the model as an exported program (.pt2), and there is none.",
            hint="Make it with shipway export from the PyTorch model; an .onnx file has no way back.",
        )
    if not model.program.is_file():
        raise ModelError(f"No such model file: {model.program}.")
    if not zipfile.is_zipfile(model.program):
        raise ModelError(
            f"{model.program} is not a whole exported program: truncated, or another kind of file.",
            hint="Make the file again with shipway export, or fetch it again.",
        )
    return model.program


def read_program(path: Path) -> ExportedProgram:
    """Load an exported program.

    Raises:
        ModelError: It does not load.
        EngineError: It calls an operator that is not registered.
    """
    try:
        return load_program(path, allow_pickle=False)
    except ModelError as error:
        _explain_operator(path, str(error.__cause__))
        raise


def _explain_operator(path: Path, reason: str) -> None:
    match = _UNKNOWN_OPERATOR.search(reason)
    if match is not None:
        raise EngineError(
            f"No kernel for custom operator {match.group(1)}::{match.group(2)}, which {path} calls.",
            hint="Give the file that defines it with --ops FILE.py.",
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """How an exported program is called, its pytrees flattened.

    Args:
        inputs: One entry a leaf: the placeholder of a tensor, or None where it is a constant.
        constants: The constant of each leaf; None for a tensor.
        outputs: Positions of the tensors among the leaves of the result.
        mutates: The program writes to tensors in place, so it must not be given the caller's.
    """

    inputs: tuple[str | None, ...]
    constants: tuple[Any, ...]
    outputs: tuple[int, ...]
    mutates: bool

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Placeholders of the tensor inputs, in order."""
        return tuple(name for name in self.inputs if name is not None)

    def leaves(self, tensors: Iterable[Tensor]) -> list[Any]:
        """Put the constants between the tensors."""
        source = iter(tensors)
        return [
            constant if name is None else next(source)
            for name, constant in zip(self.inputs, self.constants, strict=True)
        ]


def read_signature(path: Path, program: ExportedProgram, model: PortableModel) -> Signature:
    """Return how `program` is called, checked against the model's specs.

    Raises:
        ModelError: The program has other inputs or outputs than the model says.
    """
    from torch.export.graph_signature import (
        ConstantArgument,
        InputKind,
        OutputKind,
        TensorArgument,
    )

    signature = program.graph_signature
    inputs = [spec.arg for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT]
    results = [spec.arg for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    for leaf in inputs:
        if not isinstance(leaf, TensorArgument | ConstantArgument):
            raise ModelError(
                f"{path} takes a number '{leaf.name}' that may change from run to run.",
                hint="Pass it as a 0-d tensor, or export with its value fixed.",
            )
    names = [leaf.name if isinstance(leaf, TensorArgument) else None for leaf in inputs]
    outputs = [at for at, leaf in enumerate(results) if isinstance(leaf, TensorArgument)]
    tensors = [name for name in names if name is not None]
    _match_count(path, "inputs", model.inputs, len(tensors))
    _match_count(path, "outputs", model.outputs, len(outputs))
    _match_inputs(path, program, model, tensors)
    return Signature(
        inputs=tuple(names),
        constants=tuple(getattr(leaf, "value", None) for leaf in inputs),
        outputs=tuple(outputs),
        mutates=any(_mutates(node.target) for node in program.graph.nodes),
    )


def _match_count(path: Path, what: str, specs: tuple[TensorSpec, ...], count: int) -> None:
    if len(specs) != count:
        raise ModelError(
            f"{path} has {count} tensor {what}; the model says {len(specs)} "
            f"({', '.join(spec.name for spec in specs)}).",
            hint="The file was changed after its export: export again.",
        )


def _match_inputs(
    path: Path, program: ExportedProgram, model: PortableModel, placeholders: list[str]
) -> None:
    """Compare dtype and rank: compiled kernels check neither."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    for spec, name in zip(model.inputs, placeholders, strict=True):
        value = values[name]
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype != spec.dtype or (spec.shape is not None and len(spec.shape) != value.ndim):
            raise ModelError(
                f"Input {spec.name} of {path} is {dtype} with {value.ndim} dimensions; "
                f"the model says {spec}.",
                hint="The file was changed after its export: export again.",
            )


def _mutates(target: Any) -> bool:
    return bool(getattr(getattr(target, "_schema", None), "is_mutable", False))


def to_tensors(arrays: Iterable[NDArray[Any]], *, copy: bool) -> list[Tensor]:
    """Wrap arrays as tensors, sharing memory where `copy` is False and the array allows it."""
    return [_to_tensor(array, copy=copy) for array in arrays]


def _to_tensor(array: NDArray[Any], *, copy: bool) -> Tensor:
    import torch

    array = np.asarray(array, order="C")
    if copy or not array.flags.writeable:
        array = array.copy()
    if array.dtype == dtype_named("bfloat16").numpy:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def memory_of(tensors: Iterable[Tensor]) -> set[int]:
    """Return where the memory of each tensor begins."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def own_arrays(tensors: Iterable[Tensor], borrowed: set[int]) -> list[NDArray[Any]]:
    """Turn outputs into arrays that share no memory with others, or with each other.

    A program may return an input, a weight, or one tensor twice.

    Args:
        tensors: Outputs.
        borrowed: What `memory_of` says of everything that is not the caller's to keep.
    """
    taken = set(borrowed)
    arrays = []
    for tensor in tensors:
        whole = tensor.contiguous()
        if not taken.isdisjoint(memory_of([whole])):
            whole = whole.clone()
        taken |= memory_of([whole])
        arrays.append(_to_array(whole))
    return arrays


def _to_array(tensor: Tensor) -> NDArray[Any]:
    import torch

    if tensor.dtype == torch.bfloat16:
        array: NDArray[Any] = tensor.view(torch.int16).numpy()
        return array.view(dtype_named("bfloat16").numpy)
    plain: NDArray[Any] = tensor.numpy()
    return plain


class _Gate:
    """Lets runs with one thread count in together; a run with another count waits for them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._threads = 0
        self._running = 0

    @contextlib.contextmanager
    def enter(self, threads: int) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._running or self._threads == threads)
            self._threads = threads
            self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify_all()


_GATE = _Gate()


@contextlib.contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """Run a block with PyTorch's process-wide settings as a session promises them.

    Sessions with different thread counts take turns. Matrix products stay in true float32:
    torch.set_float32_matmul_precision("medium") in a user's file would make them bfloat16.
    """
    import torch

    with _GATE.enter(threads):
        # Set unasked: the count is kept for each calling thread, and asking costs as much (0.1 us).
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        with engine_errors("PyTorch failed while running", TORCH_NOISE), torch.inference_mode():
            yield
