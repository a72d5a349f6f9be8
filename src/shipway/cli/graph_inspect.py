"""The `shipway graph inspect` command."""

from __future__ import annotations

from pathlib import Path

from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.inspecting import show_inspection, show_structure
from shipway.cli.terminal import print_json, start_log
from shipway.errors import UsageError

__all__ = ["inspect"]

_DEEPEST = 64


def inspect(
    model: Path,
    *,
    size: Many = (),
    largest: int = 10,
    structure: Flag = False,
    depth: int = 3,
    json: Flag = False,
) -> int:
    """Say what an ONNX model is made of and what running it takes.

    Opsets and domains, inputs and outputs, operators with their FLOPs, weights, dynamic dimensions,
    functions, sub-graphs. Weights are never read, external data may be absent, and a model that is
    not valid is shown as far as possible with what is wrong.

    ```
    shipway graph inspect model.onnx
    shipway graph inspect model.onnx --size batch=1 --size seq=128
    shipway graph inspect model.onnx --structure --depth 4
    ```

    Args:
        model: The .onnx file.
        size: Size of a dynamic dimension, e.g. batch=3. Again for each. Without, FLOPs are formulas.
        largest: How many of the largest weights to list.
        structure: Show the protobuf structure of the file instead: fields, tag numbers, wire types,
            and the bytes of each.
        depth: Levels of the structure.
        json: Print JSON.
    """
    from shipway.graph.inspecting import inspect_model
    from shipway.graph.inspection.structure import scan_structure

    start_log(quiet=json)
    if structure:
        if not 1 <= depth <= _DEEPEST:
            raise UsageError(f"--depth goes from 1 to {_DEEPEST}, not {depth}.")
        tree = scan_structure(model, depth=depth)
        if json:
            print_json(tree.to_json())
        else:
            show_structure(tree)
        return 0
    if largest < 0:
        raise UsageError(f"--largest must be 0 or more, not {largest}.")
    found = inspect_model(model, sizes=read_numbers(size, "--size"), largest=largest)
    if json:
        print_json(found.to_json())
    else:
        show_inspection(found)
    return 0
