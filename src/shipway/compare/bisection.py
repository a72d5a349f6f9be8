"""Find the first wrong operator in an engine whose tensors cannot be read, build by build.

The model is cut off behind one of its values, built for the engine, run, and the value compared.
Which value is asked next is a bisection in the order of execution; the answer is then checked
against the values it is computed from, for a fault on another branch deceives a bisection. Each
build is another one than the engine under test, with other fusions; the result says so.

A build that fails says nothing about the numbers: it is "broke", never "differs".
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from shipway.compare.metrics import measure
from shipway.compare.results import Metrics
from shipway.compare.verdict import judge, limits_for
from shipway.engines.base import EngineOptions
from shipway.engines.opening import compile_target
from shipway.engines.registry import find_engine
from shipway.engines.target import Target
from shipway.errors import EngineMissing, ShipwayError, UsageError
from shipway.export.portable import PortableModel
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors, dtype_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Bisection", "Prober", "bisect_model"]

Outcome = Literal["same", "differs", "broke"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One value asked for.

    Args:
        name: The value.
        outcome: "same": within the limits. "differs": beyond them. "broke": there is no number.
        detail: The broken limits, or what failed.
        metrics: Against the golden; None where it broke.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    metrics: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        metrics = None if self.metrics is None else self.metrics.to_json()
        return {
            "name": self.name,
            "outcome": self.outcome,
            "detail": self.detail,
            "metrics": metrics,
        }


@dataclass(frozen=True, slots=True)
class Bisection:
    """What was found.

    Args:
        target: The engine.
        verdict: "clean": every output is right. "found": `culprit` is wrong and what it is computed
            from is right. "narrowed": between `right` and `culprit` nothing could be built.
            "broke": not even the outputs could be computed.
        culprit: The first wrong value; "" where there is none.
        operator: The operator that computes it.
        right: The values it is computed from, or the last right one.
        probes: Everything that was asked, in the order it was asked.
    """

    target: str
    verdict: Literal["clean", "found", "narrowed", "broke"]
    culprit: str
    operator: str
    right: tuple[str, ...]
    probes: tuple[Probe, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "target": self.target,
            "verdict": self.verdict,
            "culprit": self.culprit,
            "operator": self.operator,
            "right": list(self.right),
            "probes": [probe.to_json() for probe in self.probes],
        }


@dataclass(slots=True)
class Prober:
    """Builds a model up to one of its values, runs it, and compares.

    Args:
        model: The model; it has an .onnx file.
        target: What to build for.
        options: For the engine; the target decides the precision.
        feeds: Every input by name.
        golden: Returns golden's value.
    """

    model: PortableModel
    target: Target
    options: EngineOptions
    feeds: Tensors
    golden: Callable[[str], NDArray[Any]]
    asked: dict[str, Probe] = field(default_factory=dict)

    def ask(self, name: str) -> Probe:
        """Return what became of a value; each is built for once.

        Raises:
            EngineMissing: The engine is not installed.
        """
        if name not in self.asked:
            self.asked[name] = self._probe(name)
        return self.asked[name]

    def _probe(self, name: str) -> Probe:
        try:
            actual = self._compute(name)
        except EngineMissing:
            raise
        except ShipwayError as error:
            return Probe(name, "broke", str(error))
        golden = self.golden(name)
        if golden.shape != actual.shape:
            shapes = f"shape {list(actual.shape)}, but {list(golden.shape)} in the golden"
            return Probe(name, "differs", shapes)
        metrics = measure(golden, actual)
        limits = limits_for(self.target.precision)
        verdict = judge(metrics, dtype_of(golden.dtype).name, limits)
        outcome: Outcome = "same" if verdict.passed else "differs"
        return Probe(name, outcome, "; ".join(verdict.reasons), metrics)

    def _compute(self, name: str) -> NDArray[Any]:
        from shipway.export.onnx_file import read_specs
        from shipway.graph.extracting import extract_graph
        from shipway.graph.loading import load_graph
        from shipway.graph.outline import read_outline
        from shipway.graph.saving import save_graph

        if self.model.onnx is None:
            raise UsageError("There is no ONNX model to cut.", hint="Give the .onnx file.")
        graph = load_graph(self.model.onnx)
        extract_graph(graph, outputs=[name])
        engine = find_engine(self.target.engine)
        options = replace(self.options, precision=self.target.precision, inline=self.target.inline)
        with tempfile.TemporaryDirectory(prefix="shipway-bisect-") as scratch:
            path = Path(scratch) / "part.onnx"
            save_graph(graph, path)
            inputs, outputs = read_specs(read_outline(path))
            part = PortableModel(inputs, outputs, onnx=path)
            artifact = compile_target(part, self.target, options, Path(scratch) / "engine")
            with engine.load(artifact, options) as session:
                found = session.run({spec.name: self.feeds[spec.name] for spec in session.inputs})
        return next(iter(found.values()))


def bisect_model(prober: Prober, names: Sequence[str], *, progress: Progress = SILENT) -> Bisection:
    """Find the first value of a model that an engine gets wrong.

    Args:
        prober: Builds, runs and compares.
        names: Values of the main graph that can be asked for, in the order of execution; outputs of
            the model among them.
        progress: Told of every build.

    Raises:
        UsageError: There is no ONNX model.
        EngineMissing: The engine is not installed.
        ModelError: The model is broken.
    """
    from shipway.graph.loading import load_graph
    from shipway.graph.ordering import sort_graph

    if prober.model.onnx is None:
        raise UsageError("There is no ONNX model to cut.", hint="Give the .onnx file.")
    graph = load_graph(prober.model.onnx)
    sort_graph(graph)
    return _Search(prober, graph, names, progress).run()


class _Search:
    def __init__(
        self, prober: Prober, graph: ir.Model, names: Sequence[str], progress: Progress
    ) -> None:
        from shipway.graph.locating import values_read

        self._prober = prober
        self._progress = progress
        self._place = {name: place for place, name in enumerate(names)}
        self._reads: dict[str, list[str]] = {}
        self._ops: dict[str, str] = {}
        self._outputs = [value.name or "" for value in graph.graph.outputs]
        for node in graph.graph:
            read = list(dict.fromkeys(value.name or "" for value in values_read(node)))
            for value in node.outputs:
                self._reads[value.name or ""] = read
                self._ops[value.name or ""] = node.op_type
        progress.start(f"bisect {prober.target}")

    def run(self) -> Bisection:
        outcomes = [self._ask(name) for name in self._outputs]
        wrong = next((probe for probe in outcomes if probe.outcome == "differs"), None)
        if wrong is None:
            broke = any(probe.outcome == "broke" for probe in outcomes)
            return self._result("broke" if broke else "clean", "", ())
        return self._descend(wrong.name)

    def _descend(self, wrong: str) -> Bisection:
        """Bisect what a wrong value is computed from; go on where a branch was left out."""
        while True:
            right, wrong, open_ends = self._bisect(wrong)
            sources = self._askable_sources(wrong)
            probes = [self._ask(name) for name in sources]
            below = next((probe.name for probe in probes if probe.outcome == "differs"), None)
            if below is None:
                broke = any(probe.outcome == "broke" for probe in probes) or open_ends
                known = tuple(probe.name for probe in probes if probe.outcome == "same")
                shown = known or ((right,) if right else ())
                return self._result("narrowed" if broke else "found", wrong, shown)
            wrong = below

    def _bisect(self, wrong: str) -> tuple[str, str, bool]:
        """Return the last right and the first wrong value before it, and whether some broke between."""
        line = sorted(self._before(wrong), key=self._place.__getitem__)
        low, high = -1, len(line) - 1
        while high - low > 1:
            at = self._buildable((low + high) // 2, low, high, line)
            if at is None:
                return (line[low] if low >= 0 else ""), line[high], True
            if self._ask(line[at]).outcome == "differs":
                high = at
            else:
                low = at
        return (line[low] if low >= 0 else ""), line[high], False

    def _buildable(self, middle: int, low: int, high: int, line: Sequence[str]) -> int | None:
        """Return the place nearest to the middle that could be computed; None: there is none."""
        inside = sorted(range(low + 1, high), key=lambda place: abs(place - middle))
        return next((at for at in inside if self._ask(line[at]).outcome != "broke"), None)

    def _before(self, name: str) -> set[str]:
        """Return a value and those it is computed from, as far as they can be asked for."""
        found, todo = set(), [name]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self._reads.get(one, ())
        return {one for one in found if one in self._place}

    def _askable_sources(self, name: str) -> list[str]:
        """Return the nearest values before one that can be asked for."""
        found: dict[str, None] = {}
        todo = list(self._reads.get(name, ()))
        while todo:
            one = todo.pop()
            if one in self._place:
                found[one] = None
            else:
                todo += self._reads.get(one, ())
        return sorted(found, key=self._place.__getitem__)

    def _ask(self, name: str) -> Probe:
        probe = self._prober.ask(name)
        self._progress.advance()
        return probe

    def _result(
        self,
        verdict: Literal["clean", "found", "narrowed", "broke"],
        culprit: str,
        right: tuple[str, ...],
    ) -> Bisection:
        return Bisection(
            str(self._prober.target),
            verdict,
            culprit,
            self._ops.get(culprit, ""),
            right,
            tuple(self._prober.asked.values()),
        )
