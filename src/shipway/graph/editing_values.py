"""Edits the signature of a model and its constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.errors import UsageError
from shipway.graph.building import add_initializer, put_in_place
from shipway.graph.editing_nodes import insert_node, remove_unused
from shipway.graph.inferring import infer_values
from shipway.graph.locating import all_graphs, locate_value
from shipway.graph.naming import Names, rename_value
from shipway.graph.ordering import sort_graph

__all__ = [
    "add_constant",
    "add_input",
    "add_output",
    "change_dtype",
    "change_shape",
    "read_dtype",
    "remove_input",
    "remove_output",
    "replace_constant",
]

Dim = int | str | None


def read_dtype(dtype: str | ir.DataType) -> ir.DataType:
    """Return the dtype of a name such as int32 or float16.

    Raises:
        UsageError: There is no such dtype.
    """
    if isinstance(dtype, ir.DataType):
        return dtype
    name = {"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype.lower(), dtype.upper())
    try:
        return ir.DataType[name]
    except KeyError:
        raise UsageError(
            f"There is no dtype '{dtype}'.", hint="E.g. float32, float16, bfloat16, int32, bool."
        ) from None


def add_input(
    model: ir.Model, name: str, dtype: str | ir.DataType, shape: Sequence[Dim]
) -> ir.Value:
    """Add an input to the model; nothing reads it yet.

    Args:
        model: The model.
        name: A name nothing has.
        dtype: Element type, e.g. float32.
        shape: Numbers; a text names a dynamic dimension, None is an unnamed one.

    Raises:
        UsageError: The name is taken, or there is no such dtype.
    """
    if Names(model).take_value(name) != name:
        raise UsageError(f"There is a value '{name}' already.")
    value = ir.Value(name=name, type=ir.TensorType(read_dtype(dtype)), shape=ir.Shape(shape))
    model.graph.inputs.append(value)
    return value


def remove_input(
    model: ir.Model, value: ir.Value | str, *, constant: NDArray[Any] | None = None
) -> None:
    """Remove an input of the model.

    Args:
        model: The model.
        value: The input.
        constant: What its readers read from now on, of its dtype and rank.

    Raises:
        UsageError: It is no input, or something reads it and there is no constant.
    """
    found = _signature_value(value, model.graph.inputs, "input")
    if constant is None and (found.uses() or found.is_graph_output()):
        reader = next((use.node.name for use in found.uses()), "the model's output")
        raise UsageError(
            f"The input '{found.name}' cannot be removed: '{reader}' reads it.",
            hint="Give constant= what it shall read instead.",
        )
    if constant is not None:
        _check_fits(found, constant)
        names = Names(model)
        new = add_initializer(model, names.take_value(f"{found.name}_value"), ir.tensor(constant))
        put_in_place(found, new, names)
    model.graph.inputs.remove(found)
    model.graph.initializers.pop(found.name or "", None)


def _check_fits(value: ir.Value, array: NDArray[Any]) -> None:
    dtype = ir.tensor(array).dtype
    if value.dtype is not None and dtype is not value.dtype:
        raise UsageError(
            f"'{value.name}' is {value.dtype.name.lower()}, the constant {dtype.name.lower()}."
        )
    shape = value.shape
    if shape is None:
        return
    fits = len(shape) == array.ndim and all(
        not isinstance(size, int) or size == have
        for size, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise UsageError(f"'{value.name}' is {shape}, the constant {list(array.shape)}.")


def _signature_value(value: ir.Value | str, known: Sequence[ir.Value], kind: str) -> ir.Value:
    found = next((one for one in known if one is value or one.name == value), None)
    if found is None:
        name = value if isinstance(value, str) else value.name
        names = ", ".join(str(one.name) for one in known)
        raise UsageError(f"The model has no {kind} '{name}'. It has {names or 'none'}.")
    return found


def add_output(model: ir.Model, value: ir.Value | str, *, name: str = "") -> ir.Value:
    """Make a value of the main graph an output of the model.

    Args:
        model: The model.
        value: What a node computes.
        name: Name of the output; that of the value if not given.

    Raises:
        UsageError: It lies inside another graph, or is an output already.
    """
    found = locate_value(model, value)
    if found.graph is not model.graph:
        raise UsageError(
            f"'{found.name}' lies inside another graph, so it cannot be an output of the model.",
            hint="Make it an output of that graph's node first.",
        )
    if found.is_graph_output():
        raise UsageError(f"'{found.name}' is an output already.")
    if found.dtype is None or found.shape is None:
        _declare(found, infer_values(model))
    if found.producer() is None:
        wanted = name or f"{found.name}_output"
        found = _copied(model, found, wanted)
    elif name:
        rename_value(model, found, name)
    model.graph.outputs.append(found)
    return found


def _copied(model: ir.Model, value: ir.Value, name: str) -> ir.Value:
    """Return a copy of an input or initializer: ONNX Runtime wants outputs that nodes compute."""
    node = ir.node("Identity", [value], name=Names(model).take_node(name))
    model.graph.append(node)
    node.outputs[0].name = Names(model).take_value(name)
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    return node.outputs[0]


def _declare(value: ir.Value, known: dict[str, Any]) -> None:
    one = known.get(value.name or "")
    if one is None or one.dtype is None:
        raise UsageError(
            f"The dtype of '{value.name}' is not known, and an output must have one.",
            hint="Set value.type first: onnx_ir.TensorType(onnx_ir.DataType.FLOAT).",
        )
    value.type = value.type or ir.TensorType(one.dtype)
    if value.shape is None and one.shape is not None:
        value.shape = ir.Shape(one.shape)


def remove_output(model: ir.Model, value: ir.Value | str) -> None:
    """Remove an output of the model, and the nodes only it needed.

    Raises:
        UsageError: It is no output, or the only one.
    """
    found = _signature_value(value, model.graph.outputs, "output")
    if len(model.graph.outputs) == 1:
        raise UsageError(f"'{found.name}' is the only output; a model needs one.")
    model.graph.outputs.remove(found)
    remove_unused(model)


def change_dtype(model: ir.Model, value: ir.Value | str, dtype: str | ir.DataType) -> None:
    """Give an input or output of the model another dtype; a Cast inside keeps the rest as it is.

    Args:
        model: The model.
        value: The input or output.
        dtype: E.g. int32 for an int64 input.

    Raises:
        UsageError: It is neither, or there is no such dtype.
    """
    known = [*model.graph.inputs, *model.graph.outputs]
    found = _signature_value(value, known, "input or output")
    wanted, old = read_dtype(dtype), found.dtype
    if old is None or wanted is old:
        found.type = ir.TensorType(wanted)
        return
    if found in model.graph.inputs:
        if found.is_initializer():
            raise UsageError(f"'{found.name}' has a default value; change that instead.")
        cast = insert_node(model, "Cast", found, attributes={"to": int(old)})
        cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(old), found.shape
        found.type = ir.TensorType(wanted)
        return
    cast = insert_node(model, "Cast", found, attributes={"to": int(wanted)})
    cast.inputs[0].type = ir.TensorType(old)  # type: ignore[union-attr] # it has the value it was given
    cast.outputs[0].type = ir.TensorType(wanted)


def change_shape(model: ir.Model, value: ir.Value | str, shape: Sequence[Dim]) -> None:
    """Declare another shape of an input or output; shapes inside are forgotten and inferred anew.

    Args:
        model: The model.
        value: The input or output.
        shape: Numbers; a text names a dynamic dimension, None is an unnamed one.

    Raises:
        UsageError: It is neither, or its rank would change.
        ModelError: The graph does not work with this shape.
    """
    known = [*model.graph.inputs, *model.graph.outputs]
    found = _signature_value(value, known, "input or output")
    before = found.shape
    if before is not None and len(before) != len(shape):
        raise UsageError(
            f"'{found.name}' has {len(before)} dimensions {before}; {list(shape)} has {len(shape)}.",
            hint="A Reshape or Unsqueeze inside changes the rank: insert_node(model, ...).",
        )
    found.shape = ir.Shape(shape)
    if found not in model.graph.inputs:
        return
    try:
        inferred = infer_values(model, strict=True)
    except Exception:
        found.shape = before
        raise
    _forget_shapes(model, inferred)


def _forget_shapes(model: ir.Model, inferred: dict[str, Any]) -> None:
    for graph in all_graphs(model):
        for node in graph:
            for value in node.outputs:
                one = inferred.get(value.name or "")
                rank = None if value.shape is None else len(value.shape)
                value.shape = None
                if one is not None and one.shape is not None and one.dtype is not None:
                    value.type = value.type or ir.TensorType(one.dtype)
                    value.shape = ir.Shape(one.shape)
                elif rank is not None and value.is_graph_output():
                    value.shape = ir.Shape([None] * rank)


def add_constant(model: ir.Model, name: str, array: NDArray[Any]) -> ir.Value:
    """Add an initializer to the model.

    Raises:
        UsageError: The name is taken.
    """
    if Names(model).take_value(name) != name:
        raise UsageError(f"There is a value '{name}' already.")
    return add_initializer(model, name, ir.tensor(array))


def replace_constant(model: ir.Model, value: ir.Value | str, array: NDArray[Any]) -> ir.Value:
    """Give an initializer or a Constant node other numbers; the shape may change, the dtype not.

    Raises:
        UsageError: The value is no constant, or of another dtype.
    """
    found = locate_value(model, value)
    tensor = ir.tensor(np.asarray(array), name=found.name)
    producer = found.producer()
    is_node = producer is not None and producer.op_type == "Constant"
    if not is_node and not found.is_initializer():
        raise UsageError(f"'{found.name}' is no constant.", hint="add_constant adds one.")
    if found.dtype is not None and found.dtype is not tensor.dtype:
        raise UsageError(
            f"'{found.name}' is {found.dtype.name.lower()}, not {tensor.dtype.name.lower()}.",
            hint="Convert the array with .astype().",
        )
    found.type, found.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
    if is_node and producer is not None:
        producer.attributes.clear()
        producer.attributes["value"] = ir.AttrTensor("value", tensor)
    else:
        found.const_value = tensor
    sort_graph(model)
    return found
