"""A run folder whose stages are done once: keyed by a hash of their inputs, resumed after a kill.

A stage writes into a temporary folder that takes its final name only when the stage succeeded, and
its record is written after that. Whatever a kill leaves behind is therefore a finished stage, or
nothing that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shipway.errors import ModelError, OutputError, ShipwayError, UsageError
from shipway.files import (
    atomic_folder,
    file_sha256,
    make_folder,
    output_errors,
    read_json,
    write_json,
)

__all__ = ["RunFolder", "StageResult"]

_SCHEMA = 1
_RECORDS = ".stages"
_LOG = logging.getLogger("shipway.deploy")


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage.

    Args:
        name: Stage name, also the name of its folder.
        folder: Where its files are.
        digest: SHA-256 over the names and contents of its files: what later stages depend on.
        seconds: Wall time it took when it ran.
        finished: When it finished, ISO 8601 in UTC.
        reused: True when it was not run again.
        command: The command line that repeats it alone.
    """

    name: str
    folder: Path
    digest: str
    seconds: float
    finished: str
    reused: bool
    command: str


class RunFolder:
    """A folder of finished stages, used by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Keep the path; `open` makes the folder and takes its lock."""
        self.path = path

    @contextlib.contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Make the folder, lock it for the length of the block, and sweep up after a killed run.

        Raises:
            OutputError: It cannot be written, or another process is using it.
        """
        make_folder(self.path / _RECORDS)
        lock = self.path / _RECORDS / "lock"
        with contextlib.ExitStack() as stack:
            with output_errors(lock):
                stream = stack.enter_context(lock.open("w", encoding="utf-8"))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"Another shipway is working in {self.path}.",
                    hint="Wait for it, or give another folder with --output.",
                ) from error
            self._sweep()
            yield self

    def _sweep(self) -> None:
        for folder in (self.path, self.path / _RECORDS):
            for left in folder.glob(".tmp-*"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def run(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        command: Sequence[str],
        work: Callable[[Path], Iterable[Path] | None],
    ) -> StageResult:
        """Run a stage, or reuse it when neither its inputs nor its files have changed.

        Args:
            name: Letters, digits and dashes.
            inputs: Plain data that decides the result: options, digests, versions.
            command: The command line that repeats the stage alone.
            work: Writes the stage's files into the folder it is given. It returns further files
                the result depends on, found only while working (modules that a model imports).

        Raises:
            ShipwayError: What `work` raised, with the command added to its hint.
        """
        key = hashlib.sha256(_canonical({"schema": _SCHEMA, "stage": name, **inputs})).hexdigest()
        line = shlex.join(command)
        if (found := self._find(name, key, line)) is not None:
            _LOG.info("%s: unchanged, reused", name)
            return found
        _LOG.debug("%s: %s", name, line)
        self._claim(name)
        start = time.perf_counter()
        try:
            with atomic_folder(self.path / name) as folder:
                depends = tuple(work(folder) or ())
        except ShipwayError as error:
            if isinstance(error, UsageError) and not isinstance(error, OutputError):
                raise  # the same command would be refused again
            error.hint = f"{error.hint}\nRepeat this stage alone: {line}".lstrip()
            raise
        seconds = time.perf_counter() - start
        record = {
            "schema_version": _SCHEMA,
            "key": key,
            "command": line,
            "seconds": seconds,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": _hashes(self.path / name),
            "depends": {str(path): file_sha256(path) for path in depends},
        }
        write_json(self._record_path(name), record)
        _LOG.info("%s: done in %.1f s", name, seconds)
        return self._result(name, record, reused=False)

    def _claim(self, name: str) -> None:
        """Mark the stage as begun, so that its folder may be replaced, now or after a kill.

        Raises:
            OutputError: The folder is there and no stage made it.
        """
        if (self.path / name).exists() and not self._record_path(name).exists():
            raise OutputError(
                f"{self.path / name} is not Shipway's: the stage {name} would replace it.",
                hint="Give another folder with --output.",
            )
        write_json(self._record_path(name), {"schema_version": _SCHEMA, "begun": True})
        for report in ("report.json", "report.html"):
            # What it says is no longer so.
            (self.path / report).unlink(missing_ok=True)

    def _record_path(self, name: str) -> Path:
        return self.path / _RECORDS / f"{name}.json"

    def _result(self, name: str, record: Mapping[str, Any], *, reused: bool) -> StageResult:
        digest = hashlib.sha256(_canonical(record["files"])).hexdigest()
        return StageResult(
            name=name,
            folder=self.path / name,
            digest=digest,
            seconds=record["seconds"],
            finished=record["finished"],
            reused=reused,
            command=record["command"],
        )

    def _find(self, name: str, key: str, command: str) -> StageResult | None:
        try:
            record = read_json(self._record_path(name))
            same = record["schema_version"] == _SCHEMA and record["key"] == key
            unchanged = same and all(
                file_sha256(Path(path)) == digest for path, digest in record["depends"].items()
            )
            if unchanged and _hashes(self.path / name) == record["files"]:
                return self._result(name, {**record, "command": command}, reused=True)
        except (ModelError, KeyError, TypeError, AttributeError):
            # An unreadable record is no record: the stage runs again and writes a new one.
            return None
        return None


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
