"""What the user asks of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shipway.errors import UsageError

__all__ = ["CUSTOM_OPS", "OLDEST_LEGACY_OPSET", "OLDEST_OPSET", "ExportOptions"]

OLDEST_OPSET = 18
"""The exporter of torch.export programs has translations from here on; below, it says it converts
and delivers 18 all the same."""
OLDEST_LEGACY_OPSET = 9
CUSTOM_OPS = ("auto", "node", "function", "inline")
"""Forms a custom operator may take in the ONNX file; see `ExportOptions.custom_ops`."""


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
        custom_ops: How custom operators are written. "node": a bare node of their own domain, for
            engines that have a kernel. "function": the same, with its portable body as a local
            function. "inline": standard operators only. "auto": nodes, but those that were defined
            with torch.library alone, which no engine has a kernel for, are inlined.
        custom_ops_domain: Domain in which to call them by the name they have there ("npu"; "" is
            the default domain); None is their own.

    Raises:
        UsageError: A value makes no sense.
    """

    opset: int = 20
    legacy: bool = False
    fold: bool = True
    outputs: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    custom_ops: str = "auto"
    custom_ops_domain: str | None = None

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
        if self.custom_ops not in CUSTOM_OPS:
            raise UsageError(
                f"Custom operators cannot be written as '{self.custom_ops}'.",
                hint=f"Write one of {', '.join(CUSTOM_OPS)}.",
            )
        if self.custom_ops_domain is not None and self.custom_ops == "inline":
            raise UsageError(
                "Operators that are inlined have no name in any domain.",
                hint="Leave out --custom-ops-domain, or --custom-ops inline.",
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
            "custom_ops": self.custom_ops,
            "custom_ops_domain": self.custom_ops_domain,
        }
