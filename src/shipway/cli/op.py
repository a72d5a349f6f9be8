"""The `shipway op` commands: list, new, verify, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from shipway.bench.operator import OperatorSpeed, measure_operator
from shipway.cli.flags import Flag, Many
from shipway.cli.terminal import (
    make_table,
    print_json,
    print_result,
    scientific,
    show_progress,
    start_log,
)
from shipway.files import write_json
from shipway.ops.definition import CustomOp
from shipway.ops.kernel_library import why_portable
from shipway.ops.project import new_project
from shipway.ops.registry import all_operators, find_operator
from shipway.proof.operator import ENGINES, OperatorProof, prove_operator

__all__ = ["op"]

op = App(
    name="op",
    help="""Custom operators: list them, start one, verify one, measure one.

```
shipway op new my_add && cd my_add && make test
shipway op verify ball_query
```
""",
    help_format="markdown",
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
_ALL = "all"


@op.command(name="list")
def list_operators(*, json: Flag = False) -> int:
    """List the operators that are known here, and what computes them.

    ```
    shipway op list
    shipway op list --ops my_ops.py
    ```

    Args:
        json: Print JSON.
    """
    start_log(quiet=True)
    rows = [_describe(one) for one in all_operators()]
    if json:
        print_json(rows)
        return 0
    table = make_table("operator", "ONNX", "T", "kernel", "what it does")
    for column in table.columns:
        column.justify = "left"
    for row in rows:
        table.add_row(row["name"], row["onnx"], " ".join(row["floats"]), row["kernel"], row["doc"])
    print_result(table)
    return 0


def _describe(one: CustomOp) -> dict[str, Any]:
    why = why_portable(one)
    has_cuda = one.kernel is not None and one.kernel.cuda is not None
    return {
        "name": one.name,
        "onnx": one.onnx_id,
        "version": one.version,
        "schema": one.schema,
        "aliases": [f"{alias.domain or 'ai.onnx'}::{alias.name}" for alias in one.aliases],
        "floats": list(one.floats) if "T" in one.types else [],
        "kernel": ("portable body" if why else "native") + (" + CUDA source" if has_cuda else ""),
        "why_portable": why,
        "differentiable": one.differentiable,
        "doc": one.doc,
    }


@op.command(name="new")
def new_operator(name: str, *, domain: str = "", output: Path = Path(), json: Flag = False) -> int:
    """Write the project of a new operator; it builds and passes as it is.

    ```
    shipway op new my_add && cd my_add && make test
    ```

    Args:
        name: Name of the operator, its Python package and its folder.
        domain: Torch namespace and ONNX domain; the name if not given.
        output: Folder to put it in.
        json: Print JSON.
    """
    start_log(quiet=json)
    folder, files = new_project(name, output, domain=domain)
    if json:
        print_json({"folder": str(folder), "files": [str(path) for path in files]})
        return 0
    for path in files:
        print_result(f"wrote {path}")
    print_result(f"next: cd {folder} && make test")
    return 0


@op.command(name="verify")
def verify_operator(
    name: str, *, engines: Many = (), seed: int = 0, output: Path | None = None, json: Flag = False
) -> int:
    """Compare an operator in several engines with its float64 reference.

    Runs the samples of the definition: usual ones, empty tensors, NaN, coordinates outside; in
    every dtype; also with gaps in memory; then gradcheck and torch's own opcheck.

    ```
    shipway op verify ball_query
    shipway op verify my_add --ops my_add/src/my_add/operator.py --engines all
    ```

    Args:
        name: Name of the operator, or all.
        engines: torch, portable, onnxruntime, openvino, aotinductor, or all; the first four if not
            given. Again for each, or with commas.
        seed: Of the samples.
        output: File for the result as JSON.
        json: Print JSON.
    """
    start_log(quiet=json)
    wanted = tuple(name for text in engines for name in text.split(","))
    chosen = ENGINES if _ALL in wanted else wanted or ENGINES[:-1]
    names = (
        [one for one in all_operators() if one.samples] if name == _ALL else [find_operator(name)]
    )
    with show_progress() as progress:
        proofs = [
            prove_operator(one, engines=chosen, seed=seed, progress=progress) for one in names
        ]
    plain = [proof.to_json() for proof in proofs]
    if output is not None:
        write_json(output, plain)
    if json:
        print_json(plain if name == _ALL else plain[0])
    else:
        for proof in proofs:
            _show(proof)
    return 0 if all(proof.passed for proof in proofs) else 1


def _show(proof: OperatorProof) -> None:
    table = make_table("engine", "dtype", "runs", "calls", "worst rel. L2", "limit", "verdict")
    for check in proof.checks:
        calls = str(check.calls) if check.calls else ""
        limit = scientific(check.limit)
        table.add_row(
            check.what,
            check.dtype,
            check.runs,
            calls,
            scientific(check.worst),
            limit,
            check.verdict.upper(),
        )
    done = sum(check.calls for check in proof.checks)
    print_result(f"{proof.operator}: {'PASS' if proof.passed else 'FAIL'} ({done} calls)", table)
    for check in proof.checks:
        label = f"{check.what} {check.dtype}".strip()
        if check.skipped:
            print_result(f"  skipped {label}: {check.skipped}")
        for failure in check.failures:
            print_result(f"  FAILED  {label}: {failure}")


@op.command(name="bench")
def bench_operator(
    name: str, *, seconds: float = 2.0, threads: int = 0, seed: int = 0, json: Flag = False
) -> int:
    """Measure an operator on the largest of its samples: native kernel and portable body.

    ```
    shipway op bench ball_query --seconds 1
    ```

    Args:
        name: Name of the operator.
        seconds: How long to measure each.
        threads: Threads inside the operator; 0 takes all physical cores.
        seed: Of the samples.
        json: Print JSON.
    """
    start_log(quiet=json)
    with show_progress() as progress:
        speed = measure_operator(
            find_operator(name), seconds=seconds, threads=threads, seed=seed, progress=progress
        )
    if json:
        print_json(speed.to_json())
    else:
        _show_speed(speed)
    return 0


def _show_speed(speed: OperatorSpeed) -> None:
    table = make_table("engine", "p50 ms", "CPU ms", "calls", "noise")
    for result in speed.results:
        table.add_row(
            result.engine,
            f"{result.latency.p50_ms:.3f}",
            f"{result.cpu_ms:.3f}",
            str(result.latency.count),
            result.noise,
        )
    print_result(f"{speed.operator}, float32, sample '{speed.sample}'", table)
    for what, why in speed.skipped.items():
        print_result(f"  skipped {what}: {why}")
