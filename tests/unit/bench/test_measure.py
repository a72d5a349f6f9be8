"""Benchmarks of sessions whose speed is known, on a clock that the test owns."""

import gc
import json
import threading
import time

import numpy as np
import pytest

from shipway.bench.measure import BenchOptions, bench_sessions
from shipway.errors import EngineError, UsageError

MS = 1_000_000


class FakeClock:
    """Time passes only when a session works or the benchmark sleeps."""

    def __init__(self):
        self.wall, self.cpu = 0, 0
        self.spinning_ns = 0
        self.sleeps = 0

    def wall_ns(self):
        return self.wall

    def cpu_ns(self):
        return self.cpu

    def work(self, wall_ns, cpu_ns):
        self.wall += wall_ns
        self.cpu += cpu_ns

    def sleep(self, seconds):
        """A thread pool that still spins burns CPU time while the benchmark sleeps."""
        self.sleeps += 1
        slept_ns = int(seconds * 1e9)
        burnt_ns = min(slept_ns, self.spinning_ns)
        self.spinning_ns -= burnt_ns
        self.work(slept_ns, burnt_ns)


class FakeSession:
    """Takes a known time a call; keeps what it was called with."""

    inputs = outputs = ()

    def __init__(self, clock, wall_ns, *, cpu_ns=0, spin_ns=0, threads="2", log=None, name=""):
        self.clock, self.wall_ns, self.cpu_ns, self.spin_ns = clock, wall_ns, cpu_ns, spin_ns
        self.effective = {"threads": threads, "precision": "f32"}
        self.log, self.name, self.calls, self.feeds = log, name, 0, []

    def run(self, feeds):
        duration = self.wall_ns(self.calls) if callable(self.wall_ns) else self.wall_ns
        self.clock.work(duration, self.cpu_ns)
        self.clock.spinning_ns = self.spin_ns
        self.calls += 1
        self.feeds.append(feeds)
        if self.log is not None:
            self.log.append(self.name)
        return {}


class Steps:
    """Keeps what a Progress is told."""

    def __init__(self):
        self.tasks = []

    def start(self, task, total=None):
        self.tasks.append([task, total, 0])

    def advance(self, steps=1):
        self.tasks[-1][2] += steps


def feeds_for(batch):
    return {"x": np.arange(batch * 6, dtype=np.float32).reshape(batch, 6)}


SHORT = BenchOptions(min_seconds=0.05, min_calls=20, warmup_calls=3, warmup_seconds=0.003)


def bench(sessions, options=SHORT, **rest):
    clock = next(iter(sessions.values())).clock
    return bench_sessions(sessions, feeds_for, options, clock=clock, **rest)


def test_latency_cpu_time_and_throughput_are_those_of_the_session():
    clock = FakeClock()
    session = FakeSession(clock, 2 * MS, cpu_ns=3 * MS)
    (found,) = bench({"fake": session}, BenchOptions(batches=(8,), min_seconds=0.5, min_calls=100))
    assert found.latency.p50_ms == found.latency.min_ms == found.latency.max_ms == 2.0
    assert (found.latency.p50_low_ms, found.latency.p50_high_ms) == (2.0, 2.0)
    assert found.cpu_ms == 3.0
    assert found.throughput == pytest.approx(8 / 0.002)
    assert (found.engine, found.batch, found.threads, found.noise) == ("fake", 8, 2, "quiet")
    assert found.effective == session.effective
    assert found.undisturbed


def test_without_a_batch_dimension_throughput_counts_calls():
    clock = FakeClock()
    (found,) = bench_sessions(
        {"fake": FakeSession(clock, 2 * MS)},
        lambda _: {"x": np.zeros(3)},
        BenchOptions(batches=(0,), min_seconds=0.05, min_calls=10),
        clock=clock,
    )
    assert (found.batch, found.throughput) == (0, pytest.approx(500))


@pytest.mark.parametrize("duration_ms", [1, 30])
def test_both_the_time_and_the_calls_asked_for_are_reached(duration_ms):
    options = BenchOptions(min_seconds=1, min_calls=100, warmup_calls=10, warmup_seconds=0.1)
    (found,) = bench({"fake": FakeSession(FakeClock(), duration_ms * MS)}, options)
    assert found.latency.count >= 100
    assert found.latency.count * duration_ms >= 1000
    assert found.warmup_calls >= 10
    assert found.warmup_calls * duration_ms >= 100


def test_results_come_in_the_order_asked_for():
    clock = FakeClock()
    sessions = {name: FakeSession(clock, MS) for name in ("b", "a")}
    found = bench(sessions, BenchOptions(batches=(4, 1), min_seconds=0.05, min_calls=10))
    assert [(one.batch, one.engine) for one in found] == [(4, "b"), (4, "a"), (1, "b"), (1, "a")]
    assert {feeds["x"].shape for feeds in sessions["a"].feeds} == {(4, 6), (1, 6)}


def test_engines_take_turns_and_each_is_first_equally_often():
    clock, log = FakeClock(), []
    sessions = {name: FakeSession(clock, MS, log=log, name=name) for name in "abc"}
    found = bench(
        sessions, BenchOptions(min_seconds=0, min_calls=12, warmup_calls=3, warmup_seconds=0)
    )
    measured = log[sum(one.warmup_calls for one in found) :]
    blocks = measured[::2]
    assert measured[1::2] == blocks  # one call to wake up, one that counts
    rounds = ["".join(blocks[k : k + 3]) for k in range(0, len(blocks), 3)]
    assert rounds == ["abc", "bca", "cab"] * 4


def test_the_first_call_of_a_block_is_not_counted():
    """It finds cold caches: here it takes ten times as long."""
    clock = FakeClock()
    last = {"name": ""}

    class Cold(FakeSession):
        def run(self, feeds):
            self.wall_ns = (10 if last["name"] != self.name else 1) * MS
            last["name"] = self.name
            return super().run(feeds)

    found = bench({name: Cold(clock, MS, name=name) for name in ("a", "b")})
    assert [one.latency.max_ms for one in found] == [1.0, 1.0]


def test_a_machine_that_slows_down_slows_all_engines_alike():
    clock = FakeClock()

    def slowing(_):
        return MS + clock.wall // 5000

    options = BenchOptions(min_seconds=0, min_calls=1000, warmup_calls=3, warmup_seconds=0)
    one, other = bench({name: FakeSession(clock, slowing) for name in ("a", "b")}, options)
    assert one.latency.p50_ms == pytest.approx(other.latency.p50_ms, rel=0.05)
    assert one.latency.max_ms > 1.3 * one.latency.min_ms


def test_a_block_begins_when_the_threads_of_the_engine_before_have_come_to_rest():
    clock = FakeClock()
    spinner = FakeSession(clock, MS, spin_ns=200 * MS)
    still_spinning = []

    class Watcher(FakeSession):
        def run(self, feeds):
            still_spinning.append(self.clock.spinning_ns)
            return super().run(feeds)

    found = bench({"spinner": spinner, "watcher": Watcher(clock, MS)})
    assert set(still_spinning) == {0}
    assert all(one.undisturbed for one in found)


def test_threads_that_never_rest_are_reported():
    clock = FakeClock()
    sessions = {"a": FakeSession(clock, MS, spin_ns=10**12), "b": FakeSession(clock, MS)}
    found = bench(sessions)
    assert not any(one.undisturbed for one in found if one.engine == "b")


def test_one_engine_alone_is_not_made_to_wait():
    clock = FakeClock()
    bench({"fake": FakeSession(clock, MS, spin_ns=200 * MS)})
    assert clock.sleeps == 0


def test_warm_up_goes_on_until_calls_take_the_same_time():
    options = BenchOptions(min_seconds=0, min_calls=10, warmup_calls=3, warmup_seconds=0.03)
    session = FakeSession(FakeClock(), lambda call: max(MS, 20 * MS - call * MS))
    (found,) = bench({"fake": session}, options)
    assert found.warmup_stable
    assert found.warmup_calls > 15
    assert found.latency.max_ms == 1.0


def test_an_unstable_warm_up_ends_after_ten_times_what_was_asked():
    clock = FakeClock()
    session = FakeSession(clock, lambda _: MS + clock.wall // 2)  # each call half as long again
    options = BenchOptions(min_seconds=0, min_calls=1, warmup_calls=3, warmup_seconds=0.01)
    (found,) = bench({"fake": session}, options)
    assert not found.warmup_stable
    assert 3 <= found.warmup_calls < 30


def test_noise_is_flagged():
    session = FakeSession(FakeClock(), lambda call: MS * (1 + call % 2))
    (found,) = bench({"fake": session})
    assert found.noise == "too noisy"


def test_input_sets_differ_and_hold_the_same_values():
    session = FakeSession(FakeClock(), MS)
    bench({"fake": session}, BenchOptions(min_seconds=0, min_calls=40, batches=(2,), seed=3))
    seen = {feeds["x"].tobytes() for feeds in session.feeds}
    assert len({id(feeds["x"]) for feeds in session.feeds}) == 4
    assert len(seen) > 1
    for feeds in session.feeds:
        np.testing.assert_array_equal(np.sort(feeds["x"]), feeds_for(2)["x"])


def test_scalar_and_empty_inputs_can_be_measured():
    clock = FakeClock()
    inputs = {"rate": np.array(16000), "boxes": np.zeros((0, 4), np.float32)}
    session = FakeSession(clock, MS)
    bench_sessions({"fake": session}, lambda _: inputs, SHORT, clock=clock)
    assert session.feeds[0]["rate"] == 16000
    assert session.feeds[0]["boxes"].shape == (0, 4)


def test_samples_are_kept_raw_and_stay_out_of_the_json():
    session = FakeSession(FakeClock(), lambda call: MS + call)
    (found,) = bench({"fake": session})
    assert found.samples_ns.dtype == np.int64
    assert len(found.samples_ns) == found.latency.count
    assert found.samples_ns.max() / 1e6 == found.latency.max_ms
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert "samples_ns" not in data
    assert data["latency"]["count"] == found.latency.count


@pytest.mark.parametrize("threads", ["", "auto", "-1"])
def test_threads_a_session_does_not_tell_are_zero(threads):
    (found,) = bench({"fake": FakeSession(FakeClock(), MS, threads=threads)})
    assert found.threads == 0


def test_progress_is_told_of_every_block():
    clock, steps = FakeClock(), Steps()
    bench({name: FakeSession(clock, MS) for name in "ab"}, progress=steps)
    assert steps.tasks == [["warm up, batch 1", 2, 2], ["measure, batch 1", 20, 20]]


def test_an_engine_that_fails_is_not_swallowed_and_garbage_collection_is_back_on():
    clock = FakeClock()

    class Failing(FakeSession):
        def run(self, feeds):
            if self.calls == 20:
                raise EngineError("out of memory")
            return super().run(feeds)

    assert gc.isenabled()
    with pytest.raises(EngineError, match="out of memory"):
        bench({"fake": Failing(clock, MS)}, BenchOptions(warmup_seconds=0.001))
    assert gc.isenabled()


def test_no_engine_is_an_error():
    with pytest.raises(UsageError, match="no engine"):
        bench_sessions({}, feeds_for, SHORT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batches": ()},
        {"batches": (1, -2)},
        {"min_calls": 0},
        {"min_seconds": -1.0},
        {"min_seconds": float("nan")},
        {"min_seconds": float("inf")},
        {"warmup_calls": -1},
        {"warmup_seconds": -0.1},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="Cannot measure"):
        BenchOptions(**wrong)


def test_options_are_plain_data():
    assert json.loads(json.dumps(SHORT.to_json()))["batches"] == [1]


class Sleeper:
    """A session on the real clock: sleeps, or computes, for about so long."""

    inputs = outputs = ()

    def __init__(self, seconds, *, spins=False):
        self.seconds, self.spins, self.effective = seconds, spins, {}

    def run(self, _):
        if not self.spins:
            time.sleep(self.seconds)
            return {}
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return {}


def test_on_the_clocks_of_the_machine():
    """The slower engine is slower, and only the one that computes uses CPU time."""
    threads = threading.active_count()
    sessions = {"fast": Sleeper(0.001), "slow": Sleeper(0.004), "busy": Sleeper(0.004, spins=True)}
    options = BenchOptions(min_seconds=0.05, min_calls=20, warmup_calls=3, warmup_seconds=0.01)
    fast, slow, busy = bench_sessions(sessions, feeds_for, options)
    assert fast.latency.min_ms >= 1
    assert slow.latency.min_ms >= 4
    assert fast.latency.min_ms < slow.latency.min_ms
    assert busy.cpu_ms > slow.cpu_ms
    assert min(one.latency.count for one in (fast, slow, busy)) >= 20
    assert threading.active_count() == threads
