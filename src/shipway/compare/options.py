"""How two executions are compared, and which limits that means for a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shipway.compare.verdict import Limits, limits_for
from shipway.engines.tapping import DEFAULT_TAP_BYTES

__all__ = ["DiagnoseOptions", "coarsest", "limits_of"]

_PRECISION_OF = {"float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class DiagnoseOptions:
    """How to compare.

    Args:
        precision: "f32", "bf16" or "f16": what the engine under test computed in.
        links: Golden's name for a name of the engine's model, where they differ; see
            `compare.links.link_names`.
        user: Golden's name for a tensor of the engine, by the user.
        known: Why a tensor of the engine has no counterpart, where that is known beforehand.
        limits: Limits other than those of the precision.
        max_bytes: Memory for the engine's tensors; what exceeds it lies on disk.
        causes: How many culprits to look into.
        replay: Folder for the smallest pieces that show a fault; None: none are written.
    """

    precision: str = "f32"
    links: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    limits: Limits | None = None
    max_bytes: int = DEFAULT_TAP_BYTES
    causes: int = 8
    replay: Path | None = None


def coarsest(precision: str, *dtypes: str) -> str:
    """Return the coarsest of an engine's precision and the dtypes of tensors.

    Example:
        >>> coarsest("f32", "float16", "float32")
        'f16'
    """
    precisions = {precision, *(_PRECISION_OF.get(one, "f32") for one in dtypes)}
    return max(precisions, key=lambda one: limits_for(one, local=True).relative_l2)


def limits_of(options: DiagnoseOptions, golden: str, actual: str, *, local: bool) -> Limits:
    """Return the limits for one tensor: of the coarsest of the engine's precision and two dtypes.

    Args:
        options: The engine's precision, or limits of the user's.
        golden: Golden's dtype.
        actual: The engine's.
        local: For a local error.
    """
    if options.limits is not None:
        return options.limits
    return limits_for(coarsest(options.precision, golden, actual), local=local)
