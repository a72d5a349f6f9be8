"""Write the smallest piece of a model that shows a fault, with what goes in and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.diagnosis import Cause
from shipway.files import atomic_folder, write_json
from shipway.tensorfiles import file_name
from shipway.tensors import Tensors
from shipway.trace.golden import Piece

__all__ = ["write_replay"]

_SCRIPT = '''\
"""Show the fault again: run this piece of the golden on what the engine had, and compare.

    python replay.py                      what the golden makes of it, beside what the engine made
    python replay.py openvino:bf16        the same piece in an engine, beside both
"""

import json
import sys
from pathlib import Path

import numpy as np

import shipway

HERE = Path(__file__).parent
PIECE = json.loads((HERE / "piece.json").read_text())


def load(file):
    value = np.load(HERE / file)
    return value.view("bfloat16") if value.dtype.kind == "V" else value


def show(name, golden, actual):
    found = shipway.measure(golden, actual)
    print(f"{name}: relative L2 {found.relative_l2}, worst channel {found.worst_channel}, gain {found.gain}")


def run(target):
    request = shipway.SourceRequest(str(HERE / PIECE["model"]))
    feeds = {name: load(file) for name, file in PIECE["inputs"].items()}
    with shipway.open_model(request, shipway.parse_target(target), shipway.EngineOptions()) as opened:
        specs = opened.session.inputs
        ordered = {spec.name: feed for spec, feed in zip(specs, feeds.values(), strict=True)}
        return next(iter(opened.session.run(ordered).values()))


if __name__ == "__main__":
    expected, actual = load("expected.npy"), load("actual.npy")
    print(f"{PIECE['output']}: {PIECE['cause']['kind']}: {PIECE['cause']['explanation']}")
    show("what the engine made of it, against the golden", expected, actual)
    for target in sys.argv[1:] or [PIECE["golden"]]:
        again = run(target)
        show(f"{target} now, against the golden", expected, again.reshape(expected.shape))
        show(f"{target} now, against the engine then", actual, again.reshape(expected.shape))
'''


def write_replay(
    folder: Path,
    number: int,
    piece: Piece,
    feeds: Tensors,
    expected: NDArray[Any],
    actual: NDArray[Any],
    *,
    cause: Cause,
) -> Path:
    """Write a piece, its inputs, what it should give and what it gave, and a script that runs it.

    Args:
        folder: Where to; a folder of its own is made in it.
        number: Number of the culprit, from 0.
        piece: Golden's operators between the last right tensors and the wrong one.
        feeds: The engine's own tensors at its start.
        expected: What the golden makes of them.
        actual: What the engine made of them.
        cause: What kind of fault it is.

    Returns:
        The folder made: `<number>-<name of the tensor>`.

    Raises:
        OutputError: It cannot be written, or the disk is full.
    """
    target = folder / f"{number + 1:02d}-{file_name(piece.output)}"
    with atomic_folder(target) as scratch:
        model = piece.save(scratch)
        files = {}
        for index, name in enumerate(piece.inputs):
            files[name] = f"input-{index}.npy"
            np.save(scratch / files[name], feeds[name])
        np.save(scratch / "expected.npy", expected)
        np.save(scratch / "actual.npy", actual)
        write_json(
            scratch / "piece.json",
            {
                "schema_version": 1,
                "model": model.name,
                "golden": "torch" if model.suffix == ".pt2" else "onnxruntime",
                "output": piece.output,
                "inputs": files,
                "operators": [{"name": one.name, "op": one.op} for one in piece.operators],
                "cause": cause.to_json(),
            },
        )
        (scratch / "replay.py").write_text(_SCRIPT, encoding="utf-8")
    return target
