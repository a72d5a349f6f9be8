"""How the sizes of dynamic dimensions are written on the command line of the graph commands."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shipway.errors import UsageError

__all__ = ["read_named_sizes"]


def read_named_sizes(items: Sequence[str]) -> dict[str, int]:
    """Read "batch=3" texts; a name may be anything that ONNX allows.

    Raises:
        UsageError: A text is not name=number.
    """
    sizes = {}
    for item in items:
        match = re.fullmatch(r"(.+)=(\d+)", item)
        if match is None:
            raise UsageError(f"--size takes name=number, not '{item}'.", hint="E.g. --size batch=3")
        sizes[match[1]] = int(match[2])
    return sizes
