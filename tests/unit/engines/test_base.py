"""What every session shares, shown with one that adds two arrays."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shipway.engines.base import BaseSession
from shipway.errors import EngineError, TensorError
from shipway.tensors import TensorSpec

SPECS = (TensorSpec("x", "float32", ("n", 2)), TensorSpec("y", "float32", ("n", 2)))
OUTPUTS = (TensorSpec("sum", "float32", ("n", 2)),)
FEEDS = {"x": np.ones((3, 2), np.float32), "y": np.ones((3, 2), np.float32)}


class Adder(BaseSession):
    """Adds; says what `answer` says where that is given; counts its releases."""

    def __init__(self, answer=None):
        super().__init__(SPECS, OUTPUTS, {"precision": "f32"})
        self.answer = answer
        self.released = 0
        self.go = threading.Event()
        self.go.set()

    def _run(self, feeds):
        self.go.wait(10)
        return {"sum": feeds["x"] + feeds["y"]} if self.answer is None else self.answer

    def _release(self):
        self.released += 1


def test_run_and_submit_give_the_same():
    """The future holds what run returns."""
    with Adder() as session:
        np.testing.assert_array_equal(session.run(FEEDS)["sum"], 2)
        np.testing.assert_array_equal(session.submit(FEEDS).result()["sum"], 2)


@pytest.mark.parametrize("way", ["run", "submit"])
def test_feeds_that_do_not_fit_never_reach_the_engine(way):
    """submit raises at once, not in the future."""
    with Adder() as session, pytest.raises(TensorError, match="'y'"):
        getattr(session, way)({**FEEDS, "y": np.ones((3, 3), np.float32)})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "no output 'sum'"),
        ({"sum": np.ones((3, 2))}, "'sum' came out as float64"),
        ({"sum": np.ones(3, np.float32)}, r"'sum' came out with shape \[3\]"),
        ({"sum": np.ones((3, 5), np.float32)}, r"shape \[3, 5\].*here \[3, 2\]"),
        ({"sum": np.ones((0, 2), np.float32)}, r"shape \[0, 2\].*here \[3, 2\]"),
    ],
    ids=["absent", "dtype", "rank", "fixed size", "symbolic size"],
)
def test_an_engine_that_breaks_its_promise_is_caught(answer, said):
    """Outputs must have the names, dtypes and sizes the specs say, symbolic ones as fed."""
    with Adder(answer) as session, pytest.raises(EngineError, match=said):
        session.run(FEEDS)


def test_an_output_of_unknown_rank_may_have_any_shape():
    """A spec without a shape promises none."""
    session = Adder({"sum": np.ones((1, 2, 3), np.float32)})
    session.outputs = (TensorSpec("sum", "float32", None),)
    assert session.run(FEEDS)["sum"].shape == (1, 2, 3)


def test_close_waits_for_runs_in_flight_and_releases_once():
    """A future submitted before close has its result; after close nothing runs."""
    session = Adder()
    session.go.clear()
    future = session.submit(FEEDS)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(session.close)
        session.go.set()
        closing.result(10)
    assert future.result(10)
    session.close()
    assert session.released == 1
    with pytest.raises(EngineError, match="closed"):
        session.run(FEEDS)
    with pytest.raises(EngineError, match="closed"):
        session.submit(FEEDS)


def test_a_session_that_never_submits_starts_no_thread():
    """The pool is made by the first submit."""
    before = threading.active_count()
    with Adder() as session:
        session.run(FEEDS)
        assert threading.active_count() == before
        session.submit(FEEDS).result()
        assert threading.active_count() == before + 1


def test_many_threads_submit_to_one_pool():
    """Racing first submits make one pool, and no answer is lost."""
    with Adder() as session, ThreadPoolExecutor(8) as pool:
        before = threading.active_count()
        futures = list(pool.map(lambda _: session.submit(FEEDS), range(64)))
        assert all((future.result(10)["sum"] == 2).all() for future in futures)
        assert threading.active_count() <= before + 8 + 1
