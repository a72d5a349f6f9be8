"""Reading the tensors inside a package of AOTInductor.

The program is compiled once more, as a debug build: its kernels are the same, and what it adds are
calls that save the arguments of each kernel to files. That takes as long as the first compilation,
and a run takes a process of its own, since the files land in the current folder. The values go
through the disk, in a temporary folder, so memory holds one of them at a time.

What an operator outside of Inductor returns is saved only where a kernel reads it; attention behind
a view, for one, is not.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.closing import Closing
from shipway.engines.aotinductor.child import PACKAGE, run_build, run_dump
from shipway.engines.aotinductor.debugging import SAVED
from shipway.engines.aotinductor.saved_buffers import (
    ProgramNode,
    SavedBuffer,
    name_buffers,
    read_wrapper,
)
from shipway.engines.aotinductor.session import AotInductorSession
from shipway.engines.base import EngineOptions
from shipway.engines.exported import own_arrays
from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.environment import package_version
from shipway.errors import EngineError, ModelError, TensorError
from shipway.export.portable import PortableModel
from shipway.files import file_sha256, output_errors
from shipway.tensors import Tensors, dtype_named, dtype_of

__all__ = ["AotInductorTapSession", "source_of"]

_CHANGED = "the debug build gives other outputs than the package"
_UNSTABLE = "the outputs change from run to run even when nothing is read"


def source_of(artifact: Artifact) -> Path:
    """Return the program that an artifact was compiled from.

    Raises:
        ModelError: It is not there any more, or changed.
    """
    path = Path(artifact.made["source"])
    hint = f"Compile the program again: shipway compile {path} --engine {artifact.engine}."
    if not path.is_file():
        raise ModelError(
            f"To read the tensors of {artifact.path}, the program it was compiled from is needed, "
            f"and {path} is not there.",
            hint=f"Put it back. {hint}",
        )
    if file_sha256(path) != artifact.made["source_sha256"]:
        raise ModelError(
            f"{path} changed since {artifact.path} was compiled from it, so their tensors may differ.",
            hint=hint,
        )
    return path


class AotInductorTapSession(Closing):
    """A package whose tensors can be read; see `shipway.engines.tapping.TapSession`."""

    def __init__(self, session: AotInductorSession, artifact: Artifact, program: Path) -> None:
        """Compile the debug build.

        Args:
            session: The artifact, loaded; it is closed with this session.
            artifact: What was compiled.
            program: From what.

        Raises:
            EngineError: The compiler refuses the program, or dies; or the build shows nothing.
            ModelError: The program is not usable.
        """
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.effective = session.effective
        self.check: TapCheck | None = None
        self._session: AotInductorSession | None = session
        self._buffers: dict[str, SavedBuffer] = {}
        # The compiler's command lines break on a path with spaces, so it has a folder of its own.
        self._folder = tempfile.TemporaryDirectory(prefix="shipway-")
        self._package = Path(self._folder.name) / PACKAGE
        try:
            self._called = tuple(artifact.made.get("custom_ops", {}))
            self._facts = self._build(artifact, program)
            self.taps, self.untapped = self._describe()
        except BaseException:
            self._folder.cleanup()
            raise

    def _build(self, artifact: Artifact, program: Path) -> dict[str, Any]:
        made = artifact.made
        options = EngineOptions(
            made["options"]["precision"], threads=made["threads"], extra=made["options"]["extra"]
        )
        model = PortableModel(artifact.inputs, artifact.outputs, program=program)
        return run_build(model, program, options, Path(self._folder.name), debug=True)

    def _describe(self) -> tuple[tuple[Tap, ...], Mapping[str, str]]:
        wrapper, kernels = _read_package(self._package)
        found = read_wrapper(wrapper)
        forms = {file: (dtype, count) for file, (dtype, count) in self._facts["saved"].items()}
        there = [one for one in found.shown if one.output is not None or one.file in forms]
        nodes = [
            ProgramNode(one["name"], tuple(one["inputs"]), one["dtype"], one["count"])
            for one in self._facts["nodes"]
        ]
        names, covers = name_buffers(there, kernels, nodes, forms)
        untapped = dict(found.hidden)
        for one in found.shown:
            if one not in there:
                untapped[f"{one.name} of {one.kernel}"] = "its kernel did not run"
        shown = self._taps(there, names, covers)
        return tuple(replace(tap, order=at) for at, tap in enumerate(shown)), untapped

    def _taps(
        self,
        buffers: Sequence[SavedBuffer],
        names: Mapping[SavedBuffer, str],
        covers: Mapping[SavedBuffer, tuple[str, ...]],
    ) -> list[Tap]:
        """Return the taps in the order of execution, and remember where each is saved."""
        taps = [Tap(spec.name, 0, kind="input", names=(spec.name,)) for spec in self.inputs]
        positions = zip(self._facts["outputs"], self.outputs, strict=True)
        results = {at: spec.name for at, spec in positions}
        taken = {spec.name for spec in (*self.inputs, *self.outputs)}
        for one in buffers:
            own = (names[one],) if one in names else ()
            result = None if one.output is None else results.pop(one.output, None)
            if result is not None:
                node = self._facts["results"][one.output]
                aliases = tuple(dict.fromkeys(filter(None, (result, node, *own))))
                inside = tuple(name for name in covers[one] if name not in aliases)
                tap = Tap(result, 0, one.op, "output", names=aliases, covers=inside)
            else:
                tap = Tap(
                    _unique(one, taken), 0, one.op, names=own, covers=covers[one], surmised=True
                )
                self._buffers[tap.name] = one
            taps.append(tap)
        inputs = {spec.name for spec in self.inputs}
        rest = [name for name in results.values() if name not in inputs]
        return [*taps, *(Tap(name, 0, kind="output", names=(name,)) for name in rest)]

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution; see `TapSession.stream`.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape; or no tap has
                one of the names.
            EngineError: The package failed or died, or the session is closed.
        """
        session = self._open()
        wanted = self._wanted(names)
        self.check = None
        return self._stream(session, feeds, session.run(feeds), wanted)

    def _stream(
        self, session: AotInductorSession, feeds: Tensors, golden: Tensors, wanted: Sequence[Tap]
    ) -> Iterator[TappedTensor]:
        with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
            outputs = self._run(feeds, Path(scratch))
            change = "" if _same(golden, outputs) else _CHANGED
            if change and not _same(golden, session.run(feeds)):
                change = _UNSTABLE
            perturbed = {}
            for tap in wanted:
                if tap.kind == "value":
                    value = _read(Path(scratch) / SAVED / self._buffers[tap.name].file, tap)
                    perturbed.update({tap.name: change} if change else {})
                else:
                    value = np.array((feeds if tap.kind == "input" else golden)[tap.name])
                yield TappedTensor(tap, value)
        self.check = TapCheck(not change, perturbed)

    def _run(self, feeds: Tensors, work: Path) -> dict[str, NDArray[Any]]:
        """Run the debug package in a folder and return the outputs of the model."""
        described = {}
        with output_errors(work):
            for at, (name, value) in enumerate(feeds.items()):
                file = f"input{at}.bin"
                (work / file).write_bytes(value.tobytes())
                dtype = dtype_of(value.dtype).name
                described[name] = {"file": file, "dtype": dtype, "shape": list(value.shape)}
        request = {
            "package": str(self._package),
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "feeds": described,
            "made": {key: self._facts[key] for key in ("outputs", "mutates", "limits", "threads")},
        }
        facts = run_dump(request, self._called, work)
        return {
            name: np.frombuffer(
                (work / one["file"]).read_bytes(), dtype_named(one["dtype"]).numpy
            ).reshape(one["shape"])
            for name, one in facts["outputs"].items()
        }

    def _wanted(self, names: Collection[str] | None) -> list[Tap]:
        if names is None:
            return list(self.taps)
        unknown = sorted(set(names) - {tap.name for tap in self.taps})
        if unknown:
            reason = self.untapped.get(unknown[0], "Shown are the buffers in `taps`")
            raise TensorError(
                f"AOTInductor shows no tensor '{unknown[0]}' of this model.",
                hint=f"{reason[0].upper()}{reason[1:]}.",
            )
        return [tap for tap in self.taps if tap.name in set(names)]

    def _open(self) -> AotInductorSession:
        if self._session is None:
            raise EngineError("This session is closed.", hint="Load the artifact again.")
        return self._session

    def close(self) -> None:
        """Let go of the packages and delete the debug build; a second call does nothing."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._folder.cleanup()


def _read_package(path: Path) -> tuple[str, dict[str, list[str]]]:
    """Return the C++ around the kernels, and the nodes of the program that each kernel computes."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            wrapper = next(name for name in members if name.endswith(".wrapper.cpp"))
            table = next(name for name in members if name.endswith("kernel_information.json"))
            text = archive.read(wrapper).decode("utf-8")
            kernels = json.loads(archive.read(table))
            return text, {name: list(one["pre_grad_nodes"]) for name, one in kernels.items()}
    except (StopIteration, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise EngineError(
            f"This version of torch ({package_version('torch')}) does not say which kernels its "
            "debug build runs.",
            hint="Take --engine torch, which shows every operator.",
        ) from error


def _unique(buffer: SavedBuffer, taken: set[str]) -> str:
    """Return a name for a buffer that no other tap has: with its kernel where it is written twice."""
    name = buffer.name if buffer.name not in taken else f"{buffer.name} of {buffer.kernel}"
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    taken.add(unique)
    return unique


def _read(path: Path, tap: Tap) -> NDArray[Any]:
    import torch

    try:
        value = torch.load(path, weights_only=True)
    except OSError as error:
        raise EngineError(
            f"The debug package left no value of '{tap.name}' ({path.name}).",
            hint="Kernels that run only for some inputs can be read only with those.",
        ) from error
    return own_arrays([value], set())[0]


def _same(golden: Tensors, actual: Tensors) -> bool:
    return all(
        (value.shape, value.tobytes()) == (actual[name].shape, actual[name].tobytes())
        for name, value in golden.items()
    )
