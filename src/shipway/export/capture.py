"""A module as one ExportedProgram: golden, AOTInductor's source and ONNX all come from it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shipway.export.example import Example, keep_state
from shipway.export.guards import watch_decisions
from shipway.export.outputs import flat_outputs
from shipway.export.program import mutation_warnings, program_state, symbol_names
from shipway.export.refusals import explain_refusal, is_about_one, suggested_minima
from shipway.export.signature import Binding
from shipway.export.sizes import Bounds, dynamic_dims
from shipway.tensors import TensorSpec

__all__ = ["Capture", "capture_program", "patch_recurrences"]


@dataclass(slots=True)
class Capture:
    """A program and what was noticed on the way to it."""

    program: Any
    warnings: list[str] = field(default_factory=list)


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
        _forget_kernels()
        try:
            yield
        finally:
            _forget_kernels()


def _forget_kernels() -> None:
    """Have torch look up again how it computes recurrences: it remembers what the last export used."""
    import torch

    for op in (torch.ops.aten.lstm.input, torch.ops.aten.gru.input):
        op._dispatch_cache.clear()  # noqa: SLF001 -- the patches replace the kernel, not what is remembered


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
