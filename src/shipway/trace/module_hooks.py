"""The tensors inside a PyTorch model that does not export: what each of its modules returns."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.engines.base import EngineOptions
from shipway.engines.exported import TORCH_NOISE
from shipway.engines.requests import engine_errors, thread_count
from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.engines.torch.tap_session import require_taps
from shipway.engines.torch.walking import SEED, own_array
from shipway.environment import package_version
from shipway.errors import EngineError, UsageError
from shipway.export.example import Arguments, keep_state, to_torch
from shipway.export.outputs import flatten_outputs
from shipway.export.signature import bind_inputs
from shipway.source.loading import LoadedSource
from shipway.tensors import Tensors, TensorSpec, check_feeds, random_feeds
from shipway.trace.module_calls import CallRecorder, Level
from shipway.trace.module_watch import ModuleWatch
from shipway.trace.statistics import tensor_crc

__all__ = ["ModuleSession", "open_modules"]


class _Abandoned(BaseException):
    """The receiver of a stream went away. No error: nothing between here and there may catch it."""


def open_modules(
    source: LoadedSource, example: Tensors | None = None, *, level: Level = "module"
) -> ModuleSession:
    """Open a PyTorch model so that its tensors can be read, whether it exports or not.

    Args:
        source: What `load_source` returned for a module; its input specs say what `forward` takes.
        example: Every input by name; None makes random ones, each dynamic size 1.
        level: "module": what each module returns; "operator": what each ATen operator returns.

    Raises:
        UsageError: The source is no PyTorch module.
        ExportError: `forward` does not take these inputs.
        TensorError: A feed does not fit.
        EngineError: The model failed.
    """
    if source.module is None:
        raise UsageError(
            f"{source.reference} is no PyTorch module.",
            hint="shipway trace MODEL reads the tensors of a .pt2 or .onnx file.",
        )
    binding = bind_inputs(source.module.forward, source.inputs)
    feeds = random_feeds(binding.specs) if example is None else example
    return ModuleSession(source.module, binding, feeds, level=level)


class ModuleSession(Closing):
    """A PyTorch module as a session whose tensors can be read; see `TapSession`.

    The module runs as it is, on the CPU, in eager mode and without gradients, on a thread of its own
    that waits while a tensor is looked at. Its state is put back after each run.
    """

    def __init__(
        self, module: Any, arguments: Arguments, example: Tensors, *, level: Level = "module"
    ) -> None:
        """Run once on an example, to learn which tensors there are.

        Args:
            module: The torch.nn.Module, in eval mode.
            arguments: Its inputs, and how their values are passed to it.
            example: Every input by name.
            level: "module": what each module returns; "operator": what each ATen operator returns.

        Raises:
            TensorError: A feed does not fit.
            EngineError: The model failed.
        """
        self._module: Any = module
        self._arguments = arguments
        self._level: Level = level
        self._threads = thread_count(EngineOptions())
        self.inputs: tuple[TensorSpec, ...] = arguments.specs
        self.untapped: Mapping[str, str] = {}
        self.check: TapCheck | None = None
        self.effective: Mapping[str, str] = {
            "runtime": "PyTorch",
            "version": package_version("torch"),
            "provider": "eager module",
            "device": "CPU",
            "precision": _precision(module),
            "threads": str(self._threads),
        }
        check_feeds(self.inputs, example)
        taps: list[Tap] = []
        outputs: list[TensorSpec] = []

        def note(tap: Tap, tensor: Any) -> None:
            taps.append(tap)
            if tap.kind == "output":
                dtype = str(tensor.dtype).removeprefix("torch.")
                outputs.append(TensorSpec(tap.name, dtype, tuple(tensor.shape)))

        recorder = self._run(example, note)
        self.untapped = recorder.untapped
        self.taps: tuple[Tap, ...] = tuple(taps)
        self.outputs: tuple[TensorSpec, ...] = tuple(outputs)

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution; see `TapSession.stream`.

        Raises:
            UsageError: `names` has one that is no tap.
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
            EngineError: The model failed, or the session is closed.
        """
        if self._module is None:
            raise EngineError("This session is closed.", hint="Open it again.")
        check_feeds(self.inputs, feeds)
        require_taps(names, self.taps)
        self.check = None
        plain = list(map(_identity, self._execute(feeds)))
        tapped = []
        for tap, value in self._handed_over(feeds, names):
            if tap.kind == "output":
                tapped.append(_identity(value))
            if names is None or tap.name in names:
                yield TappedTensor(tap, value)
        reason = "the model returns other numbers from one run to the next"
        perturbed = {tap.name: reason for tap in self.taps if tap.kind != "input"}
        self.check = TapCheck(plain == tapped, {} if plain == tapped else perturbed)

    def _handed_over(
        self, feeds: Tensors, names: Collection[str] | None
    ) -> Iterator[tuple[Tap, NDArray[Any]]]:
        """Run on a thread of its own and yield each tensor while that thread waits."""
        items: queue.Queue[Any] = queue.Queue(maxsize=1)
        abandoned = threading.Event()

        def put(item: Any) -> None:
            while not abandoned.is_set():
                with contextlib.suppress(queue.Full):
                    items.put(item, timeout=0.1)
                    return
            raise _Abandoned

        def receive(tap: Tap, tensor: Any) -> None:
            if names is None or tap.name in names or tap.kind == "output":
                put((tap, own_array(tensor)))

        def work() -> None:
            with contextlib.suppress(_Abandoned):
                try:
                    self._run(feeds, receive)
                    put(None)
                except _Abandoned:
                    raise
                except BaseException as error:  # noqa: BLE001 -- raised again where the tensors are received
                    put(error)

        thread = threading.Thread(target=work, name="shipway-modules", daemon=True)
        thread.start()
        try:
            while (item := items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            abandoned.set()
            thread.join()

    def _run(self, feeds: Tensors, receive: Callable[[Tap, Any], None]) -> CallRecorder:
        """Run and hand every tensor on, on the thread of the model."""
        recorder = CallRecorder(self._module, self._level, receive)
        owner = threading.get_ident()

        def recorder_for(called: Any) -> CallRecorder | None:
            mine = called is self._module and threading.get_ident() == owner
            return recorder if mine else None

        watch = ModuleWatch(recorder_for, lambda _recorder, _failed: None)
        watch.start()
        try:
            self._execute(feeds)
        finally:
            recorder.end()
            watch.stop()
        return recorder

    def _execute(self, feeds: Tensors) -> list[NDArray[Any]]:
        """Run and return every tensor of the result.

        Other sessions may run while the receiver looks at a tensor, so the process-wide settings of
        PyTorch are set, and not held.
        """
        import torch

        values = {name: to_torch(value) for name, value in feeds.items()}
        args, kwargs = self._arguments.arguments(values)
        with (
            engine_errors("The model failed", TORCH_NOISE),
            torch.no_grad(),
            keep_state(self._module.buffers()),
            torch.random.fork_rng(devices=[]),
        ):
            torch.set_num_threads(self._threads)
            torch.manual_seed(SEED)
            result = self._module(*args, **kwargs)
            return [own_array(tensor) for tensor in flatten_outputs(result).tensors]

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


def _identity(value: NDArray[Any]) -> tuple[Any, ...]:
    return value.shape, value.dtype.name, tensor_crc(value)


def _precision(module: Any) -> str:
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}
    names = {str(value.dtype).removeprefix("torch.") for value in module.parameters()}
    return "+".join(sorted(short[name] for name in names & set(short))) or "f32"
