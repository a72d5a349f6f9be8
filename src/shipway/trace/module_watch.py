"""Hooks on every PyTorch module of the process, which find the outermost call."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

from shipway.trace.module_calls import CallRecorder

__all__ = ["ModuleWatch"]


class ModuleWatch:
    """Hands the outermost calls of modules to recorders, each thread's for itself."""

    def __init__(
        self,
        recorder_for: Callable[[Any], CallRecorder | None],
        done: Callable[[CallRecorder, bool], None],
    ) -> None:
        """Do nothing yet.

        Args:
            recorder_for: Asked at each outermost call, with the module; None lets it pass.
            done: Told when a recorded call ended, and whether it failed.
        """
        self._recorder_for = recorder_for
        self._done = done
        self._handles: list[Any] = []
        self._threads = threading.local()

    def start(self) -> None:
        """Begin to listen."""
        from torch.nn.modules import module as hooks

        self._handles = [
            hooks.register_module_forward_pre_hook(self._before),
            hooks.register_module_forward_hook(self._after, always_call=True),
        ]

    def stop(self) -> None:
        """Listen no more; a second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def _calls(self) -> list[tuple[Any, BaseException | None]]:
        """The modules that are running on this thread, with the error being handled at the call."""
        found: list[Any] = self._threads.__dict__.setdefault("calls", [])
        return found

    def _before(self, module: Any, args: Any) -> None:
        calls = self._calls
        if not calls:
            self._threads.recorder = self._recorder_for(module)
        recorder: CallRecorder | None = self._threads.recorder
        # torch does not give keywords to hooks on all modules; they lie in the frame that calls.
        kwargs = sys._getframe(1).f_locals.get("kwargs") or {}  # noqa: SLF001 -- the documented way to look at the running stack
        if recorder is not None and not calls:
            recorder.begin(_named_arguments(module, args, kwargs))
        calls.append((module, sys.exception()))
        if recorder is not None:
            recorder.enter(module)

    def _after(self, module: Any, _args: Any, output: Any) -> None:
        calls = self._calls
        if not any(one is module for one, _ in calls):
            return  # it was called before anybody listened
        recorder: CallRecorder | None = self._threads.recorder
        failed = False
        found = False
        while not found:  # what was left by an error that no hook is told of comes off as well
            one, before = calls.pop()
            found = one is module
            failed = failed or sys.exception() is not before
            if recorder is not None:
                recorder.leave(one, output, failed=failed or not found)
        if not calls and recorder is not None:
            self._threads.recorder = None
            self._done(recorder, failed)


def _named_arguments(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by the names that `forward` gives them."""
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{str(at): value for at, value in enumerate(args)}, **kwargs}
    return dict(bound.arguments)
