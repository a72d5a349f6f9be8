"""How long it takes to compare two tensors of 77 MB, against Polygraphy and plain numpy.

All three get the same two float32 tensors of 19.25 million elements, take turns in one process, and
are timed by process CPU time, which a busy machine disturbs least. Polygraphy computes absolute
and relative differences with their quantiles; numpy computes Shipway's numbers the way one would
write them down, on whole float64 copies (ULP distance left out). Peak memory is what each allocates
on top of the inputs.

Run: .venv/bin/python benchmarks/bench_metrics.py
"""

import json
import logging
import time
import tracemalloc
import warnings

import numpy as np
from polygraphy.comparator import Comparator, CompareFunc, IterationResult, RunResults
from polygraphy.logger import G_LOGGER

from shipway import measure

SHAPE, ROUNDS = (2, 3850, 2500), 3


def shipway(golden, actual):
    return measure(golden, actual).relative_l2


def polygraphy(golden, actual):
    results = RunResults()
    results.add([IterationResult({"y": golden})], runner_name="golden")
    results.add([IterationResult({"y": actual})], runner_name="actual")
    return Comparator.compare_accuracy(results, compare_func=CompareFunc.simple())


def plain_numpy(golden, actual):
    wide, other = golden.astype(np.float64), actual.astype(np.float64)
    error = other - wide
    norm = np.linalg.norm(wide)
    relative = np.abs(error[wide != 0] / wide[wide != 0])
    return {
        "mismatches": int((golden != actual).sum()),
        "finite": bool(np.isfinite(wide).all() and np.isfinite(other).all()),
        "relative_l2": np.linalg.norm(error) / norm,
        "worst_channel": np.max(np.sqrt((error**2).sum(axis=(0, 2)) / (wide**2).sum(axis=(0, 2)))),
        "gain": (wide * other).sum() / norm**2,
        "zero_mismatch": ((wide == 0) != (other == 0)).mean(),
        "cosine": (wide * other).sum() / norm / np.linalg.norm(other),
        "max_abs": np.abs(error).max(),
        "max_rel": relative.max(),
        "mean_rel": relative.mean(),
        "rmse": np.sqrt((error**2).mean()),
    }


PEERS = {"shipway": shipway, "polygraphy": polygraphy, "numpy": plain_numpy}


def cpu_seconds(function, golden, actual):
    start = time.process_time()
    function(golden, actual)
    return time.process_time() - start


def peak_megabytes(function, golden, actual):
    tracemalloc.start()
    function(golden, actual)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak_bytes / 1e6


def main():
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.disable(logging.CRITICAL)
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    golden = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    actual = golden + np.float32(1e-6)
    seconds = {name: [] for name in PEERS}
    for _ in range(ROUNDS):
        for name, function in PEERS.items():
            seconds[name].append(cpu_seconds(function, golden, actual))
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    memory = {name: peak_megabytes(function, golden, actual) for name, function in PEERS.items()}
    print(f"{'':12}{'CPU s':>8}{'extra MB':>10}   median of {ROUNDS}, {golden.nbytes / 1e6:.0f} MB")
    for name in PEERS:
        print(f"{name:12}{median[name]:8.2f}{memory[name]:10.0f}")
    ratios = {
        "polygraphy_cpu_over_shipway": round(median["polygraphy"] / median["shipway"], 2),
        "numpy_cpu_over_shipway": round(median["numpy"] / median["shipway"], 2),
        "polygraphy_memory_over_shipway": round(memory["polygraphy"] / memory["shipway"], 2),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
