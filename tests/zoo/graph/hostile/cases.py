"""Every hostile case, by name: importing a theme registers its cases."""

from hostile import (
    containers,
    control_flow,
    custom,
    dtypes,
    folding,
    functions,
    layers,
    numbers,
    products,
    randomness,
    scaffolding,
    shapes,
    signature,
    slices,
)
from hostile.casebook import CASES, Case

THEMES = (
    containers,
    control_flow,
    custom,
    dtypes,
    folding,
    functions,
    layers,
    numbers,
    products,
    randomness,
    scaffolding,
    shapes,
    signature,
    slices,
)

# onnx_ir has no sparse tensors in attributes: load_graph says so.
REFUSED = frozenset({"sparse_constant_node"})
CARRIED = tuple(name for name in CASES if name not in REFUSED)

__all__ = ["CARRIED", "CASES", "REFUSED", "THEMES", "Case"]
