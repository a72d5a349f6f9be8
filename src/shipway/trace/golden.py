"""What a golden offers to a comparison: its tensors, pure and teacher-forced, and its pieces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.tensors import Tensors, TensorSpec

__all__ = ["ActualTensors", "Golden", "GoldenTensor", "Operator", "Piece", "Variant"]

ActualTensors = Callable[[str], NDArray[Any] | None]
"""Returns the engine's tensor for a golden name, in golden's shape; None where it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class GoldenTensor:
    """A tensor of the golden, computed twice.

    Args:
        tap: Which tensor.
        value: As the golden computes it from the inputs of the model alone.
        local: As the golden computes it where every tensor before it that the engine has is the
            engine's own. The same array as `value` where no such tensor lies before it.
    """

    tap: Tap
    value: NDArray[Any]
    local: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a piece.

    Args:
        name: Name of the tensor it computes, by which the golden knows it.
        op: Its type: "Softmax", "aten.gelu.default".
        inputs: Names of the tensors it reads; weights and constants included.
        module: Path of the module it belongs to.
        source: Line of the user's code.
        code: That line.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    module: str = ""
    source: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """What a piece gives when one of its operators does another thing.

    Args:
        cause: The kind of fault this would be; one of `compare.causes.CAUSES`.
        title: What is different, e.g. "softmax along axis 1 instead of 2".
        operator: Name of the operator that is different.
        run: Runs the piece that way and returns the tensor at its end.
    """

    cause: str
    title: str
    operator: str
    run: Callable[[Tensors], NDArray[Any]]


class Piece(Protocol):
    """The operators between tensors that the engine shows and one more of them."""

    output: str
    """Name of the tensor at its end."""
    inputs: tuple[str, ...]
    """Names of the tensors it starts from: those the engine shows, and inputs of the model."""
    operators: tuple[Operator, ...]
    """In the order of execution; the last one computes `output`."""

    def run(self, feeds: Tensors, rounding: str = "f32") -> NDArray[Any]:
        """Compute the tensor at the end.

        Args:
            feeds: Every tensor of `inputs`.
            rounding: "f32" computes as the golden does; "f64" in double precision; "bf16" and "f16"
                round every input, weight and result of every operator to that precision, to show
                which error that alone makes.
        """

    def variants(self) -> Iterator[Variant]:
        """Yield what the usual mistakes with these operators would give."""

    def save(self, folder: Path) -> Path:
        """Write the piece as a model of its own into `folder` and return its path."""


class Golden(Protocol):
    """The execution that others are judged against."""

    title: str
    """What it is, for a reader: "torch (model.pt2)"."""
    inputs: tuple[TensorSpec, ...]
    taps: tuple[Tap, ...]
    """Every tensor it can show, in the order of execution: inputs, values, outputs."""
    outputs: Mapping[str, str]
    """For each output of the model, the name of its tap."""

    def walk(
        self, feeds: Tensors, actual: ActualTensors, names: Collection[str] | None = None
    ) -> Iterator[GoldenTensor]:
        """Run once and yield tensors in the order of execution, each computed twice.

        Before the execution goes on behind a tensor, `actual` is asked for it; what it returns
        takes its place in the second ("teacher-forced") execution. With an `actual` that always
        returns None this is a plain run, and costs no more.

        Args:
            feeds: Every input by name.
            actual: The engine's tensors. Asked once for each tap, inputs excepted.
            names: The taps to yield; None means all.

        Raises:
            TensorError: A feed, or a tensor of `actual`, does not fit.
            EngineError: An operator failed.
        """

    def piece(self, name: str, starts: Collection[str]) -> Piece:
        """Return the operators that lead to a tensor from others.

        Args:
            name: The tensor at the end.
            starts: The tensors to start from where one is met; inputs of the model always count.
        """
