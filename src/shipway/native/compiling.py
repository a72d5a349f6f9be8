"""Run a compiler on a kernel's source: bounded in time, its complaint made readable."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence

from shipway.errors import EngineError

__all__ = ["run_compiler"]

_ERROR = re.compile(r"\berror\b|undefined reference|No such file|\bfatal\b", re.IGNORECASE)
_SHOWN = 6
_LIMIT_SECONDS = 600


def run_compiler(command: Sequence[str], title: str, sources: str, folder: str) -> None:
    """Run a compiler.

    Args:
        command: Its command line.
        title: What to call it: "The C++ compiler", "nvcc".
        sources: What to call the source.
        folder: For its temporary files.

    Raises:
        EngineError: It refuses the source, takes too long, or the disk is full; the message quotes it.
    """
    by_hand = shlex.join(command)
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own compiler on the user's own files
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_LIMIT_SECONDS,
            env={**os.environ, "LC_ALL": "C", "TMPDIR": folder},
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{title} did not finish {sources} in {_LIMIT_SECONDS} s.",
            hint=f"Try it by hand: {by_hand}",
        ) from error
    if done.returncode == 0:
        return
    text = f"{done.stderr}\n{done.stdout}"
    if "No space left" in text:
        raise EngineError(
            f"The disk is full: {sources} cannot be compiled.",
            hint="Make room, or set SHIPWAY_CACHE to a folder on another disk.",
        )
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line for line in lines if _ERROR.search(line)] or lines
    more = f"\n... and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    raise EngineError(
        f"{title} refuses {sources}:\n" + "\n".join(told[:_SHOWN]) + more,
        hint=f"Mend the source; to see everything: {by_hand}",
    )
