"""The `shipway graph prove` command."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.proving import show_proof
from shipway.cli.terminal import print_json, show_progress, start_log

__all__ = ["prove"]


def prove(
    before: Path,
    after: Path,
    *,
    kind: Literal["exact", "reassociating"] = "reassociating",
    size: Many = (),
    seed: int = 0,
    nonempty: Flag = False,
    json: Flag = False,
) -> int:
    """Prove that two ONNX files compute the same.

    Both run in ONNX Runtime without optimisation, on normal, negative, zero and large numbers and
    on a NaN, at several sizes of each dynamic dimension, 0 among them. Writes AFTER.proof.json;
    exit 1 where an output differs.

    ```
    shipway graph prove model.onnx edited.onnx
    shipway graph prove model.onnx edited.onnx --size batch=3 --size seq=77
    ```

    Args:
        before: The model that is right.
        after: The edited one.
        kind: What the edit promises: every number (exact), or the same mathematics (reassociating).
        size: Size of a dynamic dimension, e.g. batch=3; only these sizes are tried then.
        seed: Seed of the inputs.
        nonempty: Leave out sizes of 0.
        json: Print JSON.
    """
    from shipway.proof.export import save_proof
    from shipway.proof.graph import prove_graphs

    start_log(quiet=json)
    sizes = [read_numbers(size, "--size")] if size else None
    with show_progress() as progress:
        proof = prove_graphs(
            before,
            after,
            kind=kind,
            sizes=sizes,
            seed=seed,
            nonempty=nonempty,
            progress=progress,
        )
    save_proof(proof, after.with_suffix(".proof.json"))
    if json:
        print_json(proof.to_json())
    else:
        show_proof(proof)
    return 0 if proof.passed else 1
