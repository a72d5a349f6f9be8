"""Custom operators in an ONNX model: give them bodies, write them out, call them by another name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.operator_body import BodyInput, make_body
from shipway.ops.onnx_nodes import CustomNode, attributes_of, custom_nodes
from shipway.ops.onnx_schema import alias_schemas, register_schema
from shipway.tensors import dtype_of

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

    from shipway.ops.definition import CustomOp

__all__ = ["attach_bodies", "inline_operators", "rename_operators"]

_EXAMPLE_SIZES = (5, 7, 11, 13, 6, 9, 10, 14)
_UNKNOWN_SIZE = 5


def inline_operators(
    model: ir.Model,
    choose: Callable[[CustomOp], bool],
    *,
    sizes: Mapping[str, int] | None = None,
    runs: Callable[[ir.Node], bool] | None = None,
) -> tuple[str, ...]:
    """Replace custom operators by standard ones, in place.

    Args:
        model: The model.
        choose: Says which operators to replace.
        sizes: Sizes of dynamic dimensions that the model is known to run at.
        runs: Whether the engine the model is for runs a standard node; see `make_body`.

    Returns:
        Names of the operators that were replaced.

    Raises:
        ExportError: An operator has no portable body for this model.
    """
    from onnx_ir.passes.common import InlinePass

    chosen = [item for item in custom_nodes(model) if choose(item.op)]
    if not chosen:
        return ()
    shapes = _Shapes(model, sizes or {})
    for index, item in enumerate(chosen):
        name = f"{item.op.onnx_name}_{index}"
        graph = make_body(item.op, shapes.of(item), attributes_of(item), _opset(model), runs)
        function = _function(item, graph, _PRIVATE, name)
        model.functions[function.identifier()] = function
        item.node.domain, item.node.op_type, item.node.version = _PRIVATE, name, None
    model.graph.opset_imports.setdefault(_PRIVATE, 1)
    own = set(model.functions)
    InlinePass(lambda function: function.domain == _PRIVATE)(model)
    for identifier in own - set(model.functions):
        model.functions.pop(identifier, None)
    model.graph.opset_imports.pop(_PRIVATE, None)
    _drop_unused_domains(model, {item.op.namespace for item in chosen})
    return tuple(dict.fromkeys(item.op.name for item in chosen))


_PRIVATE = "shipway.body"


def attach_bodies(
    model: ir.Model,
    choose: Callable[[CustomOp], bool],
    *,
    sizes: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Give custom operators of a model their bodies as local functions; the nodes stay.

    A runtime with a kernel uses that, others expand the function.

    Args:
        model: The model.
        choose: Says which operators get one.
        sizes: Sizes of dynamic dimensions that the model is known to run at.

    Returns:
        Names of the operators that have a body now.

    Raises:
        ExportError: One has no body, or two nodes of it would need different ones.
    """
    found = [item for item in custom_nodes(model) if choose(item.op)]
    shapes = _Shapes(model, sizes or {})
    bodies: dict[str, tuple[Any, str]] = {}
    for item in found:
        inputs, attributes = shapes.of(item), attributes_of(item)
        need = (inputs, sorted(attributes.items(), key=lambda pair: pair[0]))
        if item.op.name in bodies:
            if bodies[item.op.name][0] != need:
                raise ExportError(
                    f"{item.op.name} is called with different attributes or fixed sizes by "
                    f"{bodies[item.op.name][1]} and {item.node.name}: one function cannot be both.",
                    hint="Export with --custom-ops inline, or node.",
                )
            continue
        graph = make_body(item.op, inputs, attributes, _opset(model))
        function = _function(item, graph, item.node.domain, item.node.op_type)
        model.functions[function.identifier()] = function
        bodies[item.op.name] = (need, str(item.node.name))
    return tuple(bodies)


def rename_operators(model: ir.Model, domain: str) -> tuple[str, ...]:
    """Call the custom operators of a model by the names they have in another domain, in place.

    Args:
        model: The model.
        domain: The domain; "" is the default one.

    Returns:
        Names of the operators that were renamed.

    Raises:
        ExportError: An operator has no name there, or not at the opset of the model.
    """
    renamed: dict[str, None] = {}
    for item in list(custom_nodes(model)):
        alias = next((one for one in item.op.aliases if one.domain == domain), None)
        if alias is None:
            known = ", ".join(one.domain or "ai.onnx" for one in item.op.aliases) or "none"
            raise ExportError(
                f"{item.op.name} has no name in the domain '{domain or 'ai.onnx'}'.",
                hint=f"Other domains that know it: {known}. Leave --custom-ops-domain out for its own.",
            )
        opset = _opset(model)
        if alias.opsets and opset not in alias.opsets:
            raise ExportError(
                f"{domain or 'ai.onnx'}::{alias.name} is registered for opsets "
                f"{alias.opsets[0]} to {alias.opsets[-1]}; the model has {opset}.",
                hint=f"Export with --legacy --opset {alias.opsets[-1]}"
                f"{f', or with --opset {opset} into its own domain' if opset else ''}.",
            )
        _narrow_indices(item, alias.index)
        item.node.domain, item.node.op_type, item.node.version = domain, alias.name, None
        renamed[item.op.name] = None
    if renamed:
        if domain:
            model.graph.opset_imports.setdefault(domain, 1)
        _drop_unused_domains(model, {name.partition("::")[0] for name in renamed})
    return tuple(renamed)


def _narrow_indices(item: CustomNode, dtype: str) -> None:
    """Cast the integer inputs of a node to what the target's parser wants."""
    import onnx_ir as ir

    if dtype == "int64":
        return
    for at, wanted in enumerate(item.op.signature.inputs[: len(item.node.inputs)]):
        value = item.node.inputs[at]
        if wanted.letter != "I" or value is None or value.dtype == ir.DataType.INT32:
            continue
        cast = ir.node(
            "Cast", [value], {"to": int(ir.DataType.INT32)}, name=f"{item.node.name}_index_{at}"
        )
        cast.outputs[0].name = f"{value.name}_int32_{item.node.name or at}"
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, ir.TensorType(ir.DataType.INT32)
        graph = item.node.graph
        if graph is not None:
            graph.insert_before(item.node, cast)
        item.node.replace_input_with(at, cast.outputs[0])


def _opset(model: ir.Model) -> int:
    imports = model.graph.opset_imports
    return int(imports.get("", imports.get("ai.onnx", 0)))


def _drop_unused_domains(model: ir.Model, domains: Collection[str]) -> None:
    used = {node.domain for graph in model.graphs() for node in graph}
    used |= {function.domain for function in model.functions.values()}
    for domain in domains:
        if domain not in used:
            model.graph.opset_imports.pop(domain, None)


def _function(item: CustomNode, graph: ir.Graph, domain: str, name: str) -> ir.Function:
    """Wrap a body as a function with all inputs of the operator, weights as constants."""
    import onnx_ir as ir

    for at, (label, value) in enumerate(list(graph.initializers.items())):
        constant = ir.node("Constant", [], {"value": value.const_value}, name=f"constant_{at}")
        constant.outputs[0].name = f"{label}_constant"
        graph.insert_before(graph[0], constant) if len(graph) else graph.append(constant)
        ir.convenience.replace_all_uses_with(value, constant.outputs[0])
    graph.initializers.clear()
    _separate_outputs(graph)
    given = iter(list(graph.inputs))
    inputs = []
    for at in range(len(item.op.signature.inputs)):
        absent = at >= len(item.node.inputs) or item.node.inputs[at] is None
        inputs.append(ir.Value(name=f"absent_{at}") if absent else next(given))
    del inputs[len(item.node.inputs) :]
    graph.inputs.clear()
    graph.inputs.extend(inputs)
    kinds = {"int": "INT", "bool": "INT", "float": "FLOAT", "ints": "INTS", "floats": "FLOATS"}
    attributes = [
        ir.Attr(one.name, ir.AttributeType[kinds[one.kind]], None)
        for one in item.op.signature.attributes
    ]
    return ir.Function(domain, name, graph=graph, attributes=attributes)


def _separate_outputs(graph: ir.Graph) -> None:
    """Give an output that is an input a node of its own: a function cannot return its input."""
    import onnx_ir as ir

    for at, value in enumerate(graph.outputs):
        if value.is_graph_input():
            node = ir.node("Identity", [value])
            node.outputs[0].name = f"{value.name}_copy_{at}"
            graph.append(node)
            graph.outputs[at] = node.outputs[0]


class _Shapes:
    """What the inputs of custom nodes look like: which sizes are fixed, and sizes that go together.

    The model's own shape inference says what is fixed. Run again with numbers in place of the
    names of dynamic dimensions, it gives sizes that fit each other.
    """

    def __init__(self, model: ir.Model, sizes: Mapping[str, int]) -> None:
        import onnx_ir as ir

        for item in custom_nodes(model):
            register_schema(item.op)
        proto = ir.to_proto(_light(model))
        self._declared = _infer(proto)
        names = [
            dim.dim_param
            for value in proto.graph.input
            for dim in value.type.tensor_type.shape.dim
            if dim.dim_param
        ]
        chosen = {
            name: max(2, sizes.get(name, _EXAMPLE_SIZES[at % len(_EXAMPLE_SIZES)]))
            for at, name in enumerate(dict.fromkeys(names))
        }
        self._concrete = _infer(_fixed(proto, chosen))

    def of(self, item: CustomNode) -> tuple[BodyInput | None, ...]:
        """Return the inputs of a node."""
        values = list(item.node.inputs)
        values += [None] * (len(item.op.signature.inputs) - len(values))
        return tuple(None if value is None else self._input(item, value) for value in values)

    def _input(self, item: CustomNode, value: ir.Value) -> BodyInput:
        name = str(value.name)
        dtype, declared = self._declared.get(name, (None, None))
        if dtype is None and value.dtype is not None:
            dtype = dtype_of(int(value.dtype)).name
        if declared is None and value.shape is not None:
            declared = [dim if isinstance(dim, int) else None for dim in value.shape]
        if dtype is None or declared is None:
            raise ExportError(
                f"The shape of '{name}', which {item.node.name or item.op.name} reads, is not known.",
                hint=f"{item.op.name} then cannot be written in standard operators; export the model "
                "through torch.export (without --legacy).",
            )
        concrete = self._concrete.get(name, (dtype, None))[1] or [None] * len(declared)
        example = tuple(
            fixed if fixed is not None else max(2, size or _UNKNOWN_SIZE)
            for fixed, size in zip(declared, concrete, strict=True)
        )
        dynamic = tuple(axis for axis, fixed in enumerate(declared) if fixed is None)
        return BodyInput(dtype, example, dynamic)


def _light(model: ir.Model) -> ir.Model:
    """Return a model whose large weights are left out: only their shapes matter."""
    import onnx_ir as ir

    copy = model.clone()
    for name, value in list(copy.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > 4096:
            copy.graph.initializers.pop(name)
            value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
            copy.graph.inputs.append(value)
    return copy


def _fixed(proto: ModelProto, sizes: Mapping[str, int]) -> ModelProto:
    """Return a model with numbers for the names of its input sizes, and nothing said of the rest."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = sizes.get(dim.dim_param, _UNKNOWN_SIZE)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return copy


def _infer(proto: ModelProto) -> dict[str, tuple[str | None, list[int | None] | None]]:
    import onnx

    with alias_schemas():
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    graph = inferred.graph
    found: dict[str, tuple[str | None, list[int | None] | None]] = {
        tensor.name: (dtype_of(tensor.data_type).name, list(tensor.dims))
        for tensor in graph.initializer
    }
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        dims = (
            [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
            if tensor.HasField("shape")
            else None
        )
        found[value.name] = (dtype_of(tensor.elem_type).name if tensor.elem_type else None, dims)
    return found
