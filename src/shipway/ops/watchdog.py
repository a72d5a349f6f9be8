"""See a kernel that does not return: nothing in its own thread can."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from shipway.errors import UsageError
from shipway.ops.kernel_library import longest_call

__all__ = ["watch_kernels"]

_LIMIT = "SHIPWAY_KERNEL_TIMEOUT"
_DEFAULT_LIMIT_SECONDS = 120.0
_POLL_SECONDS = 0.2


def watch_kernels(stop: Callable[[str, str], None]) -> None:
    """Watch every kernel call of this process from now on, in a thread of its own.

    Args:
        stop: Called with a message and a hint when a call has run for longer than
            SHIPWAY_KERNEL_TIMEOUT seconds (120 if not set). It must end the process: a thread in
            native code cannot be stopped.

    Raises:
        UsageError: SHIPWAY_KERNEL_TIMEOUT is no number above 0.
    """
    threading.Thread(target=_watch, args=(_limit_seconds(), stop), daemon=True).start()


def _limit_seconds() -> float:
    text = os.environ.get(_LIMIT, "")
    try:
        limit = float(text) if text else _DEFAULT_LIMIT_SECONDS
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UsageError(f"{_LIMIT} must be a number of seconds above 0, not '{text}'.")
    return limit


def _watch(limit_seconds: float, stop: Callable[[str, str], None]) -> None:
    while True:
        time.sleep(_POLL_SECONDS)
        name, seconds = longest_call()
        if seconds > limit_seconds:
            stop(
                f"The kernel of {name} has not returned for {seconds:.0f} s and was stopped.",
                f"Look for an endless loop in it; {_LIMIT}=SECONDS allows more time.",
            )
