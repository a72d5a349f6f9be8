"""The `shipway run` command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.bench.statistics import summarize_latency
from shipway.cli.flags import EngineFlags, Flag, model_request, read_sizes
from shipway.cli.inputs import InputFlags, InputSet, read_inputs
from shipway.cli.terminal import print_json, print_result, show_progress, start_log
from shipway.engines.base import Session
from shipway.engines.opening import OpenedModel, open_model
from shipway.engines.target import parse_target
from shipway.errors import UsageError
from shipway.progress import Progress
from shipway.tensorfiles import FORMATS, save_tensors
from shipway.tensors import random_feeds

__all__ = ["run"]


def run(
    model: str,
    *,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    inputs: InputFlags = InputFlags(),  # noqa: B008 -- the same
    engine: str = "",
    preprocess: str = "none",
    loop: int = 1,
    warmup: int = 1,
    output: Path | None = None,
    outfmt: str = "NPY",
    json: Flag = False,
) -> int:
    """Run a model on files or on random inputs; write its outputs.

    Without --input, inputs are random and the same for the same seed. A folder stands for one run
    a file, in the order of the names. Latency is the wall time of one run, files not counted.

    ```
    shipway run model.onnx --input cat.jpg --preprocess imagenet-bicubic
    shipway run model.onnx --input x=x.bin --output out --outfmt BIN
    shipway run model.onnx --dim batch=8 --loop 100
    ```

    Args:
        model: A compiled artifact, or an .onnx or .pt2 file (compiled for this run only).
        flags: What is asked of the engine.
        inputs: What the model runs on.
        engine: Engine, or engine:precision, for a model that is not compiled.
        preprocess: How images become inputs; see shipway evaluate --help.
        loop: Runs a input set that are timed.
        warmup: Runs before them that are not.
        output: Folder for the outputs; nothing is written without it.
        outfmt: NPY, BIN (raw values) or TXT.
        json: Print JSON.
    """
    start_log(quiet=json)
    if loop < 1 or warmup < 0:
        raise UsageError(f"--loop must be 1 or more and --warmup 0 or more, not {loop}, {warmup}.")
    if outfmt.upper() not in FORMATS:
        raise UsageError(f"Unknown --outfmt '{outfmt}'.", hint=f"One of: {', '.join(FORMATS)}.")
    target = parse_target(engine) if engine else None
    request = model_request(model)
    with (
        show_progress() as progress,
        open_model(request, target, flags.options(), progress=progress) as opened,
    ):
        specs = opened.session.inputs
        sets = (
            read_inputs(inputs, specs, preprocess)
            if inputs.input
            else [
                InputSet(
                    "", random_feeds(specs, seed=inputs.seed, sizes=read_sizes(inputs.dim, specs))
                )
            ]
        )
        timed = list(_run_all(opened.session, sets, loop, warmup, progress))
        written = _write(timed, output, outfmt)
        _report(opened, timed, written, as_json=json)
    return 0


@dataclass(frozen=True, slots=True)
class _Timed:
    name: str
    outputs: dict[str, NDArray[Any]]
    nanoseconds: list[int]


def _run_all(
    session: Session, sets: Sequence[InputSet], loop: int, warmup: int, progress: Progress
) -> Iterator[_Timed]:
    progress.start("run", len(sets) * loop)
    for one in sets:
        for _ in range(warmup):
            session.run(one.feeds)
        nanoseconds = []
        for _ in range(loop):
            start = time.perf_counter_ns()
            outputs = session.run(one.feeds)
            nanoseconds.append(time.perf_counter_ns() - start)
            progress.advance()
        yield _Timed(one.name, outputs, nanoseconds)


def _write(timed: Sequence[_Timed], output: Path | None, outfmt: str) -> list[Path]:
    if output is None:
        return []
    written: list[Path] = []
    for one in timed:
        folder = output / one.name if one.name else output
        written += save_tensors(one.outputs, folder, format_name=outfmt)
    return written


def _report(
    opened: OpenedModel, timed: Sequence[_Timed], written: Sequence[Path], *, as_json: bool
) -> None:
    latency = summarize_latency([value for one in timed for value in one.nanoseconds])
    if as_json:
        outputs = [
            {
                "input": one.name,
                "outputs": {
                    name: {"shape": list(value.shape), "dtype": str(value.dtype)}
                    for name, value in one.outputs.items()
                },
            }
            for one in timed
        ]
        print_json(
            {
                "engine": str(opened.target),
                "effective": dict(opened.session.effective),
                "latency": latency.to_json(),
                "runs": outputs,
                "written": [str(path) for path in written],
            }
        )
        return
    effective = opened.session.effective
    print_result(f"{opened}  precision {effective['precision']}, {effective['threads']} threads")
    for name, value in timed[-1].outputs.items():
        print_result(f"  {name}: {value.dtype}{list(value.shape)}  {_preview(value)}")
    p99 = "n too small" if latency.p99_ms is None else f"{latency.p99_ms:.3f}"
    p90 = "n too small" if latency.p90_ms is None else f"{latency.p90_ms:.3f}"
    print_result(
        f"  latency ms, {latency.count} runs: p50 {latency.p50_ms:.3f}, p90 {p90}, p99 {p99}, "
        f"min {latency.min_ms:.3f}, max {latency.max_ms:.3f}"
    )
    for path in written:
        print_result(f"  wrote {path}")


def _preview(value: NDArray[Any]) -> str:
    return np.array2string(value.ravel()[:6], precision=5, threshold=6) if value.size else "empty"
