"""An engine with a precision, as users write it: `openvino` or `openvino:bf16`."""

from __future__ import annotations

from dataclasses import dataclass

from shipway.engines.base import PRECISIONS
from shipway.engines.registry import find_engine
from shipway.errors import UsageError

__all__ = ["GOLDEN", "Target", "parse_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a model is compiled for.

    Args:
        engine: Name of the engine.
        precision: Precision of computation.
        optimize: False for a golden run that is not PyTorch's.
    """

    engine: str
    precision: str = "f32"
    optimize: bool = True

    @property
    def slug(self) -> str:
        """A name for files and folders, such as `openvino-bf16`."""
        return f"{self.engine}-{self.precision}"

    def __str__(self) -> str:
        """Write the target the way `parse_target` reads it; f32 goes without saying."""
        text = self.engine if self.precision == "f32" else f"{self.engine}:{self.precision}"
        return text if self.optimize else f"{text} (optimisation off)"


GOLDEN = Target("torch")
"""The PyTorch execution everything is judged against."""


def parse_target(text: str) -> Target:
    """Read `engine` or `engine:precision`.

    Raises:
        UsageError: No such engine or precision.

    Example:
        >>> parse_target("openvino:bf16").slug
        'openvino-bf16'
    """
    engine, _, precision = text.strip().partition(":")
    precision = precision or "f32"
    if precision not in PRECISIONS:
        raise UsageError(
            f"Unknown precision '{precision}' in '{text}'.",
            hint=f"Write engine:precision with one of: {', '.join(PRECISIONS)}.",
        )
    find_engine(engine)
    return Target(engine, precision)
