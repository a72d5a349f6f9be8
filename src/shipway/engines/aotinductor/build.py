"""Compile one exported program: a program of its own, because a compiler may crash or chatter.

`python -m shipway.engines.aotinductor.build REQUEST` reads what to do from the JSON file REQUEST and
writes what came of it beside that, in child.RESULT.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.engines.aotinductor.child import PACKAGE, RESULT
from shipway.engines.aotinductor.compiler import (
    cpu_features,
    knows_native_vectors,
    require_compiler,
)
from shipway.engines.aotinductor.debugging import describe_debug
from shipway.engines.aotinductor.narrowing import narrow_program, tensor_examples
from shipway.engines.aotinductor.session import load_package
from shipway.engines.exported import TORCH_NOISE, Signature, read_program, read_signature
from shipway.engines.limits import read_limits
from shipway.engines.requests import engine_errors
from shipway.errors import EngineError, ModelError, ShipwayError
from shipway.export.portable import PortableModel
from shipway.ops.watchdog import watch_kernels
from shipway.source.operators import load_operator_files
from shipway.tensors import TensorSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["answer_request", "main"]

_NO_VECTORS = "INVALID_VEC_ISA"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main(request_path: Path) -> None:
    """Do what the request says; an error of Shipway becomes a result, any other one ends the process."""
    answer_request(request_path, _build)


def answer_request(
    request_path: Path, answer: Callable[[dict[str, Any], Path], dict[str, Any]]
) -> None:
    """Call `answer` with what a request file says and its folder, and write what it returns beside."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    request = json.loads(request_path.read_text(encoding="utf-8"))
    result_path = request_path.parent / RESULT

    def stop(message: str, hint: str) -> None:
        _write(result_path, {"error": EngineError.__name__, "message": message, "hint": hint})
        os._exit(0)

    try:
        watch_kernels(stop)
        result = answer(request, request_path.parent)
    except ShipwayError as error:
        result = {"error": type(error).__name__, "message": str(error), "hint": error.hint}
    _write(result_path, result)


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result), encoding="utf-8")


def _build(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    started = time.perf_counter()
    torch.set_num_threads(request["threads"])
    path = Path(request["program"])
    load_operator_files(map(Path, request["operators"]))
    program = read_program(path)
    model = PortableModel(_specs(request["inputs"]), _specs(request["outputs"]), program=path)
    signature = read_signature(path, program, model)
    _require_examples(path, program, signature)
    limits = read_limits(program, signature.placeholders)
    examples = tensor_examples(program)
    outputs = signature.outputs
    if request["precision"] == "bf16":
        with engine_errors(f"{path} cannot be rewritten to bfloat16", TORCH_NOISE):
            program = narrow_program(program, signature)
        outputs = tuple(range(len(outputs)))
    leaves = examples if request["precision"] == "bf16" else signature.leaves(examples)
    package = folder / PACKAGE
    isa = _compile(program, package, request)
    _try(package, examples, max(outputs, default=0))
    debug = describe_debug(program, leaves, folder) if request["debug"] else {}
    return {
        **debug,
        "limits": [limit.to_json() for limit in limits],
        "outputs": list(outputs),
        "mutates": signature.mutates,
        "threads": request["threads"],
        "isa": isa,
        "cpu_features": list(cpu_features()),
        "compile_seconds": round(time.perf_counter() - started, 1),
    }


def _specs(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.from_json(item) for item in items)


def _require_examples(path: Path, program: ExportedProgram, signature: Signature) -> None:
    """Compiled kernels take the strides of the example inputs for granted."""
    examples = tensor_examples(program)
    if len(examples) != len(signature.placeholders):
        raise ModelError(
            f"{path} was saved without example inputs, which AOTInductor needs.",
            hint="Export it again with shipway export.",
        )
    for name, example in zip(signature.placeholders, examples, strict=True):
        if not example.is_contiguous():
            raise ModelError(
                f"{path} was exported with an input '{name}' that is not contiguous in memory.",
                hint="Export it again, calling .contiguous() on the example.",
            )


def _compile(program: ExportedProgram, package: Path, request: dict[str, Any]) -> str:
    """Compile and return the instruction set of the kernels."""
    import torch
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    capability = torch.backends.cpu.get_cpu_capability()
    settings: dict[str, Any] = {
        "cpp.threads": request["threads"],
        # Precompiling 300 MB of headers takes 10 s and saves 0.1 s.
        "aot_inductor.precompile_headers": False,
        **{key: _setting(value) for key, value in request["extra"].items()},
    }
    if knows_native_vectors(require_compiler(), capability):
        settings.setdefault("cpp.vec_isa_ok", True)
    with engine_errors(f"AOTInductor cannot compile {request['program']}", TORCH_NOISE):
        torch._inductor.aoti_compile_and_package(  # noqa: SLF001 -- the documented name of the function
            program, package_path=str(package), inductor_configs=dict(settings)
        )
        with config.patch(settings):
            isa = str(pick_vec_isa())
    if isa == _NO_VECTORS and capability in {"AVX2", "AVX512"}:
        raise EngineError(
            f"AOTInductor could not compile vector code, though this CPU has {capability}.",
            hint="Try again on a quieter machine, or with a newer g++.",
        )
    return isa


def _setting(text: str) -> Any:
    """Read the value of an extra option: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _try(package: Path, examples: list[Any], last_output: int) -> None:
    """Load and run the package once: what crashes shall crash here."""
    with engine_errors("The compiled package does not run", TORCH_NOISE):
        load_package(package).run(examples)[last_output].shape  # noqa: B018 -- it must be a tensor


if __name__ == "__main__":
    main(Path(sys.argv[1]))
