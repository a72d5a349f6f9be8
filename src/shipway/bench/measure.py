"""Measure how fast sessions run, several of them side by side."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from shipway.bench.clock import SYSTEM_CLOCK, Clock
from shipway.bench.results import BenchResult
from shipway.bench.statistics import nearest_rank, noise_of, summarize_latency
from shipway.engines.base import Session
from shipway.environment import load_average
from shipway.errors import UsageError
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors

__all__ = ["BenchOptions", "bench_sessions"]

_ROUNDS = 10
_INPUT_SETS = 4
_WINDOWS = 3
_WINDOW_SPREAD = 1.10
_WARMUP_CAP = 10
_IDLE_SECONDS = 0.01
_IDLE_SHARE = 0.10
_IDLE_TRIES = 60
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How long to measure.

    Args:
        batches: Batch sizes to go through; 0 where the model has no batch dimension.
        min_seconds: Shortest time to measure, for each engine at each batch size.
        min_calls: Fewest calls to measure, for the same.
        warmup_calls: Fewest calls before measuring.
        warmup_seconds: Shortest time before measuring. Warm-up goes on until three windows agree
            within 10 %, for ten times as long at most.
        seed: Decides how the input sets differ.
        vary_inputs: Whether the input sets differ in where their values are. False where inputs
            depend on each other (sizes and offsets of one operator).
    """

    batches: tuple[int, ...] = (1,)
    min_seconds: float = 10.0
    min_calls: int = 100
    warmup_calls: int = 10
    warmup_seconds: float = 1.0
    seed: int = 0
    vary_inputs: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            UsageError: No batch size, a negative or infinite number, or no call at all.
        """
        numbers = (self.min_seconds, self.warmup_calls, self.warmup_seconds, *self.batches)
        sensible = all(0 <= number < math.inf for number in numbers)
        if not self.batches or not sensible or self.min_calls < 1:
            raise UsageError(
                f"Cannot measure with {self}.",
                hint="Give at least one batch size and one call, and no negative or infinite number.",
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "batches": list(self.batches)}


def bench_sessions(
    sessions: Mapping[str, Session],
    feeds_for_batch: Callable[[int], Tensors],
    options: BenchOptions,
    *,
    progress: Progress = SILENT,
    clock: Clock = SYSTEM_CLOCK,
) -> list[BenchResult]:
    """Measure every session at every batch size.

    Several sessions are measured in rounds: a short block of calls of each, then the next round
    in rotated order. What the machine does meanwhile (another user, a clock that drops as it
    grows hot) then falls on all of them alike, instead of on the one measured last. Before a
    block the process is left alone until it is idle, because thread pools go on spinning for up
    to 200 ms after their last call and would take the cores of the next engine; the first call of
    a block finds cold caches and sleeping threads, and is not counted.

    The calls go through several input sets in turn, made from the one given by rolling each
    tensor along its longest axis: the same values, elsewhere in memory.

    Args:
        sessions: Loaded engines by name. They stay open.
        feeds_for_batch: Makes the inputs for a batch size.
        options: How long to measure.
        progress: Told of each block.
        clock: Where to read the time.

    Returns:
        One result a batch size and session, in the order of `options.batches` and `sessions`.

    Raises:
        UsageError: There is no session.
        TensorError: The inputs do not fit a session.
        EngineError: An engine failed.
    """
    if not sessions:
        raise UsageError("There is no engine to measure.", hint="Name one with --engine.")
    results = []
    for batch in options.batches:
        feeds = _input_sets(feeds_for_batch(batch), options)
        runners = [_Runner(name, session, feeds, clock) for name, session in sessions.items()]
        load_before = load_average()
        _warm_up(runners, options, progress, batch)
        _run_rounds(runners, options, progress, batch)
        load_after = load_average()
        results += [runner.result(batch, load_before, load_after) for runner in runners]
    return results


def _input_sets(feeds: Tensors, options: BenchOptions) -> list[dict[str, Any]]:
    generator = np.random.default_rng(options.seed)
    arrays = {name: np.asarray(value) for name, value in feeds.items()}
    if not options.vary_inputs:
        return [{name: value.copy() for name, value in arrays.items()} for _ in range(_INPUT_SETS)]
    return [
        {name: _rolled(value, generator) for name, value in arrays.items()}
        for _ in range(_INPUT_SETS)
    ]


def _rolled(value: Any, generator: np.random.Generator) -> Any:
    if not value.size or not value.ndim:
        return value.copy()
    axis = int(np.argmax(value.shape))
    return np.roll(value, int(generator.integers(value.shape[axis])), axis)


@dataclass(slots=True)
class _Runner:
    """One session at one batch size, and what was measured of it so far."""

    name: str
    session: Session
    feeds: list[dict[str, Any]]
    clock: Clock
    warmup_calls: int = 0
    warmup_stable: bool = False
    undisturbed: bool = True
    cpu_ns: int = 0
    samples_ns: list[int] = field(default_factory=list)
    round_medians_ns: list[float] = field(default_factory=list)
    _turn: Iterator[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the first input set."""
        self._turn = itertools.cycle(self.feeds)

    def call(self, min_calls: int, min_ns: float) -> list[int]:
        """Call until both are reached; return the wall time of each call in nanoseconds."""
        run, now, turn = self.session.run, self.clock.wall_ns, self._turn
        samples: list[int] = []
        begun = now()
        while True:
            feeds = next(turn)
            start = now()
            run(feeds)
            end = now()
            samples.append(end - start)
            if len(samples) >= min_calls and end - begun >= min_ns:
                return samples

    def warm_up(self, options: BenchOptions) -> None:
        """Call until the last three windows agree, or for ten times as long as asked."""
        window_calls = max(1, math.ceil(options.warmup_calls / _WINDOWS))
        window_ns = options.warmup_seconds / _WINDOWS * _NS
        begun = self.clock.wall_ns()
        medians: list[float] = []
        while not self.warmup_stable:
            samples = self.call(window_calls, window_ns)
            self.warmup_calls += len(samples)
            medians.append(_median(samples))
            last = medians[-_WINDOWS:]
            complete = len(last) == _WINDOWS
            self.warmup_stable = complete and max(last) <= _WINDOW_SPREAD * min(last)
            elapsed_ns = self.clock.wall_ns() - begun
            if complete and elapsed_ns >= _WARMUP_CAP * options.warmup_seconds * _NS:
                return

    def run_block(self, min_calls: int, min_ns: float) -> None:
        """Measure one block of calls, the first one left out."""
        self.call(1, 0)
        cpu_begun = self.clock.cpu_ns()
        samples = self.call(min_calls, min_ns)
        self.cpu_ns += self.clock.cpu_ns() - cpu_begun
        self.samples_ns += samples
        self.round_medians_ns.append(_median(samples))

    def result(self, batch: int, load_before: float, load_after: float) -> BenchResult:
        """Return what was measured."""
        latency = summarize_latency(self.samples_ns, self.round_medians_ns)
        effective = {str(key): str(value) for key, value in self.session.effective.items()}
        threads = effective.get("threads", "")
        return BenchResult(
            engine=self.name,
            batch=batch,
            latency=latency,
            cpu_ms=self.cpu_ns / len(self.samples_ns) / 1e6,
            throughput=max(batch, 1) * 1e3 / max(latency.p50_ms, 1e-6),
            warmup_calls=self.warmup_calls,
            warmup_stable=self.warmup_stable,
            noise=noise_of(latency),
            threads=int(threads) if threads.isdecimal() else 0,
            effective=effective,
            load_before=load_before,
            load_after=load_after,
            undisturbed=self.undisturbed,
            samples_ns=np.asarray(self.samples_ns, np.int64),
        )


def _median(samples: list[int]) -> float:
    return nearest_rank(sorted(samples), 0.5)


def _warm_up(runners: list[_Runner], options: BenchOptions, progress: Progress, batch: int) -> None:
    progress.start(_task("warm up", batch), len(runners))
    for runner in runners:
        if len(runners) > 1:
            _wait_until_idle(runner.clock)
        runner.warm_up(options)
        progress.advance()


def _run_rounds(
    runners: list[_Runner], options: BenchOptions, progress: Progress, batch: int
) -> None:
    # A multiple of the number of engines: each is first, second... equally often.
    rounds = math.ceil(_ROUNDS / len(runners)) * len(runners)
    block_calls = math.ceil(options.min_calls / rounds)
    block_ns = options.min_seconds / rounds * _NS
    progress.start(_task("measure", batch), rounds * len(runners))
    for turn in range(rounds):
        first = turn % len(runners)
        for runner in (*runners[first:], *runners[:first]):
            if len(runners) > 1:
                runner.undisturbed &= _wait_until_idle(runner.clock)
            with _garbage_kept():
                runner.run_block(block_calls, block_ns)
            progress.advance()


def _task(verb: str, batch: int) -> str:
    return f"{verb}, batch {batch}" if batch else verb


def _wait_until_idle(clock: Clock) -> bool:
    """Sleep until this process uses no CPU while it sleeps; False where it never comes to rest."""
    for _ in range(_IDLE_TRIES):
        wall_begun, cpu_begun = clock.wall_ns(), clock.cpu_ns()
        clock.sleep(_IDLE_SECONDS)
        if clock.cpu_ns() - cpu_begun <= _IDLE_SHARE * (clock.wall_ns() - wall_begun):
            return True
    return False


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Keep Python's garbage collector out of the measurement: torch alone makes it take long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
