"""Compare two sides tensor by tensor, with what each of them offers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.cli.flags import Flag, read_bytes
from shipway.cli.sides import Side, portable_of
from shipway.compare.bisection import Bisection, Prober, bisect_model
from shipway.compare.diagnose import Diagnoser
from shipway.compare.diagnosis import Diagnosis
from shipway.compare.execution import Execution, read_golden, read_session, read_trace
from shipway.compare.links import explain_values, link_names
from shipway.compare.options import DiagnoseOptions
from shipway.compare.stored import diagnose_stored
from shipway.compare.user_map import read_user_map
from shipway.engines.base import EngineOptions
from shipway.engines.opening import asked_options, compile_target
from shipway.engines.registry import find_engine
from shipway.engines.tapping import Tappable, TapSession
from shipway.engines.target import Target
from shipway.errors import EngineError, TensorError, UsageError
from shipway.export.name_map import read_name_map
from shipway.export.portable import PortableModel
from shipway.files import file_sha256
from shipway.progress import Progress
from shipway.tensors import Tensors
from shipway.trace.goldens import open_golden
from shipway.trace.shelf import Shelf

__all__ = ["DiagnoseFlags", "bisect_sides", "diagnose_sides", "why_not_tapped"]

_CLEAN_BUILDS = frozenset({"onnxruntime", "openvino", "aotinductor"})
"""Engines of which a clean build can be had and is needed: what they call their tensors is checked."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnoseFlags:
    """How to compare tensor by tensor.

    Args:
        outputs_only: Compare the outputs and nothing else.
        bisect: For an engine whose tensors cannot be read: build it up to one value after another.
        map: YAML or JSON with pairs "tensor of the engine: tensor of golden".
        double: Compute golden in float64 (a .pt2 only).
        max_memory: Memory for tensors, e.g. 2G; what exceeds it lies on disk for the time being.
        causes: How many faults to look into.
        replay: Write the smallest piece of the model that shows each fault into this folder.
        order: Tensors in the order of execution, or the worst first.
        every: Show every tensor, not only what matters.
    """

    outputs_only: Flag = False
    bisect: Flag = False
    map: Path | None = None
    double: Flag = False
    max_memory: str = "2G"
    causes: int = 8
    replay: Path | None = None
    order: Literal["execution", "worst"] = "execution"
    every: Annotated[Flag, Parameter(name="--all")] = False

    def options(self, precision: str) -> DiagnoseOptions:
        """Return options of a comparison; names are added by what is compared."""
        if self.causes < 1:
            raise UsageError(f"--causes must be 1 or more, not {self.causes}.")
        return DiagnoseOptions(
            precision=precision,
            user={} if self.map is None else read_user_map(self.map),
            max_bytes=read_bytes(self.max_memory, "--max-memory"),
            causes=self.causes,
            replay=self.replay,
        )


def why_not_tapped(side: Side) -> str:
    """Say why the tensors of a side cannot be read; "" where they can."""
    if side.trace is not None:
        return ""
    if side.opened is None:
        return f"{side.label} is a set of saved tensors"
    if not isinstance(find_engine(side.opened.target.engine), Tappable):
        return f"the tensors of {side.opened.target.engine} cannot be read; --bisect goes without"
    return ""


def diagnose_sides(
    golden: Side,
    actual: Side,
    feeds: Tensors | None,
    flags: DiagnoseFlags,
    engine: EngineOptions,
    *,
    precision: str,
    progress: Progress,
) -> Diagnosis:
    """Compare two sides tensor by tensor.

    Args:
        golden: A model or a trace.
        actual: A model or a trace.
        feeds: Every input by name; None takes those that a trace holds.
        flags: How to compare.
        engine: Threads and device.
        precision: Whose limits to use.
        progress: Told of the steps.

    Raises:
        ShipwayError: Something of it cannot be opened, run or read.
    """
    options = flags.options(precision)
    with ExitStack() as stack:
        job = _Job(golden, actual, flags, engine, options, progress, stack)
        if feeds is None:
            feeds = job.inputs_of_trace()
        return job.run(feeds)


@dataclass(slots=True)
class _Job:
    golden: Side
    actual: Side
    flags: DiagnoseFlags
    engine: EngineOptions
    options: DiagnoseOptions
    progress: Progress
    stack: ExitStack

    def run(self, feeds: Tensors | None) -> Diagnosis:
        model = portable_of(self.golden, self._folder()) if self._has_golden() else None
        self._add_names(model)
        actual = self._execution(self.actual, feeds)
        if model is None or feeds is None:
            return diagnose_stored(self._execution(self.golden, feeds), actual, self.options)
        from_onnx = self.golden.request is not None and self.golden.request.reference.endswith(
            ".onnx"
        )
        golden = self.stack.enter_context(
            open_golden(
                model,
                self.engine,
                from_onnx=from_onnx,
                double=self.flags.double,
                max_bytes=self.options.max_bytes,
            )
        )
        if self.actual.trace is not None and not self.actual.trace.has_values:
            shelf = self._shelf()
            read = read_golden(golden, feeds, shelf, self.progress)
            return diagnose_stored(read, actual, self.options)
        diagnoser = Diagnoser(golden, feeds, self.progress)
        if self._is_clean_build(model):
            diagnoser.learn_from(actual)
        else:
            with self._clean_build(model) as clean:
                if clean is not None:
                    diagnoser.learn(clean)
        return diagnoser.diagnose(actual, self.options)

    def inputs_of_trace(self) -> Tensors | None:
        """Return the inputs a trace holds; None where neither side is a trace that holds them."""
        for side, other in ((self.actual, self.golden), (self.golden, self.actual)):
            trace = side.trace
            if trace is None:
                continue
            kept = [one for one in trace.records if one.tap.kind == "input" and one.file]
            if kept and len(kept) == len(trace.header.inputs):
                names = _names_for(list(trace.header.inputs), other)
                return {name: trace.read(one.name) for name, one in zip(names, kept, strict=True)}
        return None

    def _has_golden(self) -> bool:
        """Whether golden is a model that is walked: its engine is PyTorch, or nobody named one."""
        target = self.golden.target
        return self.golden.opened is not None and (
            self.golden.opened.target.engine == "torch"
            or (target is None and self.golden.opened.target.engine == "onnxruntime")
        )

    def _add_names(self, model: PortableModel | None) -> None:
        """Lead from the names of the engine's model to those of golden, by the name map."""
        own = portable_of(self.actual, self._folder())
        found = next((one.name_map for one in (own, model) if one and one.name_map), None)
        if found is None or self.golden.request is None:
            return
        if self.golden.request.reference.endswith(".onnx"):
            return
        name_map = read_name_map(found)
        self.options = replace(
            self.options, links=link_names(name_map), known=explain_values(name_map)
        )

    def _execution(self, side: Side, feeds: Tensors | None) -> Execution:
        if side.trace is not None:
            return read_trace(side.trace, side.label)
        if side.opened is None:
            raise UsageError(f"{side.label} is neither a model nor a trace.")
        if feeds is None:
            raise UsageError(
                f"{side.label} is to be run on the inputs of the trace, which does not hold them.",
                hint="Give them with --input name=file.",
            )
        session = self._tapped(side)
        return read_session(session, feeds, self._shelf(), side.label, self.progress)

    def _tapped(self, side: Side) -> TapSession:
        if side.opened is None:
            raise UsageError(f"{side.label} is no model whose tensors can be read.")
        target = side.opened.target
        session = _open_taps(side.opened.artifact, target, self.engine, self.options.max_bytes)
        self.stack.callback(session.close)
        return session

    @contextmanager
    def _clean_build(self, model: PortableModel) -> Iterator[TapSession | None]:
        """Yield golden's own graph, built in f32 for the engine under test; None where there is none."""
        opened = self.actual.opened
        name = self._engine_of_trace() if opened is None else opened.target.engine
        source = model.program if name == "aotinductor" else model.onnx
        if source is None or name not in _CLEAN_BUILDS:
            yield None
            return
        target = Target(name)
        self.progress.start(f"build {target} clean, to know its tensors by")
        artifact = compile_target(model, target, self.engine, self._folder())
        session = _open_taps(artifact, target, self.engine, self.options.max_bytes)
        try:
            yield session
        finally:
            session.close()

    def _is_clean_build(self, model: PortableModel) -> bool:
        """Whether the engine under test is AOTInductor on golden's own program, in f32.

        Another build would be the same again, and takes it half a minute.
        """
        opened = self.actual.opened
        if opened is None or opened.target != Target("aotinductor") or model.program is None:
            return False
        return bool(opened.artifact.made.get("source_sha256") == file_sha256(model.program))

    def _engine_of_trace(self) -> str:
        trace = self.actual.trace
        return "" if trace is None else trace.header.engine.partition(":")[0]

    def _folder(self) -> Path:
        return Path(
            self.stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-compare-"))
        )

    def _shelf(self) -> Shelf:
        return self.stack.enter_context(Shelf(self.options.max_bytes))


def _names_for(names: list[str], side: Side) -> list[str]:
    """Return what a model calls the inputs of a trace: as the trace does, or by position."""
    own = [] if side.opened is None else [spec.name for spec in side.opened.session.inputs]
    return own if set(own) != set(names) and len(own) == len(names) else names


def _open_taps(
    artifact: Artifact, target: Target, options: EngineOptions, max_bytes: int
) -> TapSession:
    engine = find_engine(target.engine)
    if not isinstance(engine, Tappable):
        raise EngineError(
            f"The tensors of {target.engine} cannot be read.",
            hint="shipway compare GOLDEN MODEL --bisect goes without.",
        )
    return engine.open_taps(artifact, asked_options(options, target), max_bytes=max_bytes)


def bisect_sides(
    golden: Side,
    actual: Side,
    feeds: Tensors,
    engine: EngineOptions,
    *,
    max_bytes: int,
    progress: Progress,
) -> Bisection:
    """Find the first wrong value of an engine by building it up to one value after another.

    Args:
        golden: A model.
        actual: A model, or an artifact whose source is still there.
        feeds: Every input by name.
        engine: Threads and device.
        max_bytes: Memory for tensors.
        progress: Told of every build.

    Raises:
        UsageError: A side is no model, or there is no ONNX file to cut.
        ShipwayError: Something cannot be opened or run.
    """
    if golden.opened is None or actual.opened is None:
        raise UsageError("--bisect builds models; a trace or saved tensors cannot be built.")
    with ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-compare-")))
            for _ in range(2)
        ]
        models = [
            portable_of(side, folder)
            for side, folder in zip((golden, actual), folders, strict=True)
        ]
        if models[0] is None or models[1] is None:
            gone = (golden, actual)[models[0] is not None].label
            raise UsageError(
                f"The model that {gone} was compiled from is gone or has changed.",
                hint="Give the model file, with @engine behind it.",
            )
        shelf = stack.enter_context(Shelf(max_bytes))
        opened = stack.enter_context(
            open_golden(models[0], engine, from_onnx=True, max_bytes=max_bytes)
        )
        read = read_golden(opened, feeds, shelf, progress)
        prober = Prober(
            models[1], actual.opened.target, engine, feeds, lambda name: _value(read, name)
        )
        names = [tap.name for tap in read.taps if tap.kind != "input"]
        return bisect_model(prober, names, progress=progress)


def _value(read: Execution, name: str) -> NDArray[Any]:
    value = read.read(name)
    if value is None:
        raise TensorError(f"Golden has no tensor '{name}'.")
    return value
