"""An engine with a precision, as users write it: `openvino`, `openvino:bf16`, `openvino+inline`."""

from __future__ import annotations

from dataclasses import dataclass

from shipway.engines.base import PRECISIONS
from shipway.engines.registry import find_engine
from shipway.errors import UsageError

__all__ = ["GOLDEN", "Target", "parse_target"]

_INLINE = "+inline"
_PROGRAM_ENGINES = frozenset({"torch", "aotinductor"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a model is compiled for.

    Args:
        engine: Name of the engine.
        precision: Precision of computation.
        optimize: False for a golden run that is not PyTorch's.
        inline: Custom operators are written as standard ones, also those with a native kernel.
    """

    engine: str
    precision: str = "f32"
    optimize: bool = True
    inline: bool = False

    @property
    def slug(self) -> str:
        """A name for files and folders, such as `openvino-bf16`."""
        return f"{self.engine}-{self.precision}{'-inline' if self.inline else ''}"

    @property
    def title(self) -> str:
        """The engine as a report names it, beside the precision."""
        text = f"{self.engine}{_INLINE if self.inline else ''}"
        return text if self.optimize else f"{text} (optimisation off)"

    def __str__(self) -> str:
        """Write the target the way `parse_target` reads it; f32 goes without saying."""
        text = self.engine if self.precision == "f32" else f"{self.engine}:{self.precision}"
        text += _INLINE if self.inline else ""
        return text if self.optimize else f"{text} (optimisation off)"


GOLDEN = Target("torch")
"""The PyTorch execution everything is judged against."""


def parse_target(text: str) -> Target:
    """Read `engine` or `engine:precision`, either with `+inline`.

    Raises:
        UsageError: No such engine or precision, or an engine that takes no ONNX to inline.

    Example:
        >>> parse_target("openvino:bf16").slug
        'openvino-bf16'
    """
    whole = text.strip()
    inline = whole.endswith(_INLINE)
    engine, _, precision = whole.removesuffix(_INLINE).partition(":")
    precision = precision or "f32"
    if precision not in PRECISIONS:
        raise UsageError(
            f"Unknown precision '{precision}' in '{text}'.",
            hint=f"Write engine:precision with one of: {', '.join(PRECISIONS)}.",
        )
    find_engine(engine)
    if inline and engine in _PROGRAM_ENGINES:
        raise UsageError(
            f"'{text}' makes no sense: {engine} runs the program of PyTorch, not an ONNX file.",
            hint=f"Write {engine}, or take {_INLINE} with onnxruntime or openvino.",
        )
    return Target(engine, precision, inline=inline)
