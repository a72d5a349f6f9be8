"""Compare an engine with the golden tensor by tensor, and name what is at fault.

The golden is walked once. At each tensor that the engine shows, two errors are measured: against
the pure golden (accumulated), and against the golden that was fed the engine's own tensors so far
(local). Behind that tensor the walk goes on with the engine's, so that a fault shows where it is
made and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from shipway.compare.culprits import Evidence, find_culprits
from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.compare.execution import (
    CUT_SHORT,
    Execution,
    describe_inputs,
    input_problems,
    read_session,
)
from shipway.compare.matching import Candidate, Matching, match_tensors
from shipway.compare.metrics import measure
from shipway.compare.options import DiagnoseOptions, limits_of
from shipway.compare.profile import profile_of
from shipway.compare.reordering import arrange, find_axes
from shipway.compare.severity import severity_of
from shipway.compare.verdict import judge
from shipway.engines.tapping import Tap, TapSession
from shipway.errors import TensorError
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors, dtype_of
from shipway.trace.golden import Golden
from shipway.trace.shelf import Shelf
from shipway.trace.statistics import Statistics, summarize

__all__ = ["Diagnoser", "diagnose"]

_WORTH_A_PROFILE = 0.25
"""Share of its limits from which on it is shown where in a tensor the error lies."""


class Diagnoser:
    """Compares executions with one golden on one set of inputs.

    What is learned of the golden, and of a clean build of the engine, serves every comparison.
    """

    def __init__(self, golden: Golden, feeds: Tensors, progress: Progress = SILENT) -> None:
        """Keep the golden; it is run when it is first needed.

        Args:
            golden: What is taken as right.
            feeds: Every input by name.
            progress: Told of the steps.
        """
        self._golden = golden
        self._feeds = feeds
        self._progress = progress
        self._pool: list[Candidate] | None = None
        self._clean: dict[str, Statistics] = {}

    def learn(self, session: TapSession) -> None:
        """Read a clean f32 build of the golden's graph in the engine that will be under test.

        Its numbers show which of the engine's tensors is which, whatever is wrong with the one
        under test.
        """
        self._progress.start("read a clean build", len(session.taps))
        for tensor in session.stream(self._feeds):
            if tensor.tap.names:
                # Names an engine gives by counting mean another tensor in every build.
                self._clean[tensor.tap.names[0]] = summarize(tensor.value)
            self._progress.advance()

    def learn_from(self, execution: Execution) -> None:
        """Take an execution for one of a clean build, whose numbers may refute its own names.

        For a build of golden's own program, where another one would be the same again. A name is
        refuted only by the numbers of another of golden's tensors, so a fault is not lost by it.
        """
        for tap in execution.taps:
            if tap.names and tap.name in execution.statistics:
                self._clean[tap.names[0]] = execution.statistics[tap.name]

    def diagnose(self, actual: Execution, options: DiagnoseOptions) -> Diagnosis:
        """Compare an execution on the same inputs with the golden.

        Raises:
            UsageError: The user's map names a tensor that is not there.
            TensorError: The two have no tensor in common.
        """
        problems = input_problems(
            Execution(self._golden.title, inputs=describe_inputs(self._feeds)), actual
        )
        if problems:
            return self._refuse(actual, options, problems)
        matching = match_tensors(
            self._golden_pool(),
            [self._candidate(tap, actual) for tap in actual.taps if tap.kind != "input"],
            links=options.links,
            user=options.user,
            precision=options.precision,
        )
        self._match_moved(matching, actual)
        if not matching.pairs:
            raise TensorError(
                f"{actual.title} and {self._golden.title} have no tensor in common: they are of "
                "different models.",
                hint="Compare executions of one model, or give --map with pairs of names.",
            )
        shapes = {one.tap.name: one.shape for one in self._golden_pool()}
        walk = _Walk(self._golden, self._feeds, actual, matching, options, shapes)
        self._progress.start("compare tensor by tensor", len(matching.pairs))
        compared = []
        for one in walk.run():
            compared.append(one)
            self._progress.advance()
        return self._conclude(actual, matching, compared, options)

    def _refuse(
        self, actual: Execution, options: DiagnoseOptions, problems: tuple[str, ...]
    ) -> Diagnosis:
        """Return that the inputs differ: nothing behind them says anything of the engine."""
        why = "not compared: the inputs differ"
        return Diagnosis(
            golden=self._golden.title,
            actual=actual.title,
            precision=options.precision,
            local=False,
            tensors=(),
            culprits=(),
            unmatched=dict.fromkeys(actual.shapes, why),
            golden_only={tap.name: why for tap in self._golden.taps if tap.kind != "input"},
            input_problems=problems,
            identical=actual.identical,
            local_reason="the inputs differ",
        )

    def _golden_pool(self) -> list[Candidate]:
        if self._pool is None:
            self._progress.start(f"run {self._golden.title}", len(self._golden.taps))
            self._pool = []
            for tensor in self._golden.walk(self._feeds, lambda _: None):
                numbers = summarize(tensor.value)
                shape, dtype = tensor.value.shape, tensor.value.dtype.name
                self._pool.append(Candidate(tensor.tap, shape, numbers, True, dtype))
                self._progress.advance()
        return self._pool

    def _match_moved(self, matching: Matching, actual: Execution) -> None:
        """Match what lies with its axes in another order; golden is run again where there is such.

        Not with a tensor that another is called after: the copy may be a step that golden lacks, and
        a fault in it is none of that tensor.
        """
        called = {golden for golden, match in matching.pairs.values() if match.method == "name"}
        wanted = {golden for names in matching.moved.values() for golden in names} - called
        if not wanted:
            return
        numbers = {
            tap.name: self._clean_numbers(tap) or actual.statistics[tap.name]
            for tap in actual.taps
            if tap.name in matching.moved
        }
        for tensor in self._golden.walk(self._feeds, lambda _: None, wanted):
            moved = {
                name: (actual.shapes[name], numbers[name])
                for name, names in matching.moved.items()
                if tensor.tap.name in names and name in matching.unmatched
            }
            for name, match in find_axes(tensor.value, moved):
                matching.pairs[name] = (tensor.tap.name, match)  # the last of equal ones stays
        for name in matching.moved:
            if name in matching.pairs:
                matching.unmatched.pop(name, None)

    def _clean_numbers(self, tap: Tap) -> Statistics | None:
        return self._clean.get(tap.names[0]) if tap.names else None

    def _candidate(self, tap: Tap, actual: Execution) -> Candidate:
        own = actual.statistics.get(tap.name)
        shape, dtype = actual.shapes[tap.name], actual.dtypes[tap.name]
        clean = self._clean_numbers(tap)
        if clean is not None and (own is None or clean.count == own.count):
            return Candidate(tap, shape, clean, True, dtype)
        return Candidate(tap, shape, own, False, dtype)

    def _conclude(
        self,
        actual: Execution,
        matching: Matching,
        compared: Sequence[TensorComparison],
        options: DiagnoseOptions,
    ) -> Diagnosis:
        ordered = sorted(compared, key=lambda one: one.order)
        evidence = Evidence(
            self._golden,
            self._feeds,
            actual.read,
            matching,
            options.precision,
            most=options.causes,
            replay=options.replay,
            perturbed=actual.perturbed,
        )
        tensors, culprits = find_culprits(evidence, ordered)
        return Diagnosis(
            golden=self._golden.title,
            actual=actual.title,
            precision=options.precision,
            local=True,
            tensors=tuple(tensors),
            culprits=tuple(culprits),
            unmatched=_unmatched(actual, matching, options.known),
            golden_only=self._golden_only(matching, complete=actual.complete),
            identical=actual.identical,
        )

    def _golden_only(self, matching: Matching, *, complete: bool) -> dict[str, str]:
        shown = {name for name, _ in matching.pairs.values()}
        why = "the engine does not show it: inside a fused operator, or a view"
        why = why if complete else CUT_SHORT
        return {
            tap.name: why
            for tap in self._golden.taps
            if tap.kind != "input" and tap.name not in shown
        }


def _unmatched(actual: Execution, matching: Matching, known: Mapping[str, str]) -> dict[str, str]:
    """Return what the engine has that was not compared, with the reason that says most."""
    names = {tap.name: (*tap.names, tap.name) for tap in actual.taps}
    found = dict(actual.untapped)
    for name, why in matching.unmatched.items():
        found[name] = next((known[one] for one in names[name] if one in known), why)
    return found


def diagnose(
    golden: Golden,
    actual: TapSession,
    feeds: Tensors,
    *,
    options: DiagnoseOptions = DiagnoseOptions(),  # noqa: B008 -- frozen
    clean: TapSession | None = None,
    title: str = "the engine",
    progress: Progress = SILENT,
) -> Diagnosis:
    """Compare an engine with the golden, tensor by tensor, and name what is at fault.

    Args:
        golden: What is taken as right.
        actual: The engine under test.
        feeds: Every input by name; both are run on it.
        options: How to compare.
        clean: A clean f32 build of the golden's graph in the same engine; see `Diagnoser.learn`.
        title: What to call the engine under test.
        progress: Told of the steps.

    Raises:
        UsageError: The user's map names a tensor that is not there.
        TensorError: A feed does not fit, or the two have no tensor in common.
        EngineError: An engine failed.
        OutputError: The disk is full.

    Source: teacher forcing found 149 of 158 faults in fused engines at their place, with no false
        alarm; comparing outputs layer by layer with fixed thresholds found at most 59.
    """
    diagnoser = Diagnoser(golden, feeds, progress)
    if clean is not None:
        diagnoser.learn(clean)
    with Shelf(options.max_bytes) as shelf:
        read = read_session(actual, feeds, shelf, title, progress)
        return diagnoser.diagnose(read, options)


class _Walk:
    """One walk of the golden beside the tensors of an engine."""

    def __init__(
        self,
        golden: Golden,
        feeds: Tensors,
        actual: Execution,
        matching: Matching,
        options: DiagnoseOptions,
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._golden = golden
        self._feeds = feeds
        self._shapes = shapes
        self._actual = actual
        self._matching = matching
        self._options = options
        self._of_golden = matching.by_golden()
        self._standing = matching.standing(actual.perturbed)
        self._taps = {tap.name: tap for tap in actual.taps}
        self._place = {tap.name: place for place, tap in enumerate(golden.taps)}
        self._ends = set(golden.outputs.values())

    def run(self) -> Iterator[TensorComparison]:
        for tensor in self._golden.walk(self._feeds, self._tensor, set(self._of_golden)):
            for name in self._of_golden[tensor.tap.name]:
                value = self._actual.read(name)
                if value is None:
                    self._matching.unmatched[name] = "its values were not kept"
                    continue
                yield self._compare(tensor.tap, name, (tensor.value, tensor.local), value)

    def _tensor(self, golden: str) -> NDArray[Any] | None:
        """Return what takes the place of a golden tensor: the last of the engine's that are it."""
        name = self._standing.get(golden)
        value = None if name is None else self._actual.read(name)
        if name is None or value is None:
            return None
        return arrange(value, self._matching.pairs[name][1], self._shapes[golden])

    def _compare(
        self, tap: Tap, name: str, golden: tuple[NDArray[Any], NDArray[Any]], actual: NDArray[Any]
    ) -> TensorComparison:
        engine = self._taps[name]
        value, local = golden
        actual = arrange(actual, self._matching.pairs[name][1], value.shape)
        accumulated = measure(value, actual)
        near = accumulated if local is value else measure(local, actual)
        dtype = dtype_of(value.dtype).name
        limits = limits_of(self._options, dtype, actual.dtype.name, local=True)
        severity = severity_of(near, dtype, limits)
        return TensorComparison(
            order=self._place[tap.name],
            golden=tap.name,
            actual=name,
            match=self._matching.pairs[name][1],
            golden_op=tap.op,
            op=engine.op,
            dtype=dtype,
            shape=tuple(value.shape),
            layout=engine.layout,
            module=tap.module or engine.module,
            source=tap.source or engine.source,
            code=tap.code or engine.code,
            is_output=tap.name in self._ends,
            perturbed=self._actual.perturbed.get(name, ""),
            accumulated=accumulated,
            local=near,
            verdict=judge(near, dtype, limits),
            severity=severity,
            channel_errors=profile_of(near, local, actual) if severity > _WORTH_A_PROFILE else (),
        )
