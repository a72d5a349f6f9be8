"""The PyTorch program as a golden: in its own precision or in float64, pure and teacher-forced."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.base import EngineOptions
from shipway.engines.exported import require_program, to_tensors
from shipway.engines.requests import thread_count
from shipway.engines.tapping import Tap
from shipway.engines.torch.flat_program import FlatProgram, flatten_program
from shipway.engines.torch.tap_session import require_taps
from shipway.engines.torch.walking import Memory, Step, own_array, walk
from shipway.errors import TensorError
from shipway.export.portable import PortableModel
from shipway.tensors import Tensors, TensorSpec
from shipway.trace.golden import ActualTensors, GoldenTensor
from shipway.trace.program_piece import ProgramPiece, cut_piece

__all__ = ["ProgramGolden", "open_program_golden"]


def open_program_golden(
    model: PortableModel, *, double: bool = False, threads: int = 0
) -> ProgramGolden:
    """Open the exported program of a model as the golden.

    Custom operators are computed by their references, never by their kernels. Random operators draw
    from a seed of their own, the same in every run. What a control-flow graph computes inside is
    not shown (`untapped` lists it); its results are.

    Args:
        model: Must have its program (.pt2). Its name map, if there is one, gives the taps the names
            of the ONNX values that hold them.
        double: Compute in float64: weights, float inputs, constants, and casts to a float dtype.
        threads: Threads inside an operator; 0 means all physical cores this process may use.

    Raises:
        EngineMissing: torch is not installed.
        EngineError: The program calls an operator that is not registered.
        ModelError: The model has no program, or the file is not usable.
    """
    path = require_program(model, "torch")
    count = thread_count(EngineOptions(threads=threads))
    flat = flatten_program(path, model, threads=count, double=double)
    return ProgramGolden(flat, f"torch{' in float64' * double} ({path.name})")


class ProgramGolden:
    """An exported program, run node by node; see `shipway.trace.golden.Golden`."""

    def __init__(self, flat: FlatProgram, title: str) -> None:
        """Keep the program; nothing is computed before the first walk."""
        self.title = title
        self.inputs: tuple[TensorSpec, ...] = flat.inputs
        self.taps: tuple[Tap, ...] = flat.taps
        self.outputs: Mapping[str, str] = flat.outputs
        self.untapped: Mapping[str, str] = flat.untapped
        self.effective: Mapping[str, str] = flat.effective
        self._flat = flat
        self._memory = Memory()

    def walk(
        self, feeds: Tensors, actual: ActualTensors, names: Collection[str] | None = None
    ) -> Iterator[GoldenTensor]:
        """Run once and yield tensors in order, each computed twice; see `Golden.walk`.

        Raises:
            UsageError: `names` has one that is no tap.
            TensorError: A feed, or a tensor of `actual`, does not fit.
            EngineError: An operator failed.
        """
        require_taps(names, self.taps)
        taps = {tap.name: tap for tap in self.taps}

        def ask(step: Step) -> Any:
            given = actual(step.node.name)
            return None if given is None else _as_golden(given, step)

        for step in walk(self._flat, feeds, ask, self._memory):
            name = step.node.name
            if names is not None and name not in names:
                continue
            value = own_array(step.value)
            local = value if step.local is step.value else own_array(step.local)
            del step
            yield GoldenTensor(taps[name], value, local)

    def piece(self, name: str, starts: Collection[str]) -> ProgramPiece:
        """Return the operators that lead to a tensor from others; see `Golden.piece`.

        Dynamic sizes, and numbers that random operators draw, are those of the last walk.

        Raises:
            UsageError: No operator computes a tensor of this name.
        """
        return cut_piece(self._flat, self._memory, name, starts)


def _as_golden(given: NDArray[Any], step: Step) -> Any:
    """Return an engine's tensor in the shape, dtype and order in memory of golden's.

    Where sizes depend on data, the two executions may differ in them: it may have either's.

    Raises:
        TensorError: It has another number of elements.
    """
    import torch

    fits = [one for one in (step.local, step.value) if one.numel() == given.size]
    if not fits:
        shape = list(step.local.shape)
        raise TensorError(
            f"The engine's tensor for '{step.node.name}' is {list(given.shape)}; golden's is {shape}.",
            hint="The two are not the same tensor, or the engine ran on inputs of another size.",
        )
    like = fits[0]
    (tensor,) = to_tensors([np.reshape(given, tuple(like.shape))], copy=False)
    tensor = tensor.to(like.dtype)
    if tensor.stride() == like.stride():
        return tensor
    # Kernels add up in another order where the strides are others.
    return torch.empty_like(like).copy_(tensor)
