"""OpenVINO: converts the .onnx file to its own IR and compiles that when it is loaded.

What is pinned, because the defaults depend on the machine: the inference precision (bfloat16 by
default on CPUs that have it), one stream, the thread count, float32 weights in the IR.

What OpenVINO does differently from the others, and no option changes (2026.4, CPU):
its ReLU turns NaN into 0 and its Softmax drops NaN; int64 is computed as int32, so inputs beyond
that are refused; float64 is computed as float32.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.artifact import Artifact
from shipway.engines.base import Availability, Device, EngineOptions, Finding
from shipway.engines.onnxfile import bfloat16_findings, copy_onnx, read_onnx, require_onnx
from shipway.engines.openvino.kernels import extension_of
from shipway.engines.openvino.runtime import INSTALL, NOISE, TITLE, runtime
from shipway.engines.openvino.session import OpenVinoSession
from shipway.engines.openvino.settings import (
    config_of,
    device_of,
    require_granted,
    require_options,
)
from shipway.engines.openvino.taps import OpenVinoTapSession
from shipway.engines.operators import (
    describe_operators,
    drop_bodies,
    lower_operators,
    operators_in,
    require_kernel,
)
from shipway.engines.requests import engine_errors, raise_errors
from shipway.engines.staging import Maker, placed, staged
from shipway.engines.tapping import DEFAULT_TAP_BYTES
from shipway.environment import package_version
from shipway.errors import EngineError, EngineMissing, ShipwayError
from shipway.export.portable import PortableModel
from shipway.ops.kernel_library import library_of
from shipway.ops.registry import find_operator

if TYPE_CHECKING:
    import onnx_ir as ir
    from openvino import Core, Model

__all__ = ["OpenVinoEngine"]

_MAKER = Maker("openvino", "openvino-ir", ".xml")
_UNKNOWN_OPERATORS = re.compile(r"No conversion rule found for operations: (.+)")


class OpenVinoEngine:
    """OpenVINO in this process; the CPU unless another device is named."""

    name = "openvino"

    def probe(self) -> Availability:
        """Say which version and devices there are."""
        try:
            core = runtime().Core()
            devices = tuple(
                Device(name, str(core.get_property(name, "FULL_DEVICE_NAME")))
                for name in core.available_devices
            )
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=INSTALL)
        except RuntimeError as error:
            return Availability(installed=False, why=str(error), install=INSTALL)
        return Availability(installed=True, version=package_version("openvino"), devices=devices)

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find what OpenVINO will not take: operators, dtypes, a broken file, an option."""
        runtime()
        try:
            path = require_onnx(model, TITLE)
            read_onnx(path, model)
            require_options(options)
            findings = _findings(model)
            if not any(finding.severity == "error" for finding in findings):
                with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
                    _convert(
                        require_onnx(self.lower(model, Path(scratch), inline=options.inline), TITLE)
                    )
        except ShipwayError as error:
            return [Finding("error", str(error), where=str(model.onnx or ""), hint=error.hint)]
        return findings

    def lower(self, model: PortableModel, folder: Path, *, inline: bool = False) -> PortableModel:
        """Replace custom operators without a native kernel by their bodies, and inline local functions.

        All of them if `inline`. OpenVINO's ONNX frontend does not expand functions.

        Raises:
            EngineError: A custom operator has neither a kernel nor a body.
            ModelError: The file is absent, truncated or not ONNX.
            OutputError: `folder` cannot be written to.
        """
        path = require_onnx(model, TITLE)
        model = lower_operators(
            model, path, folder, lambda op: not inline and library_of(op) is not None, _has_operator
        )
        path = require_onnx(model, TITLE)
        proto = read_onnx(path, model)
        if not proto.functions:
            return model
        import onnx
        from onnx.inliner import inline_local_functions

        drop_bodies(proto)  # what has a kernel keeps its node
        with engine_errors(f"The local functions of {path} cannot be inlined", NOISE):
            inlined = inline_local_functions(proto, convert_version=True)
        with staged(folder / path.name) as scratch:
            copy_onnx(path, proto, scratch / path.name)
            onnx.save(inlined, scratch / path.name)
        return PortableModel(
            model.inputs, model.outputs, folder / path.name, model.program, model.name_map
        )

    def compile(self, model: PortableModel, options: EngineOptions, folder: Path) -> Artifact:
        """Convert the model to OpenVINO's IR, weights in float32.

        Raises:
            EngineMissing: openvino is not installed.
            EngineError: OpenVINO refuses the model or an option.
            ModelError: The file is absent, truncated or not ONNX.
            OutputError: `folder` cannot be written to.
        """
        ov = runtime()
        path = require_onnx(model, TITLE)
        read_onnx(path, model)
        require_options(options)
        raise_errors(TITLE, _findings(model))
        target = _MAKER.target(path, folder)
        with tempfile.TemporaryDirectory(prefix="shipway-") as lowered, staged(target) as scratch:
            ready = self.lower(model, Path(lowered), inline=options.inline)
            converted, facts = _convert(require_onnx(ready, TITLE))
            xml = scratch / target.name
            with engine_errors(f"{TITLE} cannot write {target}", NOISE):
                ov.save_model(converted, str(xml), compress_to_fp16=False)
            weights = (xml.with_suffix(".bin").name,)
            artifact = _MAKER.save(path, model, options, xml, companions=weights, facts=facts)
        return placed(artifact, target)

    def load(self, artifact: Artifact, options: EngineOptions) -> OpenVinoSession:
        """Compile the IR for the device.

        Raises:
            EngineMissing: openvino is not installed.
            EngineError: The model does not compile, or an option was not granted.
            ModelError: The artifact changed since it was made.
        """
        ov = runtime()
        require_options(options)
        _MAKER.open(artifact)
        core = ov.Core()
        kernels = _add_kernels(core, artifact)
        config = config_of(options)
        with engine_errors(f"{TITLE} cannot load {artifact.path}", NOISE):
            compiled = core.compile_model(str(artifact.path), device_of(core, options), config)
        require_granted(compiled, config)
        return OpenVinoSession(artifact, core, compiled, options, kernels)

    def open_taps(
        self, artifact: Artifact, options: EngineOptions, *, max_bytes: int = DEFAULT_TAP_BYTES
    ) -> OpenVinoTapSession:
        """Load an artifact so that its tensors can be read; see `shipway.engines.openvino.taps`.

        Raises:
            EngineMissing: openvino is not installed.
            EngineError: The model does not compile, or an option was not granted.
            ModelError: The artifact changed since it was made.
        """
        session = self.load(artifact, options)
        device = device_of(session.core, options)
        try:
            return OpenVinoTapSession(session, device, config_of(options), artifact.path, max_bytes)
        except ShipwayError:
            session.close()
            raise


def _has_operator(node: ir.Node) -> bool:
    """Say whether the ONNX frontend takes a standard operator that bodies are made of (2026.4)."""
    planes = node.inputs[0] if node.inputs else None
    flat = planes is None or planes.shape is None or len(planes.shape) == 4
    return node.op_type != "DeformConv" and (node.op_type != "GridSample" or flat)


def _findings(model: PortableModel) -> list[Finding]:
    narrowed = {"int64": "int32", "uint64": "int32", "float64": "float32"}
    warnings = [
        Finding(
            "warning",
            f"{TITLE} computes '{spec.name}' ({spec.dtype}) as {narrowed[spec.dtype]}.",
            where=spec.name,
        )
        for spec in model.inputs
        if spec.dtype in narrowed
    ]
    return [*warnings, *bfloat16_findings(model, TITLE)]


def _convert(path: Path) -> tuple[Model, dict[str, Any]]:
    """Convert a lowered .onnx file; return what there is to know of its custom operators, too.

    With the ONNX frontend alone: asking all of them prints their errors.
    """
    from openvino.frontend import FrontEndManager

    proto = read_onnx(path)
    extension = extension_of(operators_in(proto).values())
    ops = () if extension is None else extension.ops
    kernel = "" if extension is None else extension.kernel
    facts = {
        "custom_ops": describe_operators(proto, ops, kernel),
        "kernels": [op.name for op in ops],
    }
    with engine_errors(f"{TITLE} cannot convert {path}", NOISE):
        frontend = FrontEndManager().load_by_framework("onnx")
        if extension is not None:
            extension.add_to_frontend(frontend)
        try:
            return frontend.convert(frontend.load(str(path))), facts
        except Exception as error:
            _explain_operators(error)
            raise


def _add_kernels(core: Core, artifact: Artifact) -> dict[str, str]:
    """Let a Core run the custom operators of an artifact; return what computes each."""
    ops = [find_operator(name) for name in artifact.made.get("kernels", [])]
    for op in ops:
        require_kernel(artifact, op, "openvino")
    extension = extension_of(ops)
    if extension is None:
        return {}
    extension.add_to_core(core)
    return dict.fromkeys((op.name for op in ops), extension.kernel)


def _explain_operators(error: Exception) -> None:
    match = _UNKNOWN_OPERATORS.search(str(error))
    if match is None:
        return
    # OpenVINO writes custom operators as my.domain.Op and its missing standard ones as Op-17.
    names = [re.sub(r"\.(?=[^.]+$)", "::", name.strip()) for name in match.group(1).split(",")]
    custom = any("::" in name for name in names)
    raise EngineError(
        f"No kernel for {'custom operator' if custom else 'operator'} {', '.join(names)} "
        f"in {TITLE} {package_version('openvino')}.",
        hint="Export the model with this operator written in standard ones.",
    ) from error
