"""One model of the study: its engines, clean and broken, and what each rule says about them.

A case is a fault in an engine. The engine compiles a copy of the clean ONNX graph that has the fault;
golden is the clean model. `truth` is the set of tensors that the engine shows, that golden has too, and
that come first on the paths from the values at fault: no method that looks at tensors can point nearer.

- right: the first culprit is in truth, and every other one lies behind it (`extra` counts those that
  are not in truth themselves)
- wrong: a culprit lies elsewhere
- missed: no culprit, or the localiser crashed

The rivals look at the same pairs of tensors, in golden's order; the first their rule flags is their
culprit.

Faults without effect are set aside and counted apart: in no tensor of truth does the fault, put into
the graph alone and run by ONNX Runtime without optimisation in f32, change more than storing the right
values in the engine's precision could: relative L2 up to the unit roundoff (f32 2^-24, f16 2^-11,
bf16 2^-8), worst channel up to four times that, zeros in place up to one in a thousand, NaN where it
was. The same where the engine hides it: OpenVINO's ReLU makes a NaN 0, which is what a negative value
becomes, too; then all that the broken engine shows of truth is what the clean one shows, within twice
that, for both round. A culprit outside truth is wrong there, too.

A NaN may be swallowed before it can be seen: OpenVINO's ReLU, fused into a convolution, makes it 0.
Where truth holds no NaN in the engine, what is left is one wrong element, and "channel" and
"activation" name it rightly, too.
"""

import contextlib
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import onnx

from faults.broken import BEFORE
from faults.graphs import KnownGraph, behind, nearest, run_all
from faults.injecting import draw_faults
from faults.localiser import Localiser
from faults.models import build
from shipway.compare.metrics import measure
from shipway.engines.base import EngineOptions
from shipway.engines.opening import compile_target
from shipway.engines.registry import find_engine
from shipway.engines.target import Target
from shipway.errors import ShipwayError
from shipway.tensors import dtype_of
from shipway.trace.goldens import open_golden

__all__ = ["ENGINES", "Row", "Study", "why_absent"]

ENGINES = {
    "onnxruntime f32": ("onnxruntime", "f32"),
    "openvino f32": ("openvino", "f32"),
    "openvino bf16": ("openvino", "bf16"),
    "openvino f16": ("openvino", "f16"),
}
ROUNDOFF = {"f32": 2**-24, "f16": 2**-11, "bf16": 2**-8}
ZEROS = 1e-3
CLEAN = "clean"
THREADS = 1


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one case, or of one clean engine (kind "clean").

    Args:
        model: Its name.
        engine: Key of ENGINES.
        kind: Kind of the fault.
        node: The value its node computes.
        op: That node's operator.
        detail: What was done.
        verdict: "right", "wrong", "missed", "no effect"; "failed" where the engine refuses the broken
            graph, "crashed" where the localiser does; for a clean engine "clean" or "false alarm".
        truth: Where the fault can be seen first.
        culprits: What the localiser named: tensor, cause, explanation.
        cause_right: The first culprit's cause is one of those that name the fault; None if not found.
        causes: Those.
        extra: Culprits that are only behind the fault.
        rivals: The verdict on each rival.
        compared: Tensors compared.
        unmatched: Tensors that were not, with the reason.
        evidence: Local metrics of truth and of each culprit; for a clean engine of the worst tensors.
        seconds: Time it took.
    """

    model: str
    engine: str
    kind: str
    node: str = ""
    op: str = ""
    detail: str = ""
    verdict: str = "failed"
    truth: list = field(default_factory=list)
    culprits: list = field(default_factory=list)
    cause_right: bool | None = None
    causes: list = field(default_factory=list)
    extra: int = 0
    rivals: dict = field(default_factory=dict)
    compared: int = 0
    unmatched: dict = field(default_factory=dict)
    evidence: dict = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def key(self):
        return (self.model, self.engine, self.kind, self.node, self.detail)

    def to_json(self):
        return asdict(self)


class Refused(Exception):
    """The engine does not take a graph."""


class Study:
    """One model with its faults; compiles and compares."""

    def __init__(self, model, cache, count, seed):
        """Export the model and draw the faults; the same seed gives the same ones.

        Args:
            model: A StudyModel.
            cache: Folder of the exports.
            count: Faults to draw.
            seed: Of the draw.
        """
        self.model = model
        self.portable, self.feeds, others = build(model, cache)
        self.graph = KnownGraph(onnx.load(self.portable.onnx), self.feeds, others)
        self.faults = draw_faults(self.graph, count, seed)
        self._localisers = {}
        self._clean = {}
        self._stack = contextlib.ExitStack()
        options = EngineOptions(threads=THREADS)
        self.golden = self._stack.enter_context(open_golden(self.portable, options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def keys(self, engine):
        """Return the keys of the rows that `rows` would yield."""
        begin = (self.model.name, engine)
        return [
            (*begin, CLEAN, "", ""),
            *((*begin, fault.kind, fault.node, fault.detail) for fault in self.faults),
        ]

    def rows(self, engine, known):
        """Yield a row for the clean engine and for each fault whose key is not in `known`."""
        keys = self.keys(engine)
        if keys[0] not in known:
            yield self._timed(engine, None)
        for key, fault in zip(keys[1:], self.faults, strict=True):
            if key not in known:
                yield self._timed(engine, fault)

    def _timed(self, engine, fault):
        start = time.perf_counter()
        about = {"kind": CLEAN}
        if fault is not None:
            about = {name: getattr(fault, name) for name in ("kind", "node", "op", "detail")}
            about["causes"] = sorted(fault.causes)
        begin = Row(self.model.name, engine, **about)
        try:
            row = self._judged(begin, engine, fault)
        except Refused as error:
            row = replace(begin, evidence={"error": str(error)[:400]})
        except Exception as error:  # noqa: BLE001 -- that the localiser crashed is a result
            lines = traceback.format_exc().strip().splitlines()
            told = {"error": repr(error)[:200], "where": lines[-8:]}
            row = replace(begin, verdict="crashed", evidence=told)
        return replace(row, seconds=round(time.perf_counter() - start, 3))

    def _judged(self, row, engine, fault):
        localiser = self._localiser(engine)
        with self.opened(engine, self.graph.proto if fault is None else fault.proto) as session:
            found = localiser.localise(session, ENGINES[engine][1])
        names = Names(self.graph, found)
        row = replace(
            row,
            culprits=[
                [one.tensor.golden, one.cause.kind, one.cause.explanation[:300]]
                for one in found.diagnosis.culprits
            ],
            compared=len(found.diagnosis.tensors),
            unmatched=dict(found.diagnosis.unmatched),
        )
        if fault is None:
            return clean_row(row, found)
        return self._faulty_row(row, engine, fault, found, names)

    def _faulty_row(self, row, engine, fault, found, names):
        truth = nearest(self.graph, fault.values, names.shown)
        later = behind(self.graph, truth)
        precision = ENGINES[engine][1]
        verdict, extra = judge(found.diagnosis.culprits, names, truth, later)
        has_effect = self._has_effect(fault, truth, precision)
        if verdict != "wrong" and not (has_effect and self._shows(engine, names, truth)):
            verdict = "no effect"
        culprits = found.diagnosis.culprits
        causes = fault.causes | swallowed(fault, found.diagnosis, names, truth)
        return replace(
            row,
            verdict=verdict,
            truth=sorted(truth),
            extra=extra,
            causes=sorted(causes),
            cause_right=culprits[0].cause.kind in causes if verdict == "right" else None,
            rivals={
                rule: judge_first(first, names, truth) for rule, first in found.flagged.items()
            },
            evidence=evidence(found.diagnosis, names, truth),
        )

    def _has_effect(self, fault, truth, precision):
        values = run_all(fault.proto, self.feeds)
        return any(changes(self.graph.values[name], values.get(name), precision) for name in truth)

    def _shows(self, engine, names, truth):
        """Say whether the broken engine shows anything of truth that the clean one does not."""
        if engine not in self._clean:
            with self.opened(engine, self.graph.proto) as session:
                clean = self._localiser(engine).localise(session, ENGINES[engine][1])
            self._clean[engine] = Names(self.graph, clean).tensors()
        clean, broken = self._clean[engine], names.tensors()
        precision = ENGINES[engine][1]
        return any(
            name not in clean
            or name not in broken
            or changes(clean[name], broken[name].reshape(clean[name].shape), precision, 2)
            for name in truth
        )

    def _localiser(self, engine):
        name, _ = ENGINES[engine]
        if name not in self._localisers:
            localiser = Localiser(self.golden, self.feeds, self.portable)
            clean = next(key for key, pair in ENGINES.items() if pair == (name, "f32"))
            with self.opened(clean, self.graph.proto) as session:
                localiser.learn(session)
            self._localisers[name] = localiser
        return self._localisers[name]

    @contextlib.contextmanager
    def opened(self, engine, proto):
        """Compile a graph for an engine and yield a session whose tensors can be read."""
        name, precision = ENGINES[engine]
        options = EngineOptions(precision=precision, threads=THREADS)
        with tempfile.TemporaryDirectory(prefix="shipway-localise-") as folder:
            path = Path(folder, "model.onnx")
            onnx.save(proto, path)
            model = replace(self.portable, onnx=path)
            try:
                artifact = compile_target(model, Target(name), options, Path(folder, "compiled"))
                opened = find_engine(name).open_taps(artifact, options)
            except ShipwayError as error:
                raise Refused(str(error)) from error
            with opened as session:
                yield session


class Names:
    """Which values of the clean graph the engine shows and golden has.

    By the engine's own names, so that a tensor the localiser failed to match still counts, and by
    what the localiser compared, so that a tensor without a name does as well.
    """

    def __init__(self, graph, found):
        self._graph = graph
        self._found = found
        self._taps = {tap.name: tap for tap in found.taps}
        by_name = {
            name
            for tap in found.taps
            if tap.kind != "input"
            for name in self._of_tap(tap)[:1]
            if name in found.golden and self._fits(found, tap, name)
        }
        self.shown = by_name | {
            name for one in found.diagnosis.tensors for name in self.of(one)[:1]
        }

    def _fits(self, found, tap, name):
        value = found.tensors[tap.name]
        return value is not None and value.size == self._graph.values[name].size

    def _of_tap(self, tap):
        return [name for name in (*tap.names, tap.name) if name in self._graph.values]

    def tensors(self):
        """Return the engine's values of the tensors it shows, by their ONNX name."""
        found = self._found
        named = {
            name: found.tensors[tap.name] for tap in found.taps for name in self._of_tap(tap)[:1]
        }
        compared = {
            name: found.tensors[one.actual]
            for one in found.diagnosis.tensors
            for name in self.of(one)[:1]
        }
        return {name: value for name, value in (named | compared).items() if value is not None}

    def of(self, compared):
        """Return the ONNX values that a compared tensor is, the surest first."""
        tap = self._taps[compared.actual]
        if any(name.endswith(BEFORE) for name in tap.names):
            return []  # it has the numbers of the value at fault, and lies before the fault
        own = [name for name in self._found.values[compared.golden] if name in self._graph.values]
        return own or self._of_tap(tap)


def judge(culprits, names, truth, later):
    """Return the verdict on a list of culprits, and how many lie only behind the fault."""
    if not culprits:
        return "missed", 0
    places = [set(names.of(one.tensor)) for one in culprits]
    outside = [place for place in places if not place & truth]
    if not places[0] & truth or any(not place & later for place in outside):
        return "wrong", len(outside)
    return "right", len(outside)


def judge_first(flagged, names, truth):
    if flagged is None:
        return "missed"
    return "right" if set(names.of(flagged)) & truth else "wrong"


def swallowed(fault, diagnosis, names, truth):
    """Return the classes that name a NaN rightly, too, where the engine shows none."""
    at_truth = [one for one in diagnosis.tensors if set(names.of(one)) & truth]
    shows_nan = any(one.judged.nonfinite_mismatches for one in at_truth)
    return {"activation", "channel"} if fault.kind == "nan" and not shows_nan else set()


def changes(right, wrong, precision, roundings=1):
    """Say whether a fault changes a value more than this many roundings to a precision could."""
    if wrong is None or right.shape != wrong.shape:
        return True
    metrics = measure(right, wrong)
    if not dtype_of(right.dtype).is_float:
        return metrics.mismatches > 0
    unit = roundings * ROUNDOFF[precision]
    return bool(
        metrics.nonfinite_mismatches
        or (metrics.relative_l2 or 0) > unit
        or (metrics.worst_channel or 0) > 4 * unit
        or (metrics.zero_mismatch or 0) > ZEROS
    )


def clean_row(row, found):
    tensors = sorted(found.diagnosis.tensors, key=lambda one: -float(one.severity))[:3]
    return replace(
        row,
        verdict="false alarm" if found.diagnosis.culprits else "clean",
        rivals={
            rule: "clean" if first is None else "false alarm"
            for rule, first in found.flagged.items()
        },
        evidence={one.golden: numbers(one) for one in tensors}
        | {one.tensor.golden: numbers(one.tensor) for one in found.diagnosis.culprits},
    )


def evidence(diagnosis, names, truth):
    """Return what was measured where the fault is, and at each culprit."""
    culprits = {one.tensor.golden for one in diagnosis.culprits}
    return {
        one.golden: numbers(one)
        for one in diagnosis.tensors
        if one.golden in culprits or set(names.of(one)) & truth
    }


def numbers(one):
    metrics = one.judged
    return {
        "op": one.op,
        "golden_op": one.golden_op,
        "severity": str(round(float(one.severity), 3)),
        "relative_l2": metrics.relative_l2,
        "worst_channel": metrics.worst_channel,
        "gain": metrics.gain,
        "zero_mismatch": metrics.zero_mismatch,
        "nonfinite": metrics.nonfinite_mismatches,
        "explained": one.explained[:200],
        "match": one.match.method,
    }


def why_absent(engine, study):
    """Say why an engine does not run here; "" where it does."""
    try:
        with study.opened(engine, study.graph.proto):
            return ""
    except Refused as error:
        return str(error)
