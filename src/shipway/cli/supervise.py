"""Run a command in a child process where kernels of the user's run: they may crash, or never return."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from shipway.errors import EngineError
from shipway.ops import kernel_library
from shipway.ops.watchdog import watch_kernels

__all__ = ["SupervisionNeeded", "guard_kernels", "is_supervised", "run_supervised"]

_MARK = "SHIPWAY_SUPERVISED"
_ENGINE_FAILED = 5


class SupervisionNeeded(BaseException):
    """A kernel of the user's is about to be loaded into the command's own process."""


def is_supervised() -> bool:
    """Whether this process is such a child."""
    return os.environ.get(_MARK) == "1"


def guard_kernels() -> None:
    """Ask for a child before a kernel of the user's is loaded; in the child, watch its calls."""
    if is_supervised():
        kernel_library.before_user_kernel = _start_watch
    else:
        kernel_library.before_user_kernel = _demand


def _demand() -> None:
    raise SupervisionNeeded


def _start_watch() -> None:
    kernel_library.before_user_kernel = None
    watch_kernels(_stop)


def _stop(message: str, hint: str) -> None:
    print(f"error: {message}\nhint:  {hint}", file=sys.stderr, flush=True)
    os._exit(_ENGINE_FAILED)


def run_supervised(arguments: list[str]) -> int:
    """Run the same command in a child process and return its exit code.

    Raises:
        EngineError: A signal ended it: what the user's kernel does is the likeliest reason.
    """
    child = subprocess.Popen(  # noqa: S603 -- this Python, this program, the user's own arguments
        [sys.executable, "-m", "shipway", *arguments], env={**os.environ, _MARK: "1"}
    )
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:
            # The child has had the same signal from the terminal; it says so itself and ends.
            continue
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    raise EngineError(
        f"A kernel of yours crashed the process ({name}).",
        hint="Compile it with -g -fsanitize=address to find the place; "
        "a read or write outside a tensor is the usual cause.",
    )
