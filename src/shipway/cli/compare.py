"""The `shipway compare` command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.cli.flags import (
    DataFlags,
    EngineFlags,
    Flag,
    Many,
    model_request,
    read_sizes,
    split_target,
)
from shipway.cli.inputs import InputFlags, read_inputs
from shipway.cli.terminal import (
    make_table,
    print_json,
    print_result,
    scientific,
    show_progress,
    start_log,
)
from shipway.compare.outputs import compare_sets
from shipway.compare.results import Comparison
from shipway.engines.base import PRECISIONS
from shipway.engines.opening import OpenedModel, open_model
from shipway.errors import TensorError, UsageError
from shipway.evaluate.feeds import sample_feeds
from shipway.files import write_json
from shipway.progress import Progress
from shipway.tensorfiles import file_name, read_bin, read_tensors
from shipway.tensors import Tensors, TensorSpec, parse_spec, random_feeds

__all__ = ["compare"]

_SAVED = frozenset({".npy", ".npz", ".json", ".bin"})


def compare(
    golden: str,
    actual: str,
    *,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    data: DataFlags = DataFlags(),  # noqa: B008 -- the same
    inputs: InputFlags = InputFlags(),  # noqa: B008 -- the same
    sets: int = 3,
    samples: int = 16,
    spec: Many = (),
    precision: str = "",
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Compare the outputs of two engines, or two sets of saved tensors.

    Each side is a compiled artifact, a model file with an engine behind it (model.onnx@openvino:bf16),
    a tensor file, or a folder of tensor files. Models run on the files of --input, or on random
    inputs and, with --data, on samples of a data set. The limits are those of the precision. The
    exit code is 0 when every output is within them, else 1.

    ```
    shipway compare export/model.pt2 export/model.onnx@openvino:bf16
    shipway compare model.pt2 model.openvino.xml --dim batch=8
    shipway compare golden.npz actual.npz --precision f16
    ```

    Args:
        golden: What is taken as right.
        actual: What is under test.
        flags: What is asked of the engines.
        data: A data set to take real inputs from.
        inputs: What the models run on.
        sets: Random input sets.
        samples: Samples of the data set.
        spec: Name, dtype and shape of a .bin file, e.g. "logits:float32[1,1000]". Again for each.
        precision: f32, bf16 or f16: whose limits to use. That of the engine under test if not given.
        output: Write comparison.json here.
        json: Print JSON.
    """
    start_log(quiet=json)
    if precision and precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"Unknown precision '{precision}'.", hint=f"One of: {known}.")
    specs = [parse_spec(text) for text in spec]
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress())
        sides = [_open(text, specs, flags, progress, stack) for text in (golden, actual)]
        feeds = _feeds(sides, data, inputs, (sets, samples))
        outputs = [_outputs(side, feeds, progress) for side in sides]
    outputs = _pair_single(outputs)
    if len(outputs[0]) != len(outputs[1]):
        raise TensorError(
            f"{golden} has {len(outputs[0])} input sets and {actual} has {len(outputs[1])}.",
            hint="Give the inputs the saved side was made from: --input name=file.",
        )
    comparison = compare_sets(
        outputs[0],
        outputs[1],
        precision=precision or sides[1].precision,
        golden_name=sides[0].label,
        actual_name=sides[1].label,
    )
    if output is not None:
        write_json(output, comparison.to_json())
    if json:
        print_json(comparison.to_json())
    else:
        _show(comparison, len(outputs[0]))
    return 0 if comparison.passed else 1


@dataclass(frozen=True, slots=True)
class _Side:
    """One side: an open model, or tensors that were saved."""

    label: str
    precision: str
    opened: OpenedModel | None = None
    saved: Tensors | None = None


def _open(
    text: str,
    specs: Sequence[TensorSpec],
    flags: EngineFlags,
    progress: Progress,
    stack: ExitStack,
) -> _Side:
    path = Path(text)
    if path.is_dir() or path.suffix.lower() in _SAVED:
        return _Side(text, "f32", saved=_read_saved(path, specs))
    reference, target = split_target(text)
    request = model_request(reference)
    opened = stack.enter_context(open_model(request, target, flags.options(), progress=progress))
    return _Side(str(opened.target), opened.target.precision, opened=opened)


def _read_saved(path: Path, specs: Sequence[TensorSpec]) -> Tensors:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() in _SAVED]
    if not files:
        raise TensorError(f"There is no tensor file in {path}.")
    tensors: dict[str, NDArray[Any]] = {}
    for file in files:
        wanted = [one for one in specs if file_name(one.name) == file.stem] or list(specs)
        if file.suffix.lower() == ".bin" and len(wanted) == 1:
            found: Tensors = {wanted[0].name: read_bin(file, wanted[0])}
        else:
            found = read_tensors(file, wanted if file.suffix.lower() == ".bin" else ())
        tensors |= found
    return tensors


def _feeds(
    sides: Sequence[_Side], data: DataFlags, inputs: InputFlags, counts: tuple[int, int]
) -> list[Tensors]:
    opened = next((side.opened for side in sides if side.opened is not None), None)
    if opened is None:
        return []
    specs = opened.session.inputs
    if inputs.input:
        return [one.feeds for one in read_inputs(inputs, specs, data.preprocess)]
    sizes = read_sizes(inputs.dim, specs)
    feeds: list[Tensors] = [
        random_feeds(specs, seed=inputs.seed + index, sizes=sizes) for index in range(counts[0])
    ]
    dataset = data.load()
    return feeds if dataset is None else [*feeds, *sample_feeds(specs, dataset, counts[1])]


def _outputs(side: _Side, feeds: Sequence[Tensors], progress: Progress) -> list[Tensors]:
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


def _show(comparison: Comparison, sets: int) -> None:
    verdict = "PASS" if comparison.passed else "FAIL"
    limits = f"limits of {comparison.precision}, {sets} input sets"
    print_result(f"{verdict}: {comparison.actual} against {comparison.golden}, {limits}")
    columns = ("relative L2", "worst channel", "gain", "cosine", "max abs", "SNR dB", "ULP")
    table = make_table("output", "verdict", *columns)
    for item in comparison.outputs:
        found = item.metrics
        numbers = (found.relative_l2, found.worst_channel, found.gain, found.cosine, found.max_abs)
        table.add_row(
            f"{item.name} {item.dtype}{list(item.shape)}",
            "pass" if item.verdict.passed else "FAIL",
            scientific(numbers[0]),
            scientific(numbers[1]),
            "" if numbers[2] is None else f"{numbers[2]:.7f}",
            "" if numbers[3] is None else f"{numbers[3]:.7f}",
            scientific(numbers[4]),
            "" if found.snr_db is None else f"{found.snr_db:.1f}",
            "" if found.max_ulp is None else str(found.max_ulp),
        )
    print_result(table)
    for item in comparison.outputs:
        for reason in item.verdict.reasons:
            print_result(f"{item.name}: {reason}")
    for name, why in comparison.coverage.skipped.items():
        print_result(f"skipped {name}: {why}")
    compared, skipped = comparison.coverage.compared, len(comparison.coverage.skipped)
    print_result(f"{compared} outputs compared, {skipped} skipped")
