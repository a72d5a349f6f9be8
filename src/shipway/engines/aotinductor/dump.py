"""Run a debug package once: in a program of its own, because it writes where it is started.

`python -m shipway.engines.aotinductor.dump REQUEST` reads what to do from the JSON file REQUEST:

* package: the debug package;
* inputs, outputs: specs of the model;
* feeds: for each input its file (bytes in C order), dtype and shape;
* made: facts about the package;
* operators: files that define custom operators.

It writes output<n>.bin for each output beside that and says their dtypes and shapes in child.RESULT.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from shipway.artifact import Artifact
from shipway.engines.aotinductor.build import answer_request
from shipway.engines.aotinductor.session import AotInductorSession, load_package
from shipway.engines.exported import TORCH_NOISE
from shipway.engines.requests import engine_errors
from shipway.ops.torch_op import register_all
from shipway.source.operators import load_operator_files
from shipway.tensors import TensorSpec, dtype_named, dtype_of

__all__ = ["main"]


def main(request_path: Path) -> None:
    """Do what the request says."""
    answer_request(request_path, _dump)


def _dump(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    load_operator_files(map(Path, request["operators"]))
    register_all()
    artifact = Artifact(
        Path(request["package"]),
        "aotinductor-package",
        "aotinductor",
        tuple(TensorSpec.from_json(item) for item in request["inputs"]),
        tuple(TensorSpec.from_json(item) for item in request["outputs"]),
        made=request["made"],
    )
    feeds = {
        name: np.frombuffer(
            (folder / feed["file"]).read_bytes(), dtype_named(feed["dtype"]).numpy
        ).reshape(feed["shape"])
        for name, feed in request["feeds"].items()
    }
    with engine_errors(f"AOTInductor cannot load {artifact.path}", TORCH_NOISE):
        package = load_package(artifact.path)
    effective = {"threads": str(request["made"]["threads"])}
    with AotInductorSession(artifact, package, effective) as session:
        outputs = session.run(feeds)
    found = {}
    for at, (name, value) in enumerate(outputs.items()):
        file = f"output{at}.bin"
        (folder / file).write_bytes(value.tobytes())
        found[name] = {"file": file, "dtype": dtype_of(value.dtype).name, "shape": value.shape}
    return {"outputs": found}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
