"""What `record_script` and the process it starts tell each other, through files in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shipway.errors import (
    EngineError,
    ModelError,
    OutputError,
    ShipwayError,
    TensorError,
    UsageError,
)

__all__ = ["ScriptRequest", "claim", "note_call", "read_failure", "write_failure"]

_ERRORS = (UsageError, OutputError, TensorError, EngineError, ModelError)


@dataclass(frozen=True, slots=True)
class ScriptRequest:
    """What is to be recorded.

    Args:
        command: The user's command.
        folder: Where the trace goes.
        names: Patterns of names; see `shipway.trace.filters.TapFilter`.
        op_types: Patterns of operators.
        level: "module" or "operator".
        keep_values: False keeps statistics only.
        calls: Which call of an outermost module is recorded, from 1.
    """

    command: tuple[str, ...]
    folder: str
    names: tuple[str, ...]
    op_types: tuple[str, ...]
    level: str
    keep_values: bool
    calls: int

    def write(self, state: Path) -> None:
        """Leave it for the process."""
        (state / "request.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, state: Path) -> ScriptRequest:
        """Read what `write` wrote."""
        data: Mapping[str, Any] = json.loads((state / "request.json").read_text(encoding="utf-8"))
        lists = {name: tuple(data[name]) for name in ("command", "names", "op_types")}
        return cls(**{**data, **lists})


def claim(state: Path) -> bool:
    """Whether this process is the one that records: the first of those a command starts."""
    try:
        os.close(os.open(state / "claimed", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def note_call(state: Path, what: str) -> None:
    """Keep a line about a call that was not recorded."""
    with (state / "passed").open("a", encoding="utf-8") as stream:
        stream.write(f"{what}\n")


def write_failure(state: Path, error: ShipwayError) -> None:
    """Leave an error for the process that waits."""
    data = {"kind": type(error).__name__, "message": str(error), "hint": error.hint}
    (state / "failure.json").write_text(json.dumps(data), encoding="utf-8")


def read_failure(state: Path) -> ShipwayError | None:
    """Return the error that was left; None for none."""
    path = state / "failure.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    kind = next((one for one in _ERRORS if one.__name__ == data["kind"]), EngineError)
    return kind(data["message"], hint=data["hint"])
