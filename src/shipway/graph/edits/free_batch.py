"""Makes the first dimension of a model dynamic."""

from __future__ import annotations

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.building import Splice, constant_ints, feed, nodes_of_type
from shipway.graph.editing_values import change_shape
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, name: str = "batch") -> EditResult:
    """Make the first dimension of every input dynamic, and Reshapes that have its size baked in.

    Args:
        model: The model.
        name: Name of the dynamic dimension.

    Raises:
        UsageError: The inputs do not agree on the size.
    """
    inputs = [one for one in model.graph.inputs if not one.is_initializer()]
    sizes = {one.shape[0] for one in inputs if one.shape is not None and len(one.shape)}
    size = sizes.pop() if len(sizes) == 1 else None
    if not isinstance(size, int):
        raise UsageError(
            "The inputs have no first dimension of one size.",
            hint="shipway graph edit MODEL change-shape --value NAME --shape batch,...",
        )
    known = infer_values(model)
    names = Names(model)
    changed = sum(
        _free(model, names, node, size, known) for node in nodes_of_type(model, "Reshape")
    )
    for value in inputs:
        rest = list(value.shape or ())[1:]
        change_shape(model, value, [name, *(_plain(one) for one in rest)])
    for value in model.graph.outputs:
        shape = value.shape
        if shape is not None and len(shape) and shape[0] in {None, size}:
            value.shape = ir.Shape([name, *shape[1:]])
    note = f"at sizes of {name} other than {size} there is nothing to compare with"
    return EditResult(EDIT.name, changed, (note,))


def _plain(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def _free(
    model: ir.Model, names: Names, node: ir.Node, size: int, known: dict[str, Inferred]
) -> bool:
    """Replace the size in the target of a Reshape by 0, or by -1 where the axis is another one."""
    target = constant_ints(node.inputs[1])
    one = known.get((node.inputs[0].name if node.inputs[0] is not None else "") or "")
    shape = None if one is None else one.shape
    if not target or target[0] < 1 or target[0] % size:
        return False
    is_same_axis = target[0] == size and bool(shape) and shape is not None and shape[0] == size
    if not is_same_axis and -1 in target:
        return False
    new = [0 if is_same_axis else -1, *target[1:]]
    feed(node, 1, Splice(model, names, node).ints(*new))
    return True


EDIT = Edit("free-batch", "exact", apply, knowledge="DynamicReshape")
