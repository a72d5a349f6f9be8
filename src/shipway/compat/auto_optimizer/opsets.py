"""The opsets a graph imports, as a list of ids that scripts change."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

__all__ = ["OpsetImports"]


class OpsetImports(list[Any]):
    """Ids with `domain` and `version`; `flush` takes over what was changed.

    Args:
        model: The model.
    """

    def __init__(self, model: ir.Model) -> None:
        """List the imports of the model."""
        import onnx

        super().__init__(
            onnx.helper.make_opsetid(domain, version)
            for domain, version in model.graph.opset_imports.items()
        )
        self._model = model

    def flush(self) -> None:
        """Give the model the imports in the list."""
        imports = self._model.graph.opset_imports
        imports.clear()
        imports.update((one.domain, one.version) for one in self)
