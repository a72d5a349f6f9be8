"""A program made ready to be run node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.engines.exported import (
    TORCH_NOISE,
    import_torch,
    read_program,
    read_signature,
    to_tensors,
)
from shipway.engines.limits import AxisLimit, check_limits, read_limits
from shipway.engines.requests import engine_errors
from shipway.engines.tapping import Tap
from shipway.engines.torch.aliasing import Writing, find_writing
from shipway.engines.torch.describing import describe_taps, output_taps
from shipway.engines.torch.references import call_references
from shipway.engines.torch.session import effective_settings
from shipway.engines.torch.widening import to_double, widen_graph
from shipway.errors import ModelError, ShipwayError
from shipway.export.portable import PortableModel
from shipway.tensors import Tensors, TensorSpec, check_feeds

__all__ = ["FlatProgram", "flatten_program"]


@dataclass(frozen=True, slots=True, eq=False)
class FlatProgram:
    """The nodes of an exported program, its weights, and what is known of its tensors.

    Args:
        module: The torch.fx.GraphModule.
        nodes: Its nodes in order, the output left out.
        weights: Value of each placeholder that is no input: weights, buffers, constants.
        placeholders: Placeholder of each input of the model, in order.
        inputs: Specs of the inputs.
        limits: Sizes the program was exported for.
        taps: The tensors that can be shown, in order.
        untapped: The others, with the reason.
        outputs: For each output of the model, the name of its tap.
        writing: What it writes to in place.
        last_use: For each node, the values that nothing reads after it.
        random: Nodes that draw random numbers.
        double: It computes in float64.
        threads: Threads inside an operator.
        effective: What is in force.
    """

    module: Any
    nodes: tuple[Any, ...]
    weights: Mapping[Any, Any]
    placeholders: tuple[Any, ...]
    inputs: tuple[TensorSpec, ...]
    limits: tuple[AxisLimit, ...]
    taps: tuple[Tap, ...]
    untapped: Mapping[str, str]
    outputs: Mapping[str, str]
    writing: Writing
    last_use: Mapping[Any, tuple[Any, ...]]
    random: frozenset[Any]
    double: bool
    threads: int
    effective: Mapping[str, str]

    def bind(self, feeds: Tensors) -> dict[Any, Any]:
        """Return the value of every placeholder for a run.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
        """
        check_feeds(self.inputs, feeds)
        check_limits(self.inputs, self.limits, feeds)
        arrays = (feeds[spec.name] for spec in self.inputs)
        values = dict(zip(self.placeholders, self.own_tensors(arrays), strict=True))
        state = self.writing.last  # a run starts from the state the program was exported with
        weights = {
            node: value.clone() if node in state and hasattr(value, "clone") else value
            for node, value in self.weights.items()
        }
        return {**weights, **values}

    def own_tensors(self, arrays: Iterable[NDArray[Any]]) -> list[Any]:
        """Return arrays as tensors in the program's precision, safe to be written to if need be."""
        tensors = to_tensors(arrays, copy=bool(self.writing.written))
        return [to_double(tensor) for tensor in tensors] if self.double else tensors

    def compute(self, node: Any, value_of: Callable[[Any], Any]) -> Any:
        """Compute one node from the values of those it reads.

        Raises:
            EngineError: The operator failed.
        """
        import torch

        if node.op == "get_attr":
            return getattr(self.module, node.target)
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), value_of)
        return self.call(node, node.target, args, kwargs)

    def call(
        self, node: Any, target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a function in place of a node.

        Raises:
            EngineError: The function failed; the message names the node and its line.
        """
        try:
            result = target(*args, **kwargs)
        except ShipwayError:
            raise
        except Exception:
            with engine_errors(f"PyTorch failed at {self.describe(node)}", TORCH_NOISE):
                raise
        return to_double(result) if self.double else result

    def describe(self, node: Any) -> str:
        """Name a node with its operator and the line of the user's code."""
        tap = next((item for item in self.taps if item.name == node.name), None)
        if tap is None or not tap.op:
            return f"{node.name} ({node.target})"
        return f"{node.name} ({tap.op}{', ' if tap.source else ''}{tap.source})"


def flatten_program(
    path: Path,
    model: PortableModel,
    *,
    threads: int,
    double: bool = False,
    program: Any = None,
) -> FlatProgram:
    """Load an exported program so that it can be run node by node.

    Args:
        path: The .pt2 file.
        model: Whose inputs and outputs it has.
        threads: Threads inside an operator.
        double: Compute in float64: weights, float inputs, constants, and casts to a float dtype.
        program: The program in it, where it was read already; its graph is changed.

    Raises:
        EngineMissing: torch is not installed.
        EngineError: It calls an operator that is not registered.
        ModelError: The file is no exported program, or has other inputs or outputs than the model.
    """
    import_torch("torch")
    program = read_program(path) if program is None else program
    signature = read_signature(path, program, model)
    module = program.graph_module
    nodes = tuple(node for node in module.graph.nodes if node.op != "output")
    taps, untapped = describe_taps(program, model)
    by_name = {node.name: node for node in nodes}
    writing = find_writing(list(nodes))
    random = frozenset(node for node in nodes if _draws(node.target))
    weights = {by_name[name]: value for name, value in _weights(path, program).items()}
    effective = effective_settings(program, threads)
    if called := call_references(module):
        effective["custom_ops"] = "; ".join(f"{name}: reference" for name in called)
    if double:
        widen_graph(module)
        weights = {node: to_double(value) for node, value in weights.items()}
        effective["precision"] = "f64"
    return FlatProgram(
        module=module,
        nodes=nodes,
        weights=weights,
        placeholders=tuple(by_name[name] for name in signature.placeholders),
        inputs=model.inputs,
        limits=read_limits(program, signature.placeholders),
        taps=taps,
        untapped=untapped,
        outputs=output_taps(program, model),
        writing=writing,
        last_use=_last_use(nodes),
        random=random,
        double=double,
        threads=threads,
        effective=effective,
    )


def _weights(path: Path, program: Any) -> dict[str, Any]:
    """Return the value of each placeholder that is no tensor input."""
    from torch.export.graph_signature import InputKind, TensorArgument

    values = {**program.constants, **program.state_dict}
    found = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            if spec.target not in values:
                raise ModelError(
                    f"{path} takes '{spec.arg.name}' ({spec.kind.name.lower()}), which cannot be "
                    "given to it node by node.",
                    hint="Export it without operators that have side effects.",
                )
            found[spec.arg.name] = values[spec.target]
        elif not isinstance(spec.arg, TensorArgument):
            found[spec.arg.name] = spec.arg.value
    return found


def _draws(target: Any) -> bool:
    import torch

    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _last_use(nodes: Sequence[Any]) -> dict[Any, tuple[Any, ...]]:
    reader = {node: node for node in nodes}
    for node in nodes:
        for source in node.all_input_nodes:
            reader[source] = node
    found: dict[Any, list[Any]] = {}
    for node, last in reader.items():
        found.setdefault(last, []).append(node)
    return {last: tuple(items) for last, items in found.items()}
