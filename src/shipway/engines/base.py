"""What an engine must offer: pre-flight, lower, compile, load; and a session that runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.closing import Closing
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import ANY, Tensors, TensorSpec, check_feeds, dtype_named

__all__ = [
    "PRECISIONS",
    "Availability",
    "BaseSession",
    "Device",
    "Engine",
    "EngineOptions",
    "Finding",
    "Session",
]

PRECISIONS = ("f32", "bf16", "f16")


@dataclass(frozen=True, slots=True)
class Device:
    """A device an engine can use: its name there (say "CPU") and what it is."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an engine can be used here.

    Args:
        installed: Its package imports.
        version: Version of the package, "" when absent.
        devices: Devices it offers.
        why: Why it cannot be used; "" when it can.
        install: The command that brings it in; "" when it is there.
    """

    installed: bool
    version: str = ""
    devices: tuple[Device, ...] = ()
    why: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the pre-flight noticed: an "error" stops the compilation, a "warning" is told."""

    severity: Literal["error", "warning"]
    message: str
    where: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the user asks of an engine. What is really in force is in `session.effective`.

    Args:
        precision: "f32", "bf16" or "f16": the precision of computation; inputs and outputs keep
            their dtypes. An engine that cannot honour it raises EngineError.
        threads: Threads inside one operator; 0 means all physical cores this process may use.
        device: Device name of the engine; "" is the CPU.
        optimize: False switches graph optimisation off, for proofs and golden runs.
        inline: Custom operators are written as standard ones, also those with a native kernel.
        extra: Options of one engine, by their own names.
    """

    precision: str = "f32"
    threads: int = 0
    device: str = ""
    optimize: bool = True
    inline: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device,
            "optimize": self.optimize,
            "inline": self.inline,
            "extra": dict(self.extra),
        }


class Session(Protocol):
    """A loaded artifact that runs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    effective: Mapping[str, str]

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Run once. `feeds` holds every input by name; the result every output by name."""

    def submit(self, feeds: Tensors) -> Future[dict[str, NDArray[Any]]]:
        """Start a run and return at once; several may be in flight."""

    def close(self) -> None:
        """Give the engine's memory and threads back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Engine(Protocol):
    """A runtime that compiles a portable model and loads what it compiled."""

    name: str

    def probe(self) -> Availability:
        """Say whether the engine can be used here, without raising."""

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Pre-flight: what this engine will not take, found before compiling."""

    def lower(self, model: PortableModel, folder: Path, *, inline: bool = False) -> PortableModel:
        """Rewrite the model into what the target accepts; new files go into `folder`.

        Args:
            model: The model.
            folder: Where new files go.
            inline: Write all custom operators as standard ones, also those with a native kernel.
        """

    def compile(self, model: PortableModel, options: EngineOptions, folder: Path) -> Artifact:
        """Compile into `folder` and return the artifact, side-car written.

        Raises:
            EngineMissing: The package is not installed.
            EngineError: The compiler refuses the model or an option.
            ModelError: The model file is not usable.
        """

    def load(self, artifact: Artifact, options: EngineOptions) -> Session:
        """Load a compiled artifact.

        Raises:
            EngineMissing: The package is not installed.
            EngineError: The artifact does not load, or an option is not honoured.
        """


class BaseSession(Closing):
    """What every session shares: checked feeds and outputs, futures, `with`. Engines derive from it.

    A session may be used from several threads. Feeds handed to `submit` must stay unchanged until
    the future is done; outputs belong to the caller and no later run changes them.
    """

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        effective: Mapping[str, str],
    ) -> None:
        """Keep the specs and the facts; no thread is started before the first `submit`."""
        self.inputs = inputs
        self.outputs = outputs
        self.effective: Mapping[str, str] = dict(effective)
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Run once; see `Session.run`.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
            EngineError: The engine failed, broke a promise about its outputs, or is closed.
        """
        self._refuse_closed()
        return self._run_checked(feeds, self._check(feeds))

    def _check(self, feeds: Tensors) -> dict[str, int]:
        """Refuse feeds that do not fit, and return the symbolic sizes.

        An engine with limits of its own adds them here.
        """
        return check_feeds(self.inputs, feeds)

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Run with feeds that fit the specs; the arrays returned must not be engine memory."""
        raise NotImplementedError

    def _release(self) -> None:
        """Drop what the engine holds; called once, when no run is in flight on the pool."""

    def _run_checked(self, feeds: Tensors, sizes: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        outputs = self._run(feeds)
        for spec in self.outputs:
            _check_output(spec, outputs.get(spec.name), sizes)
        return outputs

    def submit(self, feeds: Tensors) -> Future[dict[str, NDArray[Any]]]:
        """Start a run on a worker thread; see `Session.submit`. Runs start in the order given."""
        sizes = self._check(feeds)
        with self._lock:
            self._refuse_closed()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shipway-session")
            return self._pool.submit(self._run_checked, feeds, sizes)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise EngineError("This session is closed.", hint="Load the artifact again.")

    def close(self) -> None:
        """Wait for runs in flight and let go of the engine; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self._release()


def _check_output(spec: TensorSpec, value: NDArray[Any] | None, sizes: Mapping[str, int]) -> None:
    if value is None:
        raise EngineError(f"The engine returned no output '{spec.name}'.")
    if value.dtype != dtype_named(spec.dtype).numpy:
        raise EngineError(
            f"Output '{spec.name}' came out as {value.dtype}; the model promises {spec.dtype}."
        )
    if spec.shape is None:
        return
    wanted = [sizes.get(dim, ANY) if isinstance(dim, str) else dim for dim in spec.shape]
    fits = len(wanted) == value.ndim and all(
        dim in {ANY, size} for dim, size in zip(wanted, value.shape, strict=True)
    )
    if not fits:
        raise EngineError(
            f"Output '{spec.name}' came out with shape {list(value.shape)}; "
            f"the model promises {spec}, here [{', '.join(map(str, wanted))}]."
        )
