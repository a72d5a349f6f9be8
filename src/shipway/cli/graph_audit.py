"""The `shipway graph audit` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.findings import finding_lines
from shipway.cli.flags import Flag, Many, read_numbers
from shipway.cli.terminal import print_json, print_result, show_progress, start_log

if TYPE_CHECKING:
    from shipway.proof.audit_fix import Mended
    from shipway.proof.audit_results import Audit

__all__ = ["audit"]


def audit(
    model: Path,
    *,
    size: Many = (),
    seed: int = 0,
    nonempty: Flag = False,
    write: Path | None = None,
    json: Flag = False,
) -> int:
    """Check what an ONNX file declares against what it does.

    The model runs in ONNX Runtime without optimisation, at several sizes of each dynamic
    dimension, 0 among them, and the shape and dtype of every value are compared with the file's.
    Exit 1 where something is false or a dimension that is declared dynamic is fixed.

    ```
    shipway graph audit model.onnx
    shipway graph audit model.onnx --size batch=2 --size samples=16000
    shipway graph audit model.onnx --write mended.onnx
    ```

    Args:
        model: The .onnx file; a name map beside it leads to lines of code.
        size: Usual size of a dynamic dimension, e.g. batch=3; smaller and larger ones are tried
            from there. Again for each dimension.
        seed: Seed of the inputs.
        nonempty: Leave out sizes of 0.
        write: Where to write the model with what is inferred in place of what is false.
        json: Print JSON.
    """
    from shipway.proof.audit import audit_graph

    start_log(quiet=json)
    sizes = read_numbers(size, "--size")
    with show_progress() as progress:
        audited = audit_graph(model, sizes=sizes, seed=seed, nonempty=nonempty, progress=progress)
    mended = None
    if write is not None:
        from shipway.proof.audit_fix import mend_declarations

        mended = mend_declarations(model, audited, write)
    if json:
        print_json(_describe(audited.audit, mended))
    else:
        _show(audited.audit, mended)
    return 0 if audited.audit.passed else 1


def _describe(audit: Audit, mended: Mended | None) -> dict[str, Any]:
    return audit.to_json() | {"mended": None if mended is None else mended.to_json()}


def _show(audit: Audit, mended: Mended | None) -> None:
    counts = ", ".join(
        f"{count} {severity}{'s' if count > 1 and severity != 'info' else ''}"
        for severity, count in audit.counts.items()
        if count
    )
    verdict = "PASS" if audit.passed else "FAIL"
    print_result(f"  audit   {verdict}: {counts or 'nothing false'}, at {len(audit.sizes)} sizes")
    for line in finding_lines(audit.findings):
        print_result(line)
    coverage = audit.coverage
    print_result(f"  values  {coverage.checked} of {coverage.total} checked")
    for reason, names in coverage.unchecked.items():
        print_result(f"          {len(names)} not: each {reason}")
    for note in audit.notes:
        print_result(f"  note    {note}")
    if mended is not None:
        print_result(f"wrote {mended.path}: {mended.words}")
