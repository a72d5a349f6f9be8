"""Put what an engine compiled into its folder, whole; and take it out again, checked."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shipway.artifact import SIDECAR_SUFFIX, Artifact, load_artifact
from shipway.engines.base import EngineOptions
from shipway.environment import package_versions
from shipway.errors import EngineError, ModelError, OutputError
from shipway.export.portable import PortableModel
from shipway.files import file_sha256, make_folder, output_errors

__all__ = ["Maker", "copy_file", "placed", "staged"]


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move beside `target` when the block succeeds.

    Vendors' writers write several files, and write them slowly: whatever stops them, the folder of
    `target` never holds half a file. Files of the same names are replaced, the side-car last.

    Args:
        target: The main file to come, which errors name.

    Raises:
        OutputError: The folder cannot be made or written to, or the disk is full.
    """
    folder = make_folder(target.parent)
    temporary = folder / f".tmp-{secrets.token_hex(8)}"
    try:
        with output_errors(target):
            temporary.mkdir()
            yield temporary
            files = [path for path in temporary.rglob("*") if path.is_file()]
            for path in sorted(files, key=lambda path: path.name.endswith(SIDECAR_SUFFIX)):
                _move(path, folder / path.relative_to(temporary))
    except OutputError as error:
        shown = str(error).replace(str(temporary), str(folder))
        raise OutputError(shown, hint=error.hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(path: Path, target: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def copy_file(source: Path, target: Path) -> None:
    """Copy a model file.

    A link would save the space, but whoever writes over the original would change the artifact.

    Raises:
        ModelError: `source` cannot be read.
        OSError: `target` cannot be written.
    """
    try:
        stream = source.open("rb")
    except OSError as error:
        raise ModelError(f"Cannot read {source}: {error.strerror}.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


@dataclass(frozen=True, slots=True)
class Maker:
    """What kind of artifact an engine makes, and under which names.

    Args:
        engine: Name of the engine.
        kind: Kind of the artifact; see `Artifact`.
        suffix: Suffix of the main file, with the dot.
    """

    engine: str
    kind: str
    suffix: str

    def target(self, source: Path, folder: Path) -> Path:
        """Return the main file: the name of the source, that of the engine, the suffix."""
        return folder / f"{source.stem}.{self.engine}{self.suffix}"

    def save(
        self,
        source: Path,
        model: PortableModel,
        options: EngineOptions,
        target: Path,
        *,
        companions: tuple[str, ...] = (),
        facts: dict[str, Any] | None = None,
    ) -> Artifact:
        """Write the side-car of a main file that is staged, and return the artifact.

        Args:
            source: The model file it was compiled from.
            model: Whose inputs and outputs it has.
            options: With which options.
            target: The main file, in the folder that `staged` yields, its companions beside it.
            companions: Names of the companions.
            facts: What the engine wants to know again when it loads the artifact.
        """
        return Artifact(
            path=target,
            kind=self.kind,
            engine=self.engine,
            inputs=model.inputs,
            outputs=model.outputs,
            companions=companions,
            made={
                "source": str(source),
                "source_sha256": file_sha256(source),
                "options": options.to_json(),
                **(facts or {}),
            },
            versions=package_versions(),
        ).save()

    def open(self, artifact: Artifact) -> None:
        """Check that `artifact` is of this engine and that no byte of it changed since.

        Raises:
            EngineError: It was made for another engine.
            ModelError: A file or the side-car is absent, or was changed.
        """
        if (artifact.engine, artifact.kind) != (self.engine, self.kind):
            raise EngineError(
                f"{artifact.path} was compiled for {artifact.engine or 'no engine'} "
                f"({artifact.kind}), not for {self.engine} ({self.kind}).",
                hint=f"Load it with --engine {artifact.engine}."
                if artifact.engine
                else f"Compile it first: shipway compile {artifact.path} --engine {self.engine}.",
            )
        load_artifact(artifact.path)


def placed(artifact: Artifact, target: Path) -> Artifact:
    """Return a staged artifact as it is once its files have moved to `target`."""
    return replace(artifact, path=target)
