"""What every tensor of a program looks like on one example, in a few numbers each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.export.example import keep_state
from shipway.export.program import program_state

__all__ = ["Fingerprint", "fingerprint_program", "flat_arguments"]

_SAMPLES = 256
_DISTINCT = 16
_TOLERANCE = 1e-3
"""Decompositions reorder sums; anything that is another tensor differs by far more than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """Shape, dtype, and samples of a tensor's values, float64, at places that its size decides."""

    shape: tuple[int, ...]
    dtype: str
    samples: NDArray[np.float64]

    @property
    def is_distinctive(self) -> bool:
        """Whether another tensor can hardly have the same numbers by chance."""
        return len(np.unique(self.samples)) >= _DISTINCT

    def agrees(self, other: Fingerprint) -> bool:
        """Whether the two can be the same tensor up to rounding."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        finite = self.samples[np.isfinite(self.samples)]
        scale = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        return np.allclose(
            self.samples, other.samples, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
        )


def fingerprint_program(program: Any, feeds: Sequence[Any]) -> dict[str, Fingerprint]:
    """Run a program node by node and keep a fingerprint of each tensor, by node name.

    Args:
        program: An ExportedProgram.
        feeds: One torch tensor an input, in order.

    Returns:
        Nothing for a program that cannot be run this way.
    """
    import torch

    found: dict[str, Fingerprint] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            if isinstance(result, torch.Tensor) and not result.is_complex():
                found[n.name] = _fingerprint(result)
            return result

    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            keep_state(program_state(program)),
        ):
            torch.manual_seed(0)  # random operators then draw the same numbers in both forms
            Recorder(program.graph_module).run(*flat_arguments(program, feeds))
    except Exception:  # noqa: BLE001 -- an operator may refuse to run alone; the map then says "not confirmed"
        return {}
    return found


def _fingerprint(tensor: Any) -> Fingerprint:
    import torch

    flat = tensor.detach().reshape(-1)
    if flat.numel() > _SAMPLES:
        # Scattered, not every n-th: those may all lie in one column, or in the padding.
        places = np.random.default_rng(flat.numel()).integers(0, flat.numel(), _SAMPLES)
        flat = flat[torch.from_numpy(places)]
    return Fingerprint(
        tuple(tensor.shape), str(tensor.dtype), flat.to(torch.float64).numpy().copy()
    )


def flat_arguments(program: Any, feeds: Sequence[Any]) -> list[Any]:
    """Return what the program's flat graph takes: weights, buffers, constants, then the inputs."""
    from torch.export.graph_signature import InputKind, TensorArgument

    weights: Mapping[str, Any] = {**program.constants, **program.state_dict}
    queue = iter(feeds)
    arguments = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            arguments.append(weights[spec.target])
        elif isinstance(spec.arg, TensorArgument):
            arguments.append(next(queue).clone())
        else:
            arguments.append(spec.arg.value)
    return arguments
