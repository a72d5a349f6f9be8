"""The `shipway compare` command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from shipway.cli.diagnosing import (
    DiagnoseFlags,
    bisect_sides,
    diagnose_sides,
    why_not_tapped,
)
from shipway.cli.diagnosis_view import DEFAULT_ROWS, show_diagnosis
from shipway.cli.flags import DataFlags, EngineFlags, Flag, Many, read_bytes, read_sizes
from shipway.cli.inputs import InputFlags, read_inputs
from shipway.cli.outputs_view import show_bisection, show_outputs
from shipway.cli.sides import Side, open_side
from shipway.cli.terminal import print_json, print_result, show_progress, start_log
from shipway.compare.bisection import Bisection
from shipway.compare.diagnosis import Diagnosis
from shipway.compare.outputs import compare_sets, worst_set
from shipway.compare.results import Comparison
from shipway.engines.base import PRECISIONS
from shipway.errors import TensorError, UsageError
from shipway.evaluate.feeds import sample_feeds
from shipway.files import write_json
from shipway.progress import Progress
from shipway.report.diagnosis_files import write_diagnosis
from shipway.report.viewers import name_nodes
from shipway.tensors import Tensors, parse_spec, random_feeds

__all__ = ["compare"]


def compare(
    golden: str,
    actual: str,
    *,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    data: DataFlags = DataFlags(),  # noqa: B008 -- the same
    inputs: InputFlags = InputFlags(),  # noqa: B008 -- the same
    tensors: DiagnoseFlags = DiagnoseFlags(),  # noqa: B008 -- the same
    sets: int = 3,
    samples: int = 16,
    spec: Many = (),
    precision: str = "",
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Compare two engines, traces or sets of saved tensors; name the first operator that goes wrong.

    Each side is a compiled artifact, a model file with or without an engine behind it
    (model.onnx@openvino:bf16), a trace of shipway trace, another tool's dump, a tensor file, or a
    folder of tensor files. Models run on the files of --input, or on random inputs and, with
    --data, on samples of a data set. Outputs are compared over all inputs; then, on the inputs with
    the largest error, every tensor the engine shows. The limits are those of the precision. The
    exit code is 0 when every output is within them and nothing is at fault, else 1.

    ```
    shipway compare export/model.pt2 export/model.onnx@openvino:bf16
    shipway compare model.pt2 model.openvino.xml --dim batch=8
    shipway compare model.onnx npu_dump/ --input x=x.npy
    shipway compare golden.npz actual.npz --precision f16
    ```

    Args:
        golden: What is taken as right.
        actual: What is under test.
        flags: What is asked of the engines.
        data: A data set to take real inputs from.
        inputs: What the models run on.
        tensors: How to compare tensor by tensor.
        sets: Random input sets.
        samples: Samples of the data set.
        spec: Name, dtype and shape of a .bin file, e.g. "logits:float32[1,1000]". Again for each.
        precision: f32, bf16 or f16: whose limits to use. That of the engine under test if not given.
        output: Write comparison.json, and what was found tensor by tensor as page, table and
            overlays, into this folder; or only the JSON, to a name that ends in .json.
        json: Print JSON.
    """
    start_log(quiet=json)
    if precision and precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"Unknown precision '{precision}'.", hint=f"One of: {known}.")
    specs = [parse_spec(text) for text in spec]
    tensors.options("f32")  # a senseless flag is refused before anything is run
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        sides = [
            open_side(text, specs, flags, progress, stack, other)
            for text, other in ((golden, actual), (actual, golden))
        ]
        job = _Comparing(sides[0], sides[1], flags, tensors, precision, progress)
        result = job.run(_feeds(sides, data, inputs, (sets, samples)))
    written = [] if output is None else _write(result, output, sides)
    if json:
        print_json(result.to_json())
    else:
        result.show(tensors)
        for path in written:
            print_result(f"wrote {path}")
    return 0 if result.passed else 1


class _Result:
    """What was compared, and what was not and why."""

    def __init__(self) -> None:
        self.sets = 0
        self.outputs: Comparison | None = None
        self.diagnosis: Diagnosis | None = None
        self.bisection: Bisection | None = None
        self.left_out = ""
        self.outputs_only = False

    @property
    def passed(self) -> bool:
        """Everything that was compared passed."""
        parts = [part.passed for part in (self.outputs, self.diagnosis) if part is not None]
        if self.bisection is not None:
            parts.append(self.bisection.verdict == "clean")
        return bool(parts) and all(parts)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the comparison of outputs, and what goes beyond it beside it."""
        data = {} if self.outputs is None else self.outputs.to_json()
        if self.outputs_only:
            return data
        return {
            **data,
            "passed": self.passed,
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_json(),
            "bisection": None if self.bisection is None else self.bisection.to_json(),
            "tensors_left_out": self.left_out,
        }

    def show(self, flags: DiagnoseFlags) -> None:
        """Print what was found, what is at fault first."""
        if self.diagnosis is not None:
            limit = None if flags.every else DEFAULT_ROWS
            show_diagnosis(self.diagnosis, order=flags.order, limit=limit)
            print_result("")
        if self.bisection is not None:
            show_bisection(self.bisection)
        if self.outputs is not None:
            show_outputs(self.outputs, self.sets)
        if self.left_out:
            print_result(f"tensor by tensor: not compared: {self.left_out}")


class _Comparing:
    def __init__(
        self,
        golden: Side,
        actual: Side,
        flags: EngineFlags,
        tensors: DiagnoseFlags,
        precision: str,
        progress: Progress,
    ) -> None:
        self._golden = golden
        self._actual = actual
        self._flags = flags
        self._tensors = tensors
        self._precision = precision or actual.precision
        self._progress = progress
        self._result = _Result()

    def run(self, feeds: Sequence[Tensors]) -> _Result:
        worst = self._compare_outputs(feeds)
        if self._tensors.outputs_only:
            self._result.outputs_only = True
            return self._result
        if self._tensors.bisect:
            self._bisect(worst)
            return self._result
        reasons = [why_not_tapped(side) for side in (self._golden, self._actual)]
        self._result.left_out = next(filter(None, reasons), "")
        if self._result.left_out:
            self._require_something()
            return self._result
        self._result.diagnosis = diagnose_sides(
            self._golden,
            self._actual,
            worst,
            self._tensors,
            self._flags.options(),
            precision=self._precision,
            progress=self._progress,
        )
        return self._result

    def _compare_outputs(self, feeds: Sequence[Tensors]) -> Tensors | None:
        """Compare outputs where both sides have them; return the inputs with the largest error."""
        if self._golden.trace is not None or self._actual.trace is not None:
            return feeds[0] if feeds else None
        outputs = [_outputs(side, feeds, self._progress) for side in (self._golden, self._actual)]
        golden, actual = _pair_single(outputs)
        if len(golden) != len(actual):
            raise TensorError(
                f"{self._golden.label} has {len(golden)} input sets and {self._actual.label} has "
                f"{len(actual)}.",
                hint="Give the inputs the saved side was made from: --input name=file.",
            )
        self._result.sets = len(golden)
        self._result.outputs = compare_sets(
            golden,
            actual,
            precision=self._precision,
            golden_name=self._golden.label,
            actual_name=self._actual.label,
        )
        return feeds[worst_set(golden, actual)] if feeds else None

    def _bisect(self, feeds: Tensors | None) -> None:
        if feeds is None:
            raise UsageError("--bisect runs models; give two models, not a trace or saved tensors.")
        self._result.bisection = bisect_sides(
            self._golden,
            self._actual,
            feeds,
            self._flags.options(),
            max_bytes=read_bytes(self._tensors.max_memory, "--max-memory"),
            progress=self._progress,
        )

    def _require_something(self) -> None:
        if self._result.outputs is None:
            raise UsageError(
                f"{self._golden.label} and {self._actual.label} cannot be compared: "
                f"{self._result.left_out}.",
                hint="Compare a trace with a model or with a trace.",
            )


def _write(result: _Result, output: Path, sides: Sequence[Side]) -> list[Path]:
    if output.suffix == ".json":
        write_json(output, result.to_json())
        return [output]
    written = [output / "comparison.json"]
    write_json(written[0], result.to_json())
    if result.diagnosis is not None:
        nodes: dict[str, str] = {}
        for side in sides:
            if side.request is not None and side.request.reference.endswith(".onnx"):
                nodes |= name_nodes(Path(side.request.reference))
        written += write_diagnosis(result.diagnosis, output, nodes=nodes)
    return written


def _feeds(
    sides: Sequence[Side], data: DataFlags, inputs: InputFlags, counts: tuple[int, int]
) -> list[Tensors]:
    opened = next((side.opened for side in sides if side.opened is not None), None)
    if opened is None:
        return []
    specs = opened.session.inputs
    if inputs.input:
        return [one.feeds for one in read_inputs(inputs, specs, data.preprocess)]
    if any(side.trace is not None for side in sides):
        return []  # the inputs of the trace are taken
    sizes = read_sizes(inputs.dim, specs)
    feeds: list[Tensors] = [
        random_feeds(specs, seed=inputs.seed + index, sizes=sizes) for index in range(counts[0])
    ]
    dataset = data.load()
    return feeds if dataset is None else [*feeds, *sample_feeds(specs, dataset, counts[1])]


def _outputs(side: Side, feeds: Sequence[Tensors], progress: Progress) -> list[Tensors]:
    if side.opened is None:
        return [] if side.saved is None else [side.saved]
    progress.start(f"run {side.label}", len(feeds))
    outputs: list[Tensors] = []
    for one in feeds:
        outputs.append(side.opened.session.run(one))
        progress.advance()
    return outputs


def _pair_single(outputs: list[list[Tensors]]) -> list[list[Tensors]]:
    """Where each side is one tensor, the two belong together whatever they are called."""
    golden, actual = outputs
    if all(len(one) == 1 for one in (*golden, *actual)) and golden:
        (name,) = golden[0]
        return [golden, [{name: next(iter(one.values()))} for one in actual]]
    return outputs
