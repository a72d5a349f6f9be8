"""The `shipway graph extract` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.proving import Proved, prove_unsaved, show_proof
from shipway.cli.terminal import print_json, print_result, start_log
from shipway.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.export.name_map import NameMap
    from shipway.tensors import TensorSpec

__all__ = ["extract"]

_MAP_SUFFIX = ".map.json"


def extract(
    model: Path,
    *,
    inputs: Many = (),
    outputs: Many = (),
    output: Path | None = None,
    type: Many = (),  # noqa: A002 -- the name of the flag
    size: Many = (),
    run: Flag = False,
    prove: Flag = False,
    at: Many = (),
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Cut a part out of an ONNX model: what lies between some of its values and others.

    The new inputs and outputs get the dtypes and shapes that follow from the whole model. `--prove`
    runs the whole model on hostile inputs, feeds the part what flows into it there, and compares
    its outputs. Writes the model and, where the whole one has a name map, the map of the part.

    ```
    shipway graph extract model.onnx --inputs /layer3/Add_output_0 --outputs logits --prove
    shipway graph extract model.onnx --outputs "/stem/Relu_output_0,/stem/Add_output_0"
    ```

    Args:
        model: The .onnx file.
        inputs: Values at which the part begins, e.g. a,b; the model's inputs by default.
        outputs: Values at which it ends, e.g. c,d; the model's outputs by default.
        output: Where to write; MODEL.part.onnx beside it by default.
        type: Dtype and shape of an input or output that cannot be inferred, e.g.
            "a:float32[batch,3]". Again for each.
        size: Number for a dynamic dimension, which is fixed to it, e.g. batch=1. Again for each.
        run: Find shapes that cannot be inferred by running the model.
        prove: Prove that the part computes the same as the whole; exit 1 where it does not, and
            write OUTPUT.refused.onnx instead.
        at: Size of a dynamic dimension for --run and --prove alone, e.g. batch=3.
        seed: Seed of the proof's inputs.
        json: Print JSON.
    """
    from shipway.graph.extracting import extract_graph
    from shipway.graph.loading import load_graph
    from shipway.graph.saving import save_graph
    from shipway.tensors import parse_spec

    start_log(quiet=json)
    if not inputs and not outputs and not size:
        raise UsageError(
            "Name where the part begins or ends.",
            hint=f"shipway graph extract {model} --inputs a,b --outputs c",
        )
    sizes = read_numbers(size, "--size")
    tried = read_numbers(at, "--at")
    types = [parse_spec(one) for one in type]
    target = output or model.with_name(f"{model.stem}.part.onnx")
    graph, name_map = load_graph(model), _read_name_map(model)
    begin, end = _split(inputs, graph), _split(outputs, graph)
    seen: tuple[TensorSpec, ...] = ()
    if run:
        ends = end if end is not None else [one.name for one in graph.graph.outputs if one.name]
        seen = _observe(model, (begin or []) + ends, types, sizes, tried)
    result = extract_graph(graph, begin, end, types=(*types, *seen), sizes=sizes)
    proved = _prove(model, graph, target, {**tried, **sizes}, seed) if prove else None
    target = target if proved is None else proved.target
    companions = save_graph(graph, target)
    facts: dict[str, Any] = {
        "model": str(model),
        "output": str(target),
        "files": [target.name, *companions],
        **result.to_json(),
        "notes": [*result.notes, *(f"found by running the model: {one}" for one in seen)],
        "name_map": _write_name_map(name_map, graph, target),
        "proof": None if proved is None else proved.proof.to_json(),
    }
    if json:
        print_json(facts)
    else:
        _show(facts, proved)
    return 0 if proved is None or proved.proof.passed else 1


def _split(items: Sequence[str], graph: ir.Model) -> list[str] | None:
    """Return the names in texts like a,b; a text that is a name itself stays whole."""
    from shipway.graph.naming import Names

    if not items:
        return None
    known = Names(graph).values
    return [
        name for item in items for name in ([item] if item in known else item.split(",")) if name
    ]


def _observe(
    model: Path,
    names: Sequence[str],
    types: Sequence[TensorSpec],
    sizes: dict[str, int],
    at: dict[str, int],
) -> tuple[TensorSpec, ...]:
    from shipway.proof.observation import observe_types

    told = {one.name for one in types}
    return observe_types(model, [name for name in names if name not in told], sizes=sizes, at=at)


def _prove(model: Path, graph: ir.Model, target: Path, sizes: dict[str, int], seed: int) -> Proved:
    from shipway.proof.extraction import prove_extraction

    return prove_unsaved(model, graph, target, prove=prove_extraction, sizes=sizes, seed=seed)


def _read_name_map(model: Path) -> NameMap | None:
    """Read the whole model's name map, before anything is written; None where it has none."""
    from shipway.export.name_map import read_name_map

    path = model.with_suffix(_MAP_SUFFIX)
    return read_name_map(path) if path.is_file() else None


def _write_name_map(name_map: NameMap | None, graph: ir.Model, target: Path) -> str | None:
    """Write what the map has of the part; return where."""
    from shipway.export.name_map import write_name_map
    from shipway.graph.naming import Names

    if name_map is None:
        return None
    path = target.with_suffix(_MAP_SUFFIX)
    write_name_map(name_map.within(target.name, Names(graph).values), path)
    return str(path)


def _show(facts: dict[str, Any], proved: Proved | None) -> None:
    print_result(f"wrote {facts['output']}")
    for kind in ("input", "output"):
        for text in facts[f"{kind}s"]:
            print_result(f"  {kind:7} {text}")
    for kind in ("nodes", "weights"):
        print_result(f"  {kind:7} {facts[f'{kind}_after']:,} of {facts[f'{kind}_before']:,}")
    if facts["name_map"]:
        print_result(f"  names   {facts['name_map']}")
    for note in facts["notes"]:
        print_result(f"  note    {note}")
    if proved is not None:
        show_proof(proved.proof)
