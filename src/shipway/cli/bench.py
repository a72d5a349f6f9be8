"""The `shipway bench` command."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shipway.bench.feeds import batch_feeds
from shipway.bench.measure import BenchOptions, bench_sessions
from shipway.bench.results import BenchResult
from shipway.cli.flags import EngineFlags, Flag, Many, model_request, read_sizes, split_target
from shipway.cli.terminal import make_table, print_json, print_result, show_progress, start_log
from shipway.engines.opening import OpenedModel, open_model
from shipway.engines.target import parse_target
from shipway.errors import UsageError
from shipway.files import make_folder, write_json

__all__ = ["bench"]

_DEFAULT = BenchOptions()


def bench(
    *models: str,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    engine: Many = (),
    batch: Annotated[
        tuple[int, ...], Parameter(negative=(), consume_multiple=False)
    ] = _DEFAULT.batches,
    dim: Many = (),
    seconds: float = _DEFAULT.min_seconds,
    calls: int = _DEFAULT.min_calls,
    seed: int = _DEFAULT.seed,
    max_p50_ms: float | None = None,
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Measure latency and throughput.

    Several models, or one model with several engines, are measured in turn in one process, so that
    a machine that slows down slows all of them.

    ```
    shipway bench model.onnx --engine onnxruntime --engine openvino
    shipway bench a.onnx@openvino b.onnx@openvino --batch 1 --batch 32
    ```

    Args:
        models: Compiled artifacts, or .onnx and .pt2 files (compiled for this run only), each with
            an engine behind it if need be: model.onnx@openvino.
        flags: What is asked of the engines.
        engine: Engine, or engine:precision, for one model that is not compiled. Again for each.
        batch: Batch size. Again for each.
        dim: Size of another dynamic dimension, e.g. tokens=128. Again for each.
        seconds: Measure each engine at each batch size for at least this long.
        calls: And at least this many calls.
        seed: Seed of the inputs.
        max_p50_ms: Largest median latency that passes, at the first batch size.
        output: Folder for bench.json.
        json: Print JSON.
    """
    start_log(quiet=json)
    pairs = _pair(models, engine)
    options = BenchOptions(batches=batch, min_seconds=seconds, min_calls=calls, seed=seed)
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        for size in batch:
            if size < 1:
                raise UsageError(f"--batch must be 1 or more, not {size}.")
        opened: list[OpenedModel] = []
        for reference, target in pairs:
            chosen = parse_target(target) if target else None
            request = model_request(reference)
            opening = open_model(request, chosen, flags.options(), progress=progress)
            opened.append(stack.enter_context(opening))
        labels = _label(opened, [reference for reference, _ in pairs])
        sessions = {label: one.session for label, one in labels.items()}
        inputs = opened[0].session.inputs
        feeds = batch_feeds(inputs, read_sizes(dim, inputs), seed=seed)
        results = bench_sessions(sessions, feeds, options, progress=progress)
    if output is not None:
        make_folder(output)
        write_json(output / "bench.json", [result.to_json() for result in results])
    if json:
        print_json([result.to_json() for result in results])
    else:
        _show(results)
    first = [result for result in results if result.batch in {0, batch[0]}]
    slow = [one for one in first if max_p50_ms is not None and one.latency.p50_ms > max_p50_ms]
    for one in slow:
        message = "missed: %s has a median of %.3f ms, at most %g ms asked for"
        logging.getLogger("shipway").error(message, one.engine, one.latency.p50_ms, max_p50_ms)
    return int(bool(slow))


def _pair(models: tuple[str, ...], engines: tuple[str, ...]) -> list[tuple[str, str]]:
    if not models:
        raise UsageError("No model.", hint="E.g. shipway bench model.onnx --engine openvino")
    if engines and len(models) > 1:
        raise UsageError(
            "--engine goes with one model.", hint="Write MODEL@ENGINE for each of several."
        )
    if engines:
        return [(models[0], engine) for engine in engines]
    pairs = []
    for text in models:
        reference, target = split_target(text)
        pairs.append((reference, "" if target is None else str(target)))
    return pairs


def _label(opened: list[OpenedModel], references: list[str]) -> dict[str, OpenedModel]:
    """Name each model by its engine, and by its file too where one engine has several."""
    engines = [str(one.target) for one in opened]
    labels = {}
    for one, reference in zip(opened, references, strict=True):
        engine = str(one.target)
        label = engine if engines.count(engine) == 1 else f"{engine} {reference}"
        if label in labels:
            raise UsageError(f"{reference} is named twice.")
        labels[label] = one
    return labels


def _show(results: list[BenchResult]) -> None:
    columns = ("batch", "p50 ms", "p90 ms", "p99 ms", "min ms", "CPU ms", "samples/s", "calls")
    table = make_table("engine", *columns, "threads", "noise")
    for result in results:
        latency = result.latency
        table.add_row(
            result.engine,
            str(result.batch or "fixed"),
            f"{latency.p50_ms:.3f}",
            _percentile(latency.p90_ms),
            _percentile(latency.p99_ms),
            f"{latency.min_ms:.3f}",
            f"{result.cpu_ms:.3f}",
            f"{result.throughput:.1f}",
            str(latency.count),
            str(result.threads),
            result.noise,
        )
    print_result("latency a call (a batch); throughput from the median", table)


def _percentile(value: float | None) -> str:
    return "n too small" if value is None else f"{value:.3f}"
