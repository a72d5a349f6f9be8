"""A file Shipway made, and the side-car that says what it is and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway.errors import ModelError
from shipway.files import file_sha256, read_json, write_json
from shipway.tensors import TensorSpec

__all__ = ["SIDECAR_SUFFIX", "Artifact", "load_artifact"]

SIDECAR_SUFFIX = ".shipway.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model file, its companions, and the facts about them.

    Args:
        path: The main file (.onnx, .pt2, .xml).
        kind: "onnx", "exported-program", "openvino-ir" or "aotinductor-package".
        engine: Name of the engine it was compiled for; "" for a portable model.
        inputs: Input specs.
        outputs: Output specs.
        companions: Files that must travel with it (weights, external data), relative to its folder.
        made: How it was made: options, source, command. Plain data.
        versions: Package versions in force when it was made.
    """

    path: Path
    kind: str
    engine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    companions: tuple[str, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """The main file and its companions."""
        return (self.path, *(self.path.parent / name for name in self.companions))

    @property
    def sidecar(self) -> Path:
        """Where the side-car lies."""
        return self.path.with_name(self.path.name + SIDECAR_SUFFIX)

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the SHA-256 and size of every file."""
        return {
            "schema_version": _SCHEMA,
            "kind": self.kind,
            "engine": self.engine,
            "files": {
                path.relative_to(self.path.parent).as_posix(): {
                    "sha256": file_sha256(path),
                    "size_bytes": path.stat().st_size,
                }
                for path in self.files
            },
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "made": dict(self.made),
            "versions": dict(self.versions),
        }

    def save(self) -> Artifact:
        """Write the side-car beside the file and return self."""
        write_json(self.sidecar, self.to_json())
        return self


def load_artifact(path: Path, *, verify: bool = True) -> Artifact:
    """Read the artifact at `path` from its side-car.

    Args:
        path: The main file, not the side-car.
        verify: Hash the files and compare; False only where the caller has just done so.

    Raises:
        ModelError: File or side-car absent, of a newer schema or of another file, or a file changed
            since it was made.
    """
    sidecar = path.with_name(path.name + SIDECAR_SUFFIX)
    if not path.is_file():
        raise ModelError(f"No such model file: {path}.")
    if not sidecar.is_file():
        raise ModelError(
            f"{path} has no side-car {sidecar.name}.",
            hint="It was not made by Shipway, or was moved without it: run shipway compile again.",
        )
    data = read_json(sidecar)
    try:
        if data["schema_version"] > _SCHEMA:
            raise ModelError(
                f"{sidecar} has schema {data['schema_version']}; this Shipway reads up to {_SCHEMA}.",
                hint="pip install --upgrade shipway",
            )
        files = data["files"]
        artifact = Artifact(
            path=path,
            kind=data["kind"],
            engine=data["engine"],
            inputs=tuple(TensorSpec.from_json(item) for item in data["inputs"]),
            outputs=tuple(TensorSpec.from_json(item) for item in data["outputs"]),
            companions=tuple(name for name in files if name != path.name),
            made=data["made"],
            versions=data["versions"],
        )
        hashes = {name: entry["sha256"] for name, entry in files.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{sidecar} is not a side-car of Shipway: {error!r}.") from error
    if path.name not in hashes:
        raise ModelError(
            f"{sidecar} is the side-car of {', '.join(hashes) or 'no file'}, not of {path.name}.",
            hint="Keep the name a model was made under, or make it again with shipway compile.",
        )
    if verify:
        _verify(artifact, hashes)
    return artifact


def _verify(artifact: Artifact, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        path = artifact.path.parent / name
        if not path.is_file():
            raise ModelError(f"{artifact.path} needs {path}, which is absent.")
        if file_sha256(path) != expected:
            raise ModelError(
                f"{path} changed after Shipway made it (SHA-256 differs from {artifact.sidecar.name}).",
                hint="Make it again with shipway export or shipway compile.",
            )
