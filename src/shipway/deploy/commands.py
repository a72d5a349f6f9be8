"""The command line that repeats each stage of a deployment alone, ready to paste."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shipway.bench.measure import BenchOptions
from shipway.deploy.project import DataSection, Project
from shipway.engines.target import Target

__all__ = [
    "bench_command",
    "compare_command",
    "compile_command",
    "evaluate_command",
    "export_command",
    "here",
    "source_flags",
]


def here(path: Path) -> str:
    """Write a path relative to the current folder when it lies inside it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def source_flags(project: Project) -> list[str]:
    """Write the source and what belongs to it as arguments and flags."""
    source = project.source
    reference = source.reference
    file, colon, name = reference.partition(":")
    if Path(file).is_absolute() or Path(file).exists():
        reference = f"{here(Path(file))}{colon}{name}"
    flags = [reference]
    for key, value in source.arguments.items():
        flags += ["--arg", f"{key}={value!r}"]
    if source.weights is not None:
        flags += ["--weights", here(source.weights)]
    for spec in source.inputs:
        flags += ["--input", str(spec)]
    for path in source.ops:
        flags += ["--ops", here(path)]
    if source.allow_pickle:
        flags.append("--allow-pickle")
    return flags


def export_command(project: Project, folder: Path) -> list[str]:
    """Write `shipway export ...`."""
    options = project.export
    command = ["shipway", "export", *source_flags(project), "--opset", str(options.opset)]
    if options.legacy:
        command.append("--legacy")
    if not options.fold:
        command.append("--no-fold")
    for name in options.outputs:
        command += ["--output-name", name]
    for name, (low, high) in options.bounds.items():
        command += ["--bound", f"{name}={low}..{high}"]
    if options.custom_ops != "auto":
        command += ["--custom-ops", options.custom_ops]
    if options.custom_ops_domain is not None:
        command += ["--custom-ops-domain", options.custom_ops_domain or "ai.onnx"]
    command += ["--seed", str(project.compare.seed), "--sets", str(project.compare.input_sets)]
    return [*command, "--name", project.name, "--output", here(folder)]


def compile_command(model: Path, target: Target, threads: int, folder: Path) -> list[str]:
    """Write `shipway compile ...`."""
    plain = Target(target.engine, target.precision, inline=target.inline)
    command = ["shipway", "compile", here(model), "--engine", str(plain)]
    command += [] if target.optimize else ["--no-optimize"]
    return [*command, *_threads(threads), "--output", here(folder)]


def compare_command(
    golden: Path, actual: Path, project: Project, sizes: Mapping[str, int], output: Path
) -> list[str]:
    """Write `shipway compare ...`."""
    section = project.compare
    command = ["shipway", "compare", here(golden), here(actual), "--outputs-only"]
    command += _threads(project.threads)
    command += ["--sets", str(section.input_sets), "--seed", str(section.seed)]
    command += _dims(sizes)
    if project.data is not None and section.samples:
        command += [*_data_flags(project.data), "--samples", str(section.samples)]
    return [*command, "--output", here(output)]


def evaluate_command(
    artifact: Path, golden: Path | None, data: DataSection, threads: int, output: Path
) -> list[str]:
    """Write `shipway evaluate ...`."""
    command = ["shipway", "evaluate", here(artifact), *_data_flags(data), *_threads(threads)]
    command += ["--batch", str(data.batch)]
    command += ["--output-name", data.output] if data.output else []
    for flag, number in (("--max-bad", data.max_bad), ("--limit", data.limit)):
        command += [flag, str(number)] if number else []
    command += [] if golden is None else ["--golden", here(golden)]
    return [*command, "--output", here(output)]


def bench_command(
    artifacts: list[Path],
    options: BenchOptions,
    sizes: Mapping[str, int],
    threads: int,
    output: Path,
) -> list[str]:
    """Write `shipway bench ...`."""
    command = ["shipway", "bench", *(here(path) for path in artifacts), *_threads(threads)]
    for batch in options.batches:
        command += ["--batch", str(batch)]
    command += _dims(sizes)
    command += ["--seconds", f"{options.min_seconds:g}", "--calls", str(options.min_calls)]
    return [*command, "--seed", str(options.seed), "--output", here(output)]


def _threads(threads: int) -> list[str]:
    return ["--threads", str(threads)] if threads else []


def _dims(sizes: Mapping[str, int]) -> list[str]:
    return [word for name, size in sizes.items() for word in ("--dim", f"{name}={size}")]


def _data_flags(data: DataSection) -> list[str]:
    flags = ["--data", here(data.path)]
    if data.labels is not None:
        flags += ["--labels", here(data.labels)]
    return [*flags, "--preprocess", data.preprocess] if data.preprocess else flags
