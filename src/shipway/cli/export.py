"""The `shipway export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shipway.cli.findings import finding_lines
from shipway.cli.flags import Flag, Many, SourceFlags, read_bounds
from shipway.cli.terminal import print_json, print_result, show_progress, start_log
from shipway.deploy.project import load_project
from shipway.errors import UsageError
from shipway.export.model import export_model
from shipway.export.options import ExportOptions
from shipway.export.portable import PortableModel
from shipway.files import write_json
from shipway.proof.export import prove_export
from shipway.proof.results import Proof
from shipway.source.loading import SourceRequest, load_source

__all__ = ["export"]

CustomOpsForm = Literal["auto", "node", "function", "inline"]


def export(
    source: str,
    *,
    flags: SourceFlags = SourceFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    output: Path = Path("export"),
    name: str = "model",
    opset: int = ExportOptions().opset,
    legacy: Flag = False,
    fold: bool = True,
    output_name: Many = (),
    bound: Many = (),
    custom_ops: CustomOpsForm = "auto",
    custom_ops_domain: str | None = None,
    proof: bool = True,
    sets: int = 3,
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Export a PyTorch model to ONNX, with a name map and a proof.

    Writes NAME.onnx, NAME.pt2 (the program it came from), NAME.map.json (which leads from every
    ONNX value to its source line) and NAME.proof.json. The proof runs PyTorch and ONNX Runtime
    side by side on random inputs, at several sizes of each dynamic dimension.

    ```
    shipway export model.py:Net --input "x:float32[batch,3,224,224]"
    shipway export ship.toml --output build
    ```

    Args:
        source: file.py:name, package.module:name, .pt2, .onnx or ship.toml.
        flags: What belongs to the source.
        output: Folder to write to.
        name: File name without its ending.
        opset: ONNX opset to deliver; checked in the file that came out.
        legacy: Use the old tracer: the only route to opsets 9 to 17, and for `symbolic` functions.
        fold: Fold Conv+BN and constants.
        output_name: Name of an output, in order. Again for each output.
        bound: Limits of a dynamic dimension, e.g. batch=1..64. Again for each.
        custom_ops: Custom operators as bare node, node with a body (function), standard operators
            (inline); auto inlines those that no engine can have a kernel for.
        custom_ops_domain: Domain whose names the custom operators get, e.g. npu, or ai.onnx.
        proof: Prove the export.
        sets: Random input sets of the proof.
        seed: Seed of the proof's inputs.
        json: Print JSON.
    """
    start_log(quiet=json)
    request = flags.request(source)
    options = ExportOptions(
        opset=opset,
        legacy=legacy,
        fold=fold,
        outputs=output_name,
        bounds=read_bounds(bound),
        custom_ops=custom_ops,
        custom_ops_domain="" if custom_ops_domain == "ai.onnx" else custom_ops_domain,
    )
    if source.endswith(".toml"):
        if (flags, options) != (SourceFlags(), ExportOptions()):
            raise UsageError(
                f"{source} says what to export; flags cannot change it.",
                hint=f"Edit {source}, or leave it out and give everything by flags.",
            )
        project = load_project(Path(source))
        request, options = project.source, project.export
        name = project.name if name == "model" else name
    return _export(request, options, output, name, (sets, seed) if proof else None, as_json=json)


def _export(
    request: SourceRequest,
    options: ExportOptions,
    output: Path,
    name: str,
    trials: tuple[int, int] | None,
    *,
    as_json: bool,
) -> int:
    proof = None
    with show_progress() as progress:
        loaded = load_source(request)
        model = export_model(loaded, output, name=name, options=options, progress=progress)
        if trials is not None and loaded.kind != "onnx":
            # Where torch.export refused the model, the module itself is the only PyTorch there is.
            module = loaded.module if model.program is None else None
            proof = prove_export(
                model,
                module=module,
                original=lambda: loaded.module,
                input_sets=trials[0],
                seed=trials[1],
                progress=progress,
            )
            write_json(output / f"{name}.proof.json", proof.to_json())
    if as_json:
        print_json(_describe(model, proof))
    else:
        _show(model, proof)
    return 0 if proof is None or proof.passed else 1


def _describe(model: PortableModel, proof: Proof | None) -> dict[str, object]:
    return {
        "onnx": str(model.onnx),
        "program": None if model.program is None else str(model.program),
        "name_map": None if model.name_map is None else str(model.name_map),
        "inputs": [spec.to_json() for spec in model.inputs],
        "outputs": [spec.to_json() for spec in model.outputs],
        "proof": None if proof is None else proof.to_json(),
    }


def _show(model: PortableModel, proof: Proof | None) -> None:
    print_result(f"wrote {model.onnx}")
    for label, specs in (("input", model.inputs), ("output", model.outputs)):
        for spec in specs:
            print_result(f"  {label:7}{spec}")
    if proof is None:
        print_result("  not proved: the source is an ONNX file, or --no-proof was given")
    else:
        worst = proof.worst_relative_l2
        error = "" if worst is None else f", worst relative L2 {worst:.2e}"
        verdict = "PASS" if proof.passed else "FAIL"
        print_result(f"  proof  {verdict}: {len(proof.trials)} trials{error}")
        for reason in proof.reasons:
            print_result(f"         {reason}")
        for line in finding_lines(proof.findings):
            print_result(line)
        for note in proof.notes:
            print_result(f"  note   {note}")
