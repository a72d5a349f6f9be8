"""Reading ahead: in order, on several threads, with bounded memory, and no thread left behind."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from shipway.errors import DatasetError
from shipway.evaluate import reading
from shipway.evaluate.reading import THREAD_PREFIX, read_ahead


class Numbers:
    """Sample i is the number i; odd ones are slow, every tenth is bad."""

    def __init__(self, size):
        self.size = size
        self.begun = 0
        self.threads = set()
        self.lock = threading.Lock()

    def __len__(self):
        return self.size

    def sample(self, index):
        with self.lock:
            self.begun += 1
            self.threads.add(threading.get_ident())
        if index % 2:
            time.sleep(0.001)
        if index % 10 == 9:
            raise DatasetError(f"{index} is bad")
        return np.array(index)


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX)]


def test_samples_and_errors_come_in_order():
    with closing(read_ahead(Numbers(50), batch=4)) as stream:
        for expected, (index, sample) in enumerate(stream):
            assert index == expected
            if index % 10 == 9:
                assert str(sample) == f"{index} is bad"
            else:
                assert sample == index
    assert expected == 49
    assert reader_threads() == []


@pytest.mark.parametrize("batch", [1, 8])
def test_no_more_than_a_batch_and_the_threads_are_read_ahead(batch, monkeypatch):
    monkeypatch.setattr(reading, "usable_cores", lambda: 64)
    numbers = Numbers(100)
    with closing(read_ahead(numbers, batch=batch)) as stream:
        for index, _ in stream:
            time.sleep(0.002)
            assert numbers.begun <= index + 1 + batch + 4
    assert len(numbers.threads) <= 4


def test_stopping_early_leaves_no_thread_and_reads_no_more():
    numbers = Numbers(1000)
    with closing(read_ahead(numbers, batch=2)) as stream:
        next(stream)
    assert reader_threads() == []
    assert numbers.begun < 20


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_the_caller_leaves_no_thread(kind):
    def read_some():
        with closing(read_ahead(Numbers(1000), batch=2)) as stream:
            for index, _ in stream:
                if index == 5:
                    raise kind

    with pytest.raises(kind):
        read_some()
    assert reader_threads() == []


def test_a_bug_in_a_data_set_is_not_taken_for_a_bad_sample():
    class Broken(Numbers):
        def sample(self, index):
            raise ZeroDivisionError(index)

    with pytest.raises(ZeroDivisionError), closing(read_ahead(Broken(5), batch=1)) as stream:
        list(stream)
    assert reader_threads() == []


def test_an_empty_data_set_yields_nothing():
    assert list(read_ahead(Numbers(0), batch=1)) == []
