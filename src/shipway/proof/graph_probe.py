"""Tries sizes in a process of its own: ONNX Runtime 1.31 aborts on an LSTM with an empty batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway.source.operators import load_operator_files, operator_files
from shipway.tensors import TensorSpec

__all__ = ["probe_sizes"]

_TIMEOUT_S = 300


def probe_sizes(
    model: Path, specs: Sequence[TensorSpec], sets: Sequence[Mapping[str, int]]
) -> list[str]:
    """Return for each set of sizes why a model does not run there, "" where it does.

    Args:
        model: The .onnx file.
        specs: Its inputs, with ranges.
        sets: Sizes to try.
    """
    reasons: list[str] = []
    while len(reasons) < len(sets):
        asked = {
            "model": str(model),
            "operators": list(map(str, operator_files())),
            "specs": [spec.to_json() for spec in specs],
            "sets": [dict(one) for one in sets[len(reasons) :]],
        }
        command = [sys.executable, "-m", "shipway.proof.graph_probe"]
        try:
            done = subprocess.run(  # noqa: S603 -- our own module, in our own interpreter
                command,
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            told, ended = done.stdout.splitlines(), f"ends the process ({done.returncode})"
        except subprocess.TimeoutExpired:
            told, ended = [], f"does not end within {_TIMEOUT_S} s"
        reasons += [json.loads(line) for line in told]
        if len(reasons) < len(sets):
            reasons.append(f"ONNX Runtime {ended}")
    return reasons


def _main() -> None:
    from shipway.proof.graph import run_at

    asked = json.load(sys.stdin)
    load_operator_files(map(Path, asked["operators"]))
    specs = tuple(TensorSpec.from_json(one) for one in asked["specs"])
    for reason in run_at(Path(asked["model"]), specs, asked["sets"]):
        sys.stdout.write(json.dumps(reason) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
