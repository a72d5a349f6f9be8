"""Audit of a graph: what the file declares, held against what it does at many sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

from shipway.errors import EngineError
from shipway.export.sizes import Bounds
from shipway.graph.loading import load_graph
from shipway.graph.locating import all_nodes
from shipway.progress import SILENT, Progress
from shipway.proof.audit_declared import (
    Declared,
    Run,
    check_dtypes,
    check_names,
    check_shapes,
    read_declared,
    sizes_words,
)
from shipway.proof.audit_failures import find_failures
from shipway.proof.audit_follow import find_clamped, find_ignored, find_independent, find_merged
from shipway.proof.audit_inputs import AuditInputs, read_inputs
from shipway.proof.audit_places import Places
from shipway.proof.audit_results import Audit, AuditCoverage, AuditFinding
from shipway.proof.audit_sizes import Sizes, SizeTrials, try_sizes
from shipway.proof.audit_taps import TappedSession, open_tapped
from shipway.proof.graph_feeds import find_ranges, hostile_feeds
from shipway.proof.graph_probe import probe_sizes
from shipway.source.modelfiles import find_model_file, shown_path
from shipway.tensors import TensorSpec

__all__ = ["Audited", "audit_graph"]

_OTHER_FILLS = ("negative", "zeros")
_UNDECLARED = "declares no shape"
_INSIDE = "lies inside If, Loop, Scan or a function"
_UNREACHED = "is not in the graph as it was run"


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit with what it rests on, for those who mend the file.

    Args:
        audit: The result.
        runs: What came.
        dtypes: Element type of each value.
    """

    audit: Audit
    runs: tuple[Run, ...]
    dtypes: Mapping[str, ir.DataType]


def audit_graph(
    path: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    bounds: Bounds = MappingProxyType({}),
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    seed: int = 0,
    nonempty: bool = False,
    progress: Progress = SILENT,
) -> Audited:
    """Run a model at many sizes and compare every shape and dtype with what the file declares.

    ONNX Runtime runs it without optimisation, and without being told what the file declares.

    Args:
        path: The .onnx file; a name map beside it leads to modules and lines of code.
        sizes: Usual sizes of dynamic dimensions, from which others are tried; where none is given
            those of an export are.
        bounds: Smallest and largest size of a dimension; nothing else is tried.
        ranges: Smallest and largest number of an input, by name; those of others are found out.
        seed: Of the inputs.
        nonempty: Leave out sizes of 0.
        progress: Told of every run.

    Raises:
        ModelError: The file is absent or broken, or an input is no tensor of known rank.
        UsageError: The model has no dimension of such a name.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: ONNX Runtime does not load the model, or it runs at no size that was tried.
    """
    path = find_model_file(path)
    model = load_graph(path)
    inputs = read_inputs(model).within(ranges)
    inputs.check_names(sizes or {})
    declared = read_declared(model)
    with open_tapped(path, inputs.specs) as session:
        progress.start("audit the graph")
        execution = _Execution(session, inputs, seed, progress)
        trials = try_sizes(inputs, sizes or {}, bounds, execution.find_usual, execution.attempt)
        if any(node.op_type == "Loop" for node in all_nodes(model)):
            trials.notes.append(
                "not tried: negative and zero inputs, on which a Loop may never end"
            )
        else:
            execution.try_fills(trials.usual)
        if not nonempty:
            execution.try_empty(path, trials)
        coverage = _coverage(model, declared, session)
    findings = _judge(model, path, declared, execution, trials)
    tried = dict.fromkeys(tuple(run.sizes.items()) for run in execution.runs)
    audit = Audit(
        shown_path(path),
        tuple(sorted(findings, key=_rank)),
        coverage,
        tuple(map(dict, tried)),
        tuple(name for name, said in declared.items() if said.is_output),
        tuple(trials.notes),
    )
    return Audited(audit, tuple(execution.runs), session.dtypes)


@dataclass(slots=True)
class _Execution:
    """Runs the model, and keeps the shapes that came.

    Args:
        session: The model with taps.
        inputs: Its inputs.
        seed: Of their numbers.
        progress: Told of every run.
    """

    session: TappedSession
    inputs: AuditInputs
    seed: int
    progress: Progress
    runs: list[Run] = field(default_factory=list)
    specs: tuple[TensorSpec, ...] = ()

    def find_usual(self, candidates: Iterator[Sizes]) -> Sizes:
        """Return the first sizes at which the model runs."""
        first = ""
        for sizes in candidates:
            complete = self.inputs.complete(sizes)
            self.specs = find_ranges(
                self.inputs.specs, complete, lambda feeds: self.session.run(feeds)[1]
            )
            why = self.attempt(sizes)
            if not why:
                return sizes
            first = first or f"at {sizes_words(sizes)}: {why}"
        flags = " ".join(f"--size {name}=64" for name in self.inputs.names)
        raise EngineError(
            f"The model runs at no size that was tried; {first}",
            hint=f"Give sizes it takes: {flags}" if flags else "See whether it runs: shipway run",
        )

    def attempt(self, sizes: Sizes, fill: str = "normal") -> str:
        """Run at some sizes; return why the model does not run there, "" where it does."""
        self.progress.advance()
        complete = self.inputs.complete(sizes)
        made = hostile_feeds(self.specs, complete, self.seed)
        feeds = next((feeds for name, feeds in made if name in {fill, "random"}), {})
        shapes, why = self.session.run(feeds)
        if shapes is not None:
            self.runs.append(Run(dict(sizes), shapes))
        return why

    def try_fills(self, sizes: Sizes) -> None:
        """Run on other numbers too: a size may depend on them."""
        for fill in _OTHER_FILLS:
            self.attempt(sizes, fill)

    def try_empty(self, path: Path, trials: SizeTrials) -> None:
        """Run with each dimension at 0, where a process of its own survives it."""
        sets = [
            trials.usual | dict.fromkeys(trials.ties.get(name, (name,)), 0) for name in trials.ran
        ]
        complete = [self.inputs.complete(one) for one in sets]
        reasons = probe_sizes(path, self.specs, complete) if sets else []
        for one, why in zip(sets, reasons, strict=True):
            if refusal := why or self.attempt(one):
                trials.notes.append(
                    f"not tried: {sizes_words(one)}, which the model refuses: {refusal}"
                )


def _judge(
    model: ir.Model,
    path: Path,
    declared: Mapping[str, Declared],
    execution: _Execution,
    trials: SizeTrials,
) -> list[AuditFinding]:
    places = Places(model, path)
    runs, inputs = execution.runs, execution.inputs
    full = [run for run in runs if 0 not in run.sizes.values()]
    alone = {name: _alone(name, trials, full) for name in trials.ran}
    false = [
        *check_dtypes(declared, execution.session.dtypes, places),
        *check_shapes(declared, runs, inputs.names, places),
    ]
    known = {finding.value for finding in false}
    outputs = [name for name, said in declared.items() if said.is_output]
    return [
        *false,
        *find_failures(trials, places, inputs),
        *check_names(declared, full, inputs.names, places),
        *find_ignored(model, inputs, alone, places),
        *find_clamped([name for name in outputs if name not in known], alone, places),
        *find_merged(outputs, inputs.first_axes, alone, places),
        *find_independent(model, inputs),
    ]


def _alone(name: str, trials: SizeTrials, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that differ from the usual one in one dimension, the usual one first."""
    group = trials.ties.get(name, (name,))
    found: dict[int, Run] = {}
    for run in runs:
        others = {key: size for key, size in run.sizes.items() if key not in group}
        size = run.sizes[name]
        if all(trials.usual[key] == size for key, size in others.items()) and all(
            run.sizes[key] == size for key in group
        ):
            found.setdefault(size, run)
    usual = found.pop(trials.usual[name], None)
    return [*([usual] if usual else []), *found.values()]


def _coverage(
    model: ir.Model, declared: Mapping[str, Declared], session: TappedSession
) -> AuditCoverage:
    unchecked: dict[str, list[str]] = defaultdict(list)
    checked = 0
    for name, said in declared.items():
        if name in session.untapped:
            unchecked[session.untapped[name]].append(name)
        elif name not in session.dtypes:
            unchecked[_UNREACHED].append(name)
        elif said.shape is None:
            unchecked[_UNDECLARED].append(name)
        else:
            checked += 1
    inside = [graph for graph in model.graphs() if graph is not model.graph]
    inside += [one for function in model.functions.values() for one in _graphs_of(function)]
    for graph in inside:
        unchecked[_INSIDE] += [value.name or "" for node in graph for value in node.outputs]
    return AuditCoverage(checked, {why: tuple(names) for why, names in unchecked.items() if names})


def _graphs_of(function: ir.Function) -> Iterator[ir.Graph]:
    yield function.graph
    yield from function.graph.subgraphs()


def _rank(finding: AuditFinding) -> int:
    return ("error", "warning", "info").index(finding.severity)
