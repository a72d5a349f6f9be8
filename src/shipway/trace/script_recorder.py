"""Records one call of a model inside the user's own process. Whatever goes wrong, the script runs on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from shipway.engines.tapping import Tap
from shipway.environment import package_versions
from shipway.errors import EngineError, ShipwayError, TensorError
from shipway.export.example import to_numpy
from shipway.tensors import dtype_named
from shipway.trace.filters import TapFilter
from shipway.trace.module_calls import CallRecorder, Level
from shipway.trace.module_watch import ModuleWatch
from shipway.trace.records import InputRecord, TraceHeader
from shipway.trace.script_request import ScriptRequest, claim, note_call, write_failure
from shipway.trace.statistics import tensor_crc
from shipway.trace.store import TraceWriter

__all__ = ["start"]


def start(state: Path) -> None:
    """Begin to listen; called once torch is imported.

    Args:
        state: The folder of the request.
    """
    _Recording(state).watch.start()


class _Recording:
    """Waits for the call that is asked for, writes it, and listens no more."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._request = ScriptRequest.read(state)
        self._filter = TapFilter(self._request.names, self._request.op_types)
        self._process = os.getpid()
        self._calls = 0
        self._seen: list[Tap] = []
        self._left_out = 0
        self._untapped: dict[str, str] = {}
        self._writer: TraceWriter | None = None
        self._recorder: CallRecorder | None = None
        self.watch = ModuleWatch(self._recorder_for, self._done)

    def _recorder_for(self, module: Any) -> CallRecorder | None:
        """Return a recorder for the call that is asked for: the n-th of a module with weights."""
        if self._recorder is not None or os.getpid() != self._process:
            return None
        name = f"{type(module).__module__}.{type(module).__qualname__}"
        if reason := _reason_to_pass(module):
            note_call(self._state, f"{name} ({reason})")
            return None
        self._calls += 1
        if self._calls < self._request.calls:
            note_call(self._state, name)
        elif claim(self._state):
            try:
                return self._begin(module, name)
            except ShipwayError as error:
                self._give_up(error)
            except Exception as error:  # noqa: BLE001 -- the script must run whatever is wrong with us
                self._give_up(EngineError(f"{name} cannot be recorded: {error!r}."))
        return None

    def _begin(self, module: Any, name: str) -> CallRecorder:
        folder = Path(self._request.folder)
        header = _header(module, name, self._request)
        recorder = CallRecorder(module, cast("Level", self._request.level), self._receive)
        self._writer = TraceWriter(folder, header, keep_values=self._request.keep_values)
        self._recorder = recorder
        return recorder

    def _receive(self, tap: Tap, tensor: Any) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            self._seen.append(tap)
            if tap.kind == "input":
                self._note_input(writer, tap, tensor)
            if self._filter.matches(tap):
                self._add(writer, tap, tensor)
            else:
                self._left_out += 1
        except ShipwayError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 -- the script must run whatever is wrong with us
            self._give_up(
                EngineError(f"'{tap.name}' could not be recorded: {type(error).__name__}: {error}.")
            )

    def _note_input(self, writer: TraceWriter, tap: Tap, tensor: Any) -> None:
        if _reason_against(tensor):
            return
        value = np.asarray(to_numpy(tensor), order="C")
        record = InputRecord(_dtype(tensor), tuple(value.shape), tensor_crc(value))
        inputs = {**writer.header.inputs, tap.name.removeprefix("input."): record}
        writer.header = replace(writer.header, inputs=inputs)

    def _add(self, writer: TraceWriter, tap: Tap, tensor: Any) -> None:
        if reason := _reason_against(tensor):
            self._untapped[tap.name] = reason
        else:
            writer.add(tap, np.asarray(to_numpy(tensor), order="C"))

    def _give_up(self, error: ShipwayError) -> None:
        """Leave the trace as it is, and the script alone."""
        write_failure(self._state, error)
        writer, self._writer = self._writer, None
        self.watch.stop()
        if self._recorder is not None:
            self._recorder.end()
        if writer is not None:
            writer.close()

    def _done(self, recorder: CallRecorder, failed: bool) -> None:
        self.watch.stop()
        writer = self._writer
        if writer is None:
            return
        try:
            if self._request.names or self._request.op_types:
                self._filter.refuse_unmatched(self._seen)
            if failed:
                raise EngineError(
                    f"The call of {type(recorder.root).__name__} failed: what was computed before "
                    f"is in {writer.folder}.",
                    hint="The script has printed its error.",
                )
            untapped = {**recorder.untapped, **self._untapped}
            writer.header = replace(writer.header, untapped=untapped, left_out=self._left_out)
            writer.finish(None)
            self._writer = None
        except ShipwayError as error:
            self._give_up(error)


def _reason_to_pass(module: Any) -> str:
    """Say why a call is not that of a model: "no weights", or torch only looks at it; "" else."""
    import torch
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    first = next(iter(module.parameters()), next(iter(module.buffers()), None))
    if first is None:
        return "no weights"
    kinds = {type(mode).__name__ for mode in _get_current_dispatch_mode_stack()}
    fake = type(first).__name__ == "FakeTensor" or "FakeTensorMode" in kinds
    traced = fake or torch.jit.is_tracing() or torch.compiler.is_compiling()
    return "traced by torch" if traced else ""


def _header(module: Any, name: str, request: ScriptRequest) -> TraceHeader:
    import torch

    return TraceHeader(
        engine="torch",
        precision=_precision(module),
        model=name,
        effective={
            "runtime": "PyTorch",
            "version": torch.__version__,
            "provider": "eager script",
            "command": " ".join(request.command),
            "module": name,
            "level": request.level,
            "call": str(request.calls),
            "device": _device(module),
            "training": str(bool(module.training)).lower(),
            "threads": str(torch.get_num_threads()),
        },
        versions=package_versions(),
    )


def _precision(module: Any) -> str:
    """Name what most of the weights are in, or what autocast makes of it; f64 counts as f32."""
    import torch

    device = _device(module).partition(":")[0]
    short = {torch.bfloat16: "bf16", torch.float16: "f16"}
    if torch.is_autocast_enabled(device):
        return short.get(torch.get_autocast_dtype(device), "f32")
    sizes: dict[str, int] = {}
    for value in module.parameters():
        key = short.get(value.dtype, "f32")
        sizes[key] = sizes.get(key, 0) + value.numel()
    return max(sizes, key=sizes.__getitem__, default="f32")


def _device(module: Any) -> str:
    first = next(module.parameters(), None)
    first = next(module.buffers(), None) if first is None else first
    return "cpu" if first is None else str(first.device)


def _dtype(tensor: Any) -> str:
    return dtype_named(str(tensor.dtype).removeprefix("torch.")).name


def _reason_against(tensor: Any) -> str:
    """Say why a tensor cannot be kept; "" where it can."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"a {'quantized' if tensor.is_quantized else tensor.layout} tensor"
    if tensor.device.type == "meta" or type(tensor).__name__ == "FakeTensor":
        return "a tensor without values"
    try:
        _dtype(tensor)
    except TensorError:
        return f"{tensor.dtype}: no dtype that Shipway carries"
    return ""
