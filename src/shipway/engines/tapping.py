"""Reading the intermediate tensors of an engine without changing what it computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import EngineOptions
from shipway.tensors import Tensors, TensorSpec

__all__ = [
    "AS_WITHOUT",
    "DEFAULT_TAP_BYTES",
    "Tap",
    "TapCheck",
    "TapSession",
    "Tappable",
    "TappedTensor",
]

DEFAULT_TAP_BYTES = 2 << 30
"""What a tapped run may hold in memory beyond the model, unless the user says otherwise."""

AS_WITHOUT = "all up to it is executed as without"
"""In the reason of a perturbed tap: its own value is that of the untapped run all the same."""

TapKind = Literal["input", "value", "output"]


@dataclass(frozen=True, slots=True)
class Tap:
    """A tensor that an execution can show, and what is known of it before it is run.

    Args:
        name: Its name there; no two taps of an execution share one.
        order: Its position in the order of execution, from 0.
        op: The operator that computes it, in the words of the engine: "FusedConv", "Subgraph",
            "aten.relu.default"; "" where that is not known, and for an input.
        kind: "input" and "output" are those of the model; all others are "value".
        names: Names of the same tensor in the model the engine was given (ONNX values, or nodes of
            the program), best first. The engine's own claim: `compare.matching` checks it.
        covers: What else the engine says it computes inside this operator: names of values or
            operators of that model, in its order. Empty where nothing was fused.
        layout: How the engine stores it where that is not how it is handed out: "NCHWc16" is
            handed out as NCHW.
        module: Path of the module that computes it; "" where that is not known.
        module_class: Class of that module.
        source: The line of the user's code, e.g. "net.py:18"; "" where there is none.
        code: That line.
        surmised: `names` and `covers` were concluded from sizes, not told: they are believed only
            where numbers of a clean build show them.
    """

    name: str
    order: int
    op: str = ""
    kind: TapKind = "value"
    names: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    layout: str = ""
    module: str = ""
    module_class: str = ""
    source: str = ""
    code: str = ""
    surmised: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(self)
        return {**data, "names": list(self.names), "covers": list(self.covers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tap:
        """Read what `to_json` wrote; keys it does not know are left alone."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "names": tuple(data["names"]), "covers": tuple(data["covers"])})


@dataclass(frozen=True, slots=True, eq=False)
class TappedTensor:
    """A tensor that was read. The array belongs to the receiver, in the layout of the model."""

    tap: Tap
    value: NDArray[Any]


@dataclass(frozen=True, slots=True)
class TapCheck:
    """Whether reading the tensors changed what the engine computes.

    Args:
        identical: Every output of every tapped run equals that of the untapped run, bit for bit.
        perturbed: Taps that could only be read by changing the result, with the reason: they come
            from a run whose outputs differ.
    """

    identical: bool
    perturbed: Mapping[str, str]


class TapSession(Protocol):
    """A loaded artifact whose tensors can be read."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    effective: Mapping[str, str]
    taps: tuple[Tap, ...]
    """What can be read, in the order of execution: inputs first, outputs where they are computed."""
    untapped: Mapping[str, str]
    """What the engine computes and cannot show: its name and the reason."""
    check: TapCheck | None
    """What the last finished `stream` found out; None before, and while one is under way."""

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution.

        Args:
            feeds: Every input by name.
            names: The taps to yield; None means all.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
            EngineError: The engine failed.
        """

    def close(self) -> None:
        """Give the engine's memory and threads back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Tappable(Protocol):
    """An engine whose tensors can be read; asked for with isinstance."""

    def open_taps(
        self, artifact: Artifact, options: EngineOptions, *, max_bytes: int = DEFAULT_TAP_BYTES
    ) -> TapSession:
        """Load an artifact so that its tensors can be read.

        Args:
            artifact: What `compile` made.
            options: As for `load`.
            max_bytes: What a run may hold in memory beyond the model itself, where the engine can
                keep to it.

        Raises:
            EngineMissing: The package is not installed.
            EngineError: The artifact does not load, or an option is not honoured.
            ModelError: The artifact changed since it was made.
        """
