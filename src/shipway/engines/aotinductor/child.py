"""Run the compiler, and what it compiled for debugging, in a child: both may crash, and talk a lot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from shipway.engines.base import EngineOptions
from shipway.engines.exported import read_program
from shipway.engines.requests import thread_count
from shipway.errors import EngineError, ModelError
from shipway.export.portable import PortableModel
from shipway.ops.adoption import names_called
from shipway.ops.registry import all_operators
from shipway.source.operators import operator_file

__all__ = ["PACKAGE", "RESULT", "run_build", "run_dump"]

PACKAGE = "model.pt2"
"""Name of the package in the work folder."""
RESULT = "result.json"
"""Name of the file in which the child says what came of it."""
_LAST_LINES = 5
_BUILD = "shipway.engines.aotinductor.build"
_DUMP = "shipway.engines.aotinductor.dump"
_DEBUG_VARIABLES = {
    "AOT_INDUCTOR_DEBUG_INTERMEDIATE_VALUE_PRINTER": "1",  # save the arguments of each kernel
    "INDUCTOR_PROVENANCE": "1",  # tell which nodes of the program each kernel computes
}


def run_build(
    model: PortableModel, program: Path, options: EngineOptions, work: Path, *, debug: bool = False
) -> dict[str, Any]:
    """Compile `program` to the package `work / PACKAGE` and return the facts about it.

    Args:
        model: Whose inputs and outputs the program has.
        program: The exported program.
        options: Precision, threads and settings of Inductor.
        work: An empty folder; everything the compiler leaves behind stays in it.
        debug: Make a package whose kernels are the same, but that saves their arguments when it
            runs; the facts describe the program and what was saved, too.

    Raises:
        EngineError: The compiler refuses the program, or dies.
        ModelError: The program is not usable.
    """
    request = {**_request(model, program, options), "debug": debug}
    return _run(_BUILD, request, work, _DEBUG_VARIABLES if debug else {}, "AOTInductor's compiler")


def run_dump(request: dict[str, Any], called: Collection[str], work: Path) -> dict[str, Any]:
    """Run a debug package in `work`, where it leaves its files, and return what the child says.

    Args:
        request: What `shipway.engines.aotinductor.dump` asks for, but for the operators.
        called: Names of the custom operators that the package calls.
        work: An empty folder.

    Raises:
        EngineError: The package does not run, or dies.
    """
    request = {**request, "operators": _operator_files(called)}
    return _run(_DUMP, request, work, {}, "The debug package")


def _run(
    module: str, request: dict[str, Any], work: Path, variables: dict[str, str], who: str
) -> dict[str, Any]:
    """Run a module of ours as a program in `work` and return its result."""
    request_path, log_path = work / "request.json", work / "log.txt"
    request_path.write_text(json.dumps(request), encoding="utf-8")
    with log_path.open("wb") as log:
        child = subprocess.run(  # noqa: S603 -- this Python, a module of ours, a file of ours
            [sys.executable, "-m", module, str(request_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=work,
            env={**_environment(work), **variables},
            check=False,
        )
    if child.returncode != 0:
        raise _death(child.returncode, log_path, who)
    facts: dict[str, Any] = json.loads((work / RESULT).read_text(encoding="utf-8"))
    if "error" in facts:
        kind = ModelError if facts["error"] == "ModelError" else EngineError
        raise kind(facts["message"], hint=facts["hint"])
    return facts


def _request(model: PortableModel, program: Path, options: EngineOptions) -> dict[str, Any]:
    return {
        "program": str(program.resolve()),
        "inputs": [spec.to_json() for spec in model.inputs],
        "outputs": [spec.to_json() for spec in model.outputs],
        "precision": options.precision,
        "threads": thread_count(options),
        "extra": dict(options.extra),
        "operators": _operator_files(names_called(read_program(program))),
    }


def _operator_files(called: Collection[str]) -> list[str]:
    """Return the files of the user's that define these operators: the child must execute them too."""
    files = (operator_file(op) for op in all_operators() if op.name in called)
    return list(dict.fromkeys(str(path) for path in files if path is not None))


def _environment(work: Path) -> dict[str, str]:
    """Give the child this process's import path, and keep all it leaves behind inside `work`."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(work),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "cache"),
    }


def _death(status: int, log_path: Path, who: str) -> EngineError:
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
    text = log_path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return EngineError(
        f"{who} died ({how}). Its last words:\n" + "\n".join(lines or ["(none)"]),
        hint="If memory ran out, close other programs; else please report these lines.",
    )
