"""The `shipway compile` command."""

from __future__ import annotations

from pathlib import Path

from shipway.cli.flags import EngineFlags, Flag, SourceFlags
from shipway.cli.terminal import print_json, print_result, show_progress, start_log
from shipway.engines.opening import compile_target, portable_model
from shipway.engines.target import parse_target

__all__ = ["compile"]


def compile(  # noqa: A001 -- the function is the command, and the command is called compile
    model: str,
    *,
    source: SourceFlags = SourceFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- the same
    engine: str,
    output: Path | None = None,
    json: Flag = False,
) -> int:
    """Compile a model for an engine.

    The artifact gets a side-car with its hash, its inputs and outputs, and how it was made.

    ```
    shipway compile export/model.onnx --engine openvino:bf16
    shipway compile export/model.pt2 --engine aotinductor --threads 4
    ```

    Args:
        model: A model from `shipway export`, an .onnx file, or any other source.
        source: What belongs to a source that is not exported yet.
        flags: What is asked of the engine.
        engine: Engine, or engine:precision: f32 (the default), bf16, f16; +inline after either writes
            custom operators as standard ones.
        output: Folder to write to; engine-ENGINE-PRECISION if not given.
        json: Print JSON.
    """
    start_log(quiet=json)
    target = parse_target(engine)
    folder = output or Path(f"engine-{target.slug}")
    with show_progress() as progress:
        portable = portable_model(source.request(model), folder / "export", progress=progress)
        progress.start(f"compile for {target}")
        artifact = compile_target(portable, target, flags.options(), folder)
    if json:
        print_json({"path": str(artifact.path), **artifact.to_json()})
    else:
        size_mb = sum(path.stat().st_size for path in artifact.files) / 1e6
        print_result(f"wrote {artifact.path}  ({target}, {size_mb:.1f} MB)")
    return 0
