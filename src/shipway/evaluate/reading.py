"""Read samples ahead of the engine on a few threads, in order, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from shipway.environment import usable_cores
from shipway.errors import DatasetError
from shipway.evaluate.dataset import Dataset

__all__ = ["THREAD_PREFIX", "read_ahead"]

THREAD_PREFIX = "shipway-read"
_MOST_THREADS = 4


def read_ahead(
    dataset: Dataset, *, batch: int
) -> Generator[tuple[int, NDArray[Any] | DatasetError], None, None]:
    """Yield every index with its sample, or with the reason why it cannot be read, in order.

    At most one batch and a sample a thread are held or being read beyond the one yielded. Pillow
    decodes without the GIL, so threads suffice. Close the generator (`contextlib.closing`) to be
    sure that no thread is left when the caller stops early.

    Args:
        dataset: Its `sample` is called from the threads.
        batch: Samples the engine takes at a time.
    """
    threads = min(_MOST_THREADS, usable_cores())
    ahead = batch + threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_PREFIX)
    waiting: deque[Future[NDArray[Any] | DatasetError]] = deque()
    try:
        for index in range(len(dataset)):
            while len(waiting) < ahead and index + len(waiting) < len(dataset):
                waiting.append(pool.submit(_read, dataset, index + len(waiting)))
            yield index, waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(dataset: Dataset, index: int) -> NDArray[Any] | DatasetError:
    try:
        return dataset.sample(index)
    except DatasetError as error:
        return error
