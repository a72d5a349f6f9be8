"""Entry point: names the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from shipway.environment import package_version
from shipway.errors import ShipwayError, UsageError

__all__ = ["app", "main"]

USAGE, BUG, INTERRUPTED = 2, 70, 130

app = App(
    name="shipway",
    help="""From a PyTorch model to a deployed engine that is proved right and measured fast.

Every command takes `--ops FILE.py`, again for each file: it defines operators the model calls.

Exit codes: 0 pass, 1 limit missed, 2 usage, 3 engine missing, 4 bad model or tensor, 5 engine failed, 70 bug, 130 interrupted.

```
shipway deploy ship.toml
shipway deploy model.py:Net --input "x:float32[batch,3,224,224]"
shipway export --help
```
""",
    version=lambda: package_version("shipway"),
    help_format="markdown",
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)

COMMANDS = (
    "deploy",
    "export",
    "simplify",
    "graph",
    "compile",
    "run",
    "trace",
    "compare",
    "evaluate",
    "bench",
    "report",
    "op",
    "doctor",
)
for _name in COMMANDS:
    # Named as text: a command imports only what it needs itself.
    app.command(f"shipway.cli.{_name}:{_name}", name=_name)
_OPS = "--ops"
_RUNS_MODELS = frozenset(COMMANDS) - {"report", "doctor"}


def main() -> None:
    """Run the command line and exit with the code the module's help lists."""
    arguments = sys.argv[1:]
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        hint = "Run the same command again; deploy goes on where it was, trace with --resume."
        code = _complain("Interrupted.", hint, INTERRUPTED, arguments)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and stdout is no use now.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    _leave(code)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        for name in COMMANDS:
            app[name]  # imports it, so that the list shows what each command does
    try:
        result = _dispatch(arguments)
    except CycloptsError as error:
        message = str(error).replace("parameter --", "--")
        return _complain(message, _usage_hint(arguments), USAGE, arguments)
    except ShipwayError as error:
        return _complain(str(error), error.hint, error.exit_code, arguments)
    except MemoryError:
        hint = "Use a smaller batch, or a machine with more memory."
        return _complain("There is not enough memory.", hint, USAGE, arguments)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise
        # The last line of defence: what lands here is a bug, and is called one.
        traceback.print_exc()
        print(
            f"\nThis is a bug in Shipway {package_version('shipway')}. "
            "Please report it with the text above.",
            file=sys.stderr,
        )
        return BUG
    return result if isinstance(result, int) else 0


def _reader_is_gone() -> bool:
    """Whether it was our own output that nobody reads any more, not a pipe of some engine's."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors are told without being asked for
    return bool(poll.poll(0))


def _dispatch(arguments: list[str]) -> Any:
    """Load the user's operators, then run the command; in a child where their kernels run too."""
    rest, files = _take_operator_files(arguments)
    if not files and not _RUNS_MODELS.intersection(rest[:1]):
        return app(rest)
    from shipway.cli.supervise import SupervisionNeeded, guard_kernels, run_supervised

    guard_kernels()
    try:
        if files:
            from shipway.source.operators import load_operator_files

            load_operator_files(files)
        return app(rest)
    except SupervisionNeeded:
        return run_supervised(arguments)


def _take_operator_files(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """Take `--ops FILE` out of the arguments: every command has it."""
    rest: list[str] = []
    files: list[Path] = []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != _OPS:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise UsageError(f"{_OPS} needs a file.", hint=f"E.g. shipway op list {_OPS} my_ops.py")
        files.append(Path(value))
    return rest, files


def _usage_hint(arguments: list[str]) -> str:
    known = [word for word in arguments[:1] if word in COMMANDS]
    return " ".join(["shipway", *known, "--help"])


def _complain(message: str, hint: str, code: int, arguments: list[str]) -> int:
    if "--json" in arguments:
        failure: dict[str, Any] = {"error": message, "hint": hint, "exit_code": code}
        print(json.dumps(failure))
    print(f"error: {message}", file=sys.stderr)
    for line in hint.splitlines():
        print(f"hint:  {line}", file=sys.stderr)
    return code


def _leave(code: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(code)
