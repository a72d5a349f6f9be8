"""Raw latencies in files, for whoever wants other statistics than ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shipway.bench.results import BenchResult
from shipway.files import atomic_path, make_folder, output_errors
from shipway.tensorfiles import file_name

__all__ = ["save_samples"]


def save_samples(results: Iterable[BenchResult], folder: Path) -> list[Path]:
    """Write the wall time of every call, one .npy file a result, and return the paths.

    A file is called `<engine>-batch<n>.npy` and holds int64 nanoseconds in the order of the calls.
    A result that was read back from JSON has no samples, and gets no file.

    Args:
        results: From `bench_sessions`.
        folder: Created if absent.

    Raises:
        OutputError: The folder cannot be written.
    """
    make_folder(folder)
    paths = []
    for result in results:
        if result.samples_ns is None:
            continue
        path = folder / f"{file_name(f'{result.engine}-batch{result.batch}')}.npy"
        with atomic_path(path) as temporary, output_errors(path), temporary.open("wb") as stream:
            np.save(stream, result.samples_ns, allow_pickle=False)
        paths.append(path)
    return paths
