"""The `shipway evaluate` command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from shipway.cli.flags import DataFlags, EngineFlags, Flag, model_request
from shipway.cli.terminal import (
    make_table,
    percent,
    print_json,
    print_result,
    show_progress,
    start_log,
)
from shipway.deploy.project import Limits
from shipway.engines.opening import open_model
from shipway.engines.target import parse_target
from shipway.errors import UsageError
from shipway.evaluate.accuracy import load_predictions
from shipway.evaluate.results import Evaluation
from shipway.evaluate.run import EvaluateOptions, evaluate_session
from shipway.files import make_folder, write_json

__all__ = ["evaluate"]


def evaluate(
    model: str,
    *,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    data: DataFlags = DataFlags(),  # noqa: B008 -- the same
    engine: str = "",
    batch: int = 1,
    output_name: str = "",
    max_bad: int = 0,
    limit: int = 0,
    golden: Path | None = None,
    min_top1: float | None = None,
    max_flips: int | None = None,
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Measure Top-1 to Top-5 accuracy on a data set.

    Counts are integers and intervals are 95 % Wilson. With --golden, samples whose class changed
    are listed, with McNemar's exact p.

    ```
    shipway evaluate model.onnx --data photos --preprocess imagenet-bicubic
    shipway evaluate model.onnx --data test.npz --output eval
    shipway evaluate other.onnx --data test.npz --golden eval/predictions.npz
    ```

    Args:
        model: A compiled artifact, or an .onnx or .pt2 file (compiled for this run only).
        flags: What is asked of the engine.
        data: The data set.
        engine: Engine, or engine:precision, for a model that is not compiled.
        batch: Samples a call.
        output_name: Output that holds the scores, if there are several.
        max_bad: Samples that may be unreadable; more fail the run.
        limit: Evaluate so many samples, spread evenly over the data set; 0 takes all.
        golden: predictions.npz of an earlier evaluation, to compare with.
        min_top1: Lowest Top-1 rate that passes, in [0, 1].
        max_flips: Largest number of changed classes that passes; needs --golden.
        output: Folder for evaluation.json and predictions.npz.
        json: Print JSON.
    """
    start_log(quiet=json)
    Limits(min_top1=min_top1)
    if max_flips is not None and golden is None:
        raise UsageError("--max-flips needs --golden.", hint="Give golden's predictions.npz.")
    dataset = data.load()
    if dataset is None:
        raise UsageError("No data set.", hint="Give one with --data FOLDER or --data FILE.npz.")
    reference = None if golden is None else load_predictions(golden)
    options = EvaluateOptions(batch=batch, output=output_name, max_bad=max_bad, limit=limit)
    target = parse_target(engine) if engine else None
    request = model_request(model)
    with (
        show_progress() as progress,
        open_model(request, target, flags.options(), progress=progress) as opened,
    ):
        evaluation, predictions = evaluate_session(
            opened.session,
            dataset,
            options,
            engine=str(opened.target),
            golden=reference,
            progress=progress,
        )
    if output is not None:
        make_folder(output)
        write_json(output / "evaluation.json", evaluation.to_json())
        predictions.save(output / "predictions.npz")
    if json:
        print_json(evaluation.to_json())
    else:
        _show(evaluation)
    missed = list(_missed(evaluation, min_top1, max_flips))
    for line in missed:
        logging.getLogger("shipway").error("missed: %s", line)
    return int(bool(missed))


def _missed(evaluation: Evaluation, min_top1: float | None, max_flips: int | None) -> Iterator[str]:
    top1 = evaluation.top[0].rate
    if min_top1 is not None and top1 < min_top1:
        yield f"Top-1 is {percent(top1)}, at least {percent(min_top1)} asked for"
    flips = evaluation.flips
    if max_flips is not None and flips is not None and len(flips.flips) > max_flips:
        yield f"{len(flips.flips)} samples changed their class, at most {max_flips} allowed"


def _show(evaluation: Evaluation) -> None:
    table = make_table("", "correct", "of", "rate", "95 % interval")
    for top in evaluation.top:
        interval = f"{percent(top.low)} to {percent(top.high)}"
        table.add_row(f"Top-{top.n}", str(top.correct), str(top.total), percent(top.rate), interval)
    print_result(f"{evaluation.engine} on {evaluation.dataset}", table)
    flips = evaluation.flips
    if flips is not None:
        print_result(
            f"flips {len(flips.flips)} of {flips.compared}; right only in golden "
            f"{flips.golden_only}, only here {flips.actual_only}; McNemar p {flips.mcnemar_p:.3g}"
        )
        for flip in flips.flips[:10]:
            print_result(
                f"  {flip.sample}: label {flip.label}, golden {flip.golden}, here {flip.actual}"
            )
    for note in evaluation.notes:
        print_result(f"note: {note}")
    for bad in evaluation.bad:
        print_result(f"unreadable: {bad.sample}: {bad.reason}")
