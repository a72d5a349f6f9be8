"""What the user asks of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shipway.errors import UsageError

__all__ = ["OLDEST_LEGACY_OPSET", "OLDEST_OPSET", "ExportOptions"]

OLDEST_OPSET = 18
"""The exporter of torch.export programs has translations from here on; below, it says it converts
and delivers 18 all the same."""
OLDEST_LEGACY_OPSET = 9


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user asks of an export.

    Args:
        opset: ONNX opset to deliver, checked in the file that came out.
        legacy: Use the old TorchScript tracer, the only route to opsets 9 to 17.
        fold: Fold Conv+BN and constants and drop what does nothing, as users expect.
        outputs: Names of the outputs, in order; () derives them: the keys of a dict, the fields of
            a dataclass, "output" for a single tensor, "output_0", "output_1" for a tuple.
        bounds: Smallest and largest size of a dynamic dimension, by its name.

    Raises:
        UsageError: A value makes no sense.
    """

    opset: int = 20
    legacy: bool = False
    fold: bool = True
    outputs: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no exporter could deliver."""
        if self.opset < OLDEST_LEGACY_OPSET:
            raise UsageError(
                f"Opset {self.opset} cannot be exported.",
                hint=f"The oldest is {OLDEST_LEGACY_OPSET}, with --legacy.",
            )
        if "" in self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise UsageError(
                f"Output names must be different and not empty: {', '.join(self.outputs)}."
            )
        for name, (low, high) in self.bounds.items():
            if not 1 <= low <= high:
                raise UsageError(
                    f"Bounds of dimension '{name}' are {low}..{high}.",
                    hint="Give a smallest size of at least 1 and a largest size not below it.",
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "opset": self.opset,
            "legacy": self.legacy,
            "fold": self.fold,
            "outputs": list(self.outputs),
            "bounds": {name: list(limits) for name, limits in self.bounds.items()},
        }
