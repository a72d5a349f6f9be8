"""A model as one ExportedProgram: golden, AOTInductor's source and ONNX all come from it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from shipway.errors import ExportError, TensorError
from shipway.export.guards import watch_decisions
from shipway.export.outputs import FlatOutputs, flat_outputs, flatten_outputs
from shipway.export.refusals import (
    explain_failure,
    explain_refusal,
    is_about_one,
    name_symbols,
    suggested_minima,
)
from shipway.export.signature import Binding
from shipway.export.sizes import Bounds, check_bounds, dynamic_dims, example_sizes
from shipway.tensors import ANY, Dim, TensorSpec, dtype_named, random_feeds

__all__ = [
    "Example",
    "capture_program",
    "find_example",
    "keep_state",
    "mutation_warnings",
    "output_specs",
    "patch_recurrences",
    "program_bounds",
    "program_state",
    "symbol_names",
    "tensor_outputs",
    "to_numpy",
    "to_torch",
    "user_inputs",
]

_UNLIMITED = 1 << 40
"""torch writes "no limit" in several ways; no tensor has a dimension this large."""


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs that the model accepts, and what it returned.

    Args:
        sizes: Size of each dynamic dimension.
        feeds: torch tensors by input name.
        outputs: What `forward` returned for them.
    """

    sizes: dict[str, int]
    feeds: dict[str, Any]
    outputs: FlatOutputs


@dataclass(slots=True)
class Capture:
    """A program and what was noticed on the way to it."""

    program: Any
    warnings: list[str] = field(default_factory=list)


def to_torch(array: NDArray[Any]) -> Any:
    """Return a numpy array as a torch tensor of its own; bfloat16 passes through its bits."""
    import numpy as np
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


class Arguments(Protocol):
    """Input specs, and how their values are passed."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """In the order of the model's inputs."""

    def arguments(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the values, given by spec name, as `args` and `kwargs`."""


def to_numpy(tensor: Any) -> NDArray[Any]:
    """Return a torch tensor as a numpy array of its own."""
    import numpy as np
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        bits = tensor.contiguous().view(torch.uint16).numpy()
        return np.array(bits).view(dtype_named("bfloat16").numpy)
    return np.array(tensor.numpy())


def find_example(module: Any, binding: Arguments, bounds: Bounds, *, seed: int = 0) -> Example:
    """Run the model on random inputs at the first sizes it accepts.

    Raises:
        ExportError: It accepts none; the message quotes the line that failed.
    """
    import torch

    check_bounds(binding.specs, bounds)
    failure: Exception | None = None
    sizes: dict[str, int] = {}
    for sizes in example_sizes(binding.specs, bounds):
        arrays = random_feeds(binding.specs, seed=seed, sizes=sizes)
        feeds = {name: to_torch(array) for name, array in arrays.items()}
        args, kwargs = binding.arguments({name: value.clone() for name, value in feeds.items()})
        try:
            with torch.no_grad(), keep_state(module.buffers()):
                flat = flatten_outputs(module(*args, **kwargs))
                for name, tensor in zip(flat.names, flat.tensors, strict=True):
                    _dtype_name(name, tensor.dtype)
                # A model may return its own state, which is put back as the block ends.
                flat.tensors = [tensor.clone() for tensor in flat.tensors]
                return Example(sizes, feeds, flat)
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 -- a user's forward may raise anything
            failure = error
    specs = ", ".join(str(spec) for spec in binding.specs)
    raise explain_failure(failure or RuntimeError(), sizes, specs) from failure


def capture_program(module: Any, binding: Binding, example: Example, bounds: Bounds) -> Capture:
    """Trace the model with torch.export; it then returns a flat tuple of tensors.

    Where torch finds that a dimension without bounds has some (an image must not be smaller than
    the kernel), they are taken over and told in the warnings.

    Raises:
        ExportError: torch.export refuses the model, or a dimension would not stay dynamic.
    """
    minima: dict[str, int] = {}
    oblivious = False
    while True:
        limits = {**{name: (low, None) for name, low in minima.items()}, **bounds}
        with watch_decisions() as watch:
            try:
                program = _trace(module, binding, example, limits, oblivious=oblivious)
                break
            except Exception as error:
                names = watch.name_symbols(example.sizes)
                more = suggested_minima(error, watch, names, example.sizes)
                if any(
                    low > minima.get(name, 1) for name, low in more.items() if name not in bounds
                ):
                    minima |= more
                elif is_about_one(error) and not oblivious:
                    oblivious = True
                else:
                    raise explain_refusal(error, watch, names) from error
    _drop_unused_symbols(program)
    symbol_names(program, binding.specs)
    warnings = [
        *(f"dimension '{name}' must be at least {low}" for name, low in minima.items()),
        *mutation_warnings(program),
        *_disagreement(program, binding, example),
    ]
    return Capture(program, warnings)


def _trace(
    module: Any, binding: Binding, example: Example, bounds: Bounds, *, oblivious: bool
) -> Any:
    """Call torch.export.

    Args:
        module: The module.
        binding: Its inputs.
        example: What to trace it with.
        bounds: Of the dynamic dimensions.
        oblivious: Do not guard against dimensions inside the model being 0 or 1, as torch.onnx
            does by default: an image that three poolings reduce to one pixel is an image. What the
            model's own code asks about sizes is guarded all the same.
    """
    import torch
    from torch.fx.experimental import _config as shape_config

    shapes = _dynamic_shapes(binding.specs, example, bounds)
    args, kwargs = binding.arguments(example.feeds)
    with (
        flat_outputs(module),
        patch_recurrences(),
        shape_config.patch(backed_size_oblivious=oblivious),
        # torch prints the half-traced graph to stderr before it raises.
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def program_bounds(program: Any, symbols: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
    """Return the sizes a program was made for, by the user's names; only what is a limit."""
    bounds: dict[str, tuple[int, int | None]] = {}
    for symbol, limits in program.range_constraints.items():
        low, high = max(1, int(limits.lower)), int(min(_UNLIMITED, limits.upper))
        if str(symbol) in symbols and (low > 1 or high < _UNLIMITED):
            bounds[symbols[str(symbol)]] = (low, high if high < _UNLIMITED else None)
    return bounds


def _dynamic_shapes(specs: Sequence[TensorSpec], example: Example, bounds: Bounds) -> Any:
    """Tell torch which axes of which tensor are dynamic; one Dim a name."""
    from torch.export import Dim as TorchDim
    from torch.export import ShapesCollection

    limits = {name: bounds.get(name, (1, None)) for name in dynamic_dims(specs)}
    dims = {name: TorchDim(name, min=low, max=high) for name, (low, high) in limits.items()}
    shapes = ShapesCollection()
    for spec in specs:
        axes = {axis: dims[dim] for axis, dim in enumerate(spec.shape or ()) if dim in dims}
        if axes:
            shapes[example.feeds[spec.name]] = axes
    return shapes if dims else None


@contextlib.contextmanager
def patch_recurrences() -> Iterator[None]:
    """Let torch.export keep the sequence length of nn.LSTM and nn.GRU dynamic.

    Without it torch unrolls them and fixes the length to that of the example. torch.onnx does the
    same around its own call of torch.export.
    """
    try:
        from torch.export import _patches as patches
    except ImportError:  # before torch 2.12
        yield
        return
    with (
        patches.register_lstm_while_loop_decomposition(),
        patches.register_gru_while_loop_decomposition(),
    ):
        yield


def user_inputs(program: Any) -> list[Any]:
    """Return the placeholder nodes of the program's tensor inputs, in order."""
    from torch.export.graph_signature import InputKind, TensorArgument

    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [
        nodes[spec.arg.name]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
    ]


def tensor_outputs(program: Any) -> list[str]:
    """Return the names of the nodes that the program returns, tensors only, in order."""
    from torch.export.graph_signature import OutputKind, TensorArgument

    return [
        spec.arg.name
        for spec in program.graph_signature.output_specs
        if spec.kind is OutputKind.USER_OUTPUT and isinstance(spec.arg, TensorArgument)
    ]


def symbol_names(program: Any, specs: Sequence[TensorSpec]) -> dict[str, str]:
    """Return the user's name for each of the program's symbols.

    Symbols that torch made itself (sizes that depend on data) keep their names, with `_` appended
    where a name of the user is the same.

    Raises:
        ExportError: A dimension that was to be dynamic is fixed in the program, or the other way
            round.
    """
    names: dict[str, str] = {}
    for spec, node in zip(specs, user_inputs(program), strict=True):
        for axis, (dim, size) in enumerate(
            zip(spec.shape or (), node.meta["val"].shape, strict=True)
        ):
            if isinstance(dim, str) and isinstance(size, int):
                raise ExportError(
                    f"Dimension '{dim}' (axis {axis} of '{spec.name}') was asked to be dynamic, but "
                    f"the program fixes it to {size}.",
                    hint=f"Write {size} in its place in --input, or export the program again.",
                )
            if isinstance(dim, int) and not isinstance(size, int):
                raise ExportError(
                    f"Axis {axis} of '{spec.name}' is dynamic in the program ({size}), not {dim}.",
                    hint="Give it a name in --input.",
                )
            if isinstance(dim, str):
                names[str(size)] = dim
    taken = set(names.values())
    for symbol in program.range_constraints:
        own = str(symbol)
        if own not in names:
            names[own] = own + "_" * (own in taken)
    return names


def output_specs(
    program: Any, names: Sequence[str], symbols: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """Return the specs of the program's outputs under their final names.

    A size that is an expression of symbols is `?` in the spec; the ONNX file has the expression.

    Raises:
        ExportError: An output has an element type that Shipway does not carry.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    found = [nodes[name].meta["val"] for name in tensor_outputs(program)]
    specs = []
    for name, value in zip(names, found, strict=True):
        shape = tuple(_spec_dim(size, symbols) for size in value.shape)
        specs.append(TensorSpec(name, _dtype_name(name, value.dtype), shape))
    return tuple(specs)


def _spec_dim(size: Any, symbols: Mapping[str, str]) -> Dim:
    if isinstance(size, int):
        return size
    text = name_symbols(str(size), symbols)
    return text if text.isidentifier() else ANY


def _dtype_name(name: str, dtype: Any) -> str:
    try:
        return dtype_named(str(dtype).removeprefix("torch.")).name
    except TensorError as error:
        raise ExportError(
            f"Output '{name}' has dtype {dtype}, which no engine takes.",
            hint="Convert it in forward, e.g. torch.view_as_real for complex numbers.",
        ) from error


def _drop_unused_symbols(program: Any) -> None:
    """Forget symbols that no tensor of the graph has: torch warns about each of them on loading."""
    import torch

    used = {
        str(symbol)
        for node in program.graph.nodes
        for value in _flat(node.meta.get("val"))
        for size in (value.shape if isinstance(value, torch.Tensor) else [value])
        if hasattr(size, "node")
        for symbol in size.node.expr.free_symbols
    }
    for symbol in list(program.range_constraints):
        if str(symbol) not in used:
            del program.range_constraints[symbol]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def mutation_warnings(program: Any) -> list[str]:
    """Say which state the program changes as it runs, which an ONNX model does not."""
    from torch.export.graph_signature import InputKind

    said = {
        InputKind.BUFFER: "forward changes the buffer '{}'; the ONNX model does not keep the "
        "change: every run starts from the exported state",
        InputKind.USER_INPUT: "forward changes its input '{}' in place; the ONNX model leaves it "
        "alone",
    }
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    written = dict.fromkeys(_written(node) for node in program.graph.nodes)
    return [
        said[specs[name].kind].format(specs[name].target or name)
        for name in written
        if name in specs and specs[name].kind in said
    ]


def _written(node: Any) -> str:
    """Return the placeholder that a node writes to, through views of it; "" for none."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or not node.args:
        return ""
    target = node.args[0]
    while getattr(target, "op", "") == "call_function":
        views = getattr(target.target, "_schema", None)
        if views is None or not any(item.alias_info for item in views.returns) or not target.args:
            return ""
        target = target.args[0]
    return str(getattr(target, "name", ""))


@contextlib.contextmanager
def keep_state(tensors: Iterable[Any]) -> Iterator[None]:
    """Put tensors back as they were: a model may count its calls or keep a cache in its buffers."""
    import torch

    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                if tensor.shape == before.shape and not torch.equal(tensor, before):
                    tensor.copy_(before)


def program_state(program: Any) -> list[Any]:
    """Return the buffers and constants of a program: what running it may change."""
    import torch

    values = {**program.constants, **program.state_dict}
    weights = set(program.graph_signature.parameters)
    return [
        value
        for name, value in values.items()
        if name not in weights and isinstance(value, torch.Tensor)
    ]


def _disagreement(program: Any, binding: Binding, example: Example) -> list[str]:
    """Run the program on the example and say where it does not return what the module did."""
    import torch

    args, kwargs = binding.arguments({key: value.clone() for key, value in example.feeds.items()})
    with torch.no_grad(), keep_state(program_state(program)):
        actual = program.module()(*args, **kwargs)
    warnings = []
    for name, mine, golden in zip(
        example.outputs.names, actual, example.outputs.tensors, strict=True
    ):
        same = mine.shape == golden.shape and torch.allclose(
            mine.to(torch.float64), golden.to(torch.float64), rtol=1e-3, atol=1e-3, equal_nan=True
        )
        if not same:
            warnings.append(
                f"the traced program does not return what forward returned for '{name}' on the same "
                "input: forward is random, or depends on something other than its inputs"
            )
    return warnings
