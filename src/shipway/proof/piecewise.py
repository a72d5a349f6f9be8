"""Runs a large model piece by piece, so that few of its weights are in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import BaseSession, Engine, EngineOptions
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.graph.loading import read_outline
from shipway.graph.saving import save_graph
from shipway.tensors import Tensors

__all__ = ["PiecewiseSession"]


class PiecewiseSession(BaseSession):
    """A session that loads each piece of a model when its turn comes, and lets go of it again."""

    def __init__(
        self,
        model: PortableModel,
        whole: ir.Model,
        pieces: Sequence[ir.Model],
        engine: Engine,
        options: EngineOptions,
        folder: Path,
    ) -> None:
        """Compile every piece.

        Args:
            model: Inputs and outputs of the whole.
            whole: The model the pieces were cut from.
            pieces: What `cut_pieces` gives.
            engine: Runs them.
            options: For the engine.
            folder: Where to keep what it compiles; as large as the model.

        Raises:
            EngineError: The engine refuses a piece.
        """
        super().__init__(model.inputs, model.outputs, {"pieces": str(len(pieces))})
        self._engine = engine
        self._options = options
        self._weights = {
            name: value.const_value
            for name, value in whole.graph.initializers.items()
            if value.is_graph_output()
        }
        self._artifacts = [
            self._compile(piece, folder / f"piece-{index}") for index, piece in enumerate(pieces)
        ]

    def _compile(self, piece: ir.Model, folder: Path) -> Artifact:
        source = folder / "source" / "piece.onnx"
        source.parent.mkdir(parents=True)
        companions = save_graph(piece, source, external_bytes=1)
        inputs, outputs = read_specs(read_outline(source))
        model = PortableModel(inputs, outputs, onnx=source)
        lowered = self._engine.lower(model, folder / "lowered")
        artifact = self._engine.compile(lowered, self._options, folder)
        for name in (source.name, *companions):
            (source.parent / name).unlink()
        return artifact

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        wanted = {spec.name for spec in self.outputs}
        values: dict[str, Any] = dict(feeds)
        values |= {name: one.numpy() for name, one in self._weights.items() if one is not None}
        for index, artifact in enumerate(self._artifacts):
            with self._engine.load(artifact, self._options) as session:
                values |= session.run({spec.name: values[spec.name] for spec in session.inputs})
            later = {spec.name for one in self._artifacts[index + 1 :] for spec in one.inputs}
            values = {name: value for name, value in values.items() if name in later | wanted}
        return {name: values[name] for name in wanted}
