"""OpenVINO: converts the .onnx file to its own IR and compiles that when it is loaded.

What is pinned, because the defaults depend on the machine: the inference precision (bfloat16 by
default on CPUs that have it), one stream, the thread count, float32 weights in the IR.

What OpenVINO does differently from the others, and no option changes (2026.4, CPU):
its ReLU turns NaN into 0 and its Softmax drops NaN; int64 is computed as int32, so inputs beyond
that are refused; float64 is computed as float32.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import (
    PRECISIONS,
    Availability,
    BaseSession,
    Device,
    EngineOptions,
    Finding,
)
from shipway.engines.onnxfile import bfloat16_findings, copy_onnx, read_onnx, require_onnx
from shipway.engines.operators import (
    describe_operators,
    effective_operators,
    lower_operators,
)
from shipway.engines.requests import (
    engine_errors,
    raise_errors,
    require_precision,
    thread_count,
)
from shipway.engines.staging import Maker, placed, staged
from shipway.environment import package_version
from shipway.errors import EngineError, EngineMissing, ShipwayError
from shipway.export.portable import PortableModel
from shipway.tensors import Tensors, TensorSpec

if TYPE_CHECKING:
    from types import ModuleType

    import onnx_ir as ir
    from openvino import CompiledModel, Core, InferRequest, Model

__all__ = ["OpenVinoEngine"]

_TITLE = "OpenVINO"
_INSTALL = "pip install 'shipway[openvino]'"
_MAKER = Maker("openvino", "openvino-ir", ".xml")
_NOISE = re.compile(
    r"^\s*(?:Exception from \S+|Check '.*' failed at \S+|FrontEnd API failed with \w+:"
    r"|Model wasn't fully converted\..*|Summary:|Loading input model|While validating .*"
    r"|-- \S+ with a message:)\s*$"
    r"|^-- (?=No conversion)",
    re.MULTILINE,
)
_UNKNOWN_OPERATORS = re.compile(r"No conversion rule found for operations: (.+)")


class OpenVinoEngine:
    """OpenVINO in this process; the CPU unless another device is named."""

    name = "openvino"

    def probe(self) -> Availability:
        """Say which version and devices there are."""
        try:
            core = _runtime().Core()
            devices = tuple(
                Device(name, str(core.get_property(name, "FULL_DEVICE_NAME")))
                for name in core.available_devices
            )
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=_INSTALL)
        except RuntimeError as error:
            return Availability(installed=False, why=str(error), install=_INSTALL)
        return Availability(installed=True, version=package_version("openvino"), devices=devices)

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find what OpenVINO will not take: operators, dtypes, a broken file, an option."""
        _runtime()
        try:
            path = require_onnx(model, _TITLE)
            read_onnx(path, model)
            _require_options(options)
            findings = _findings(model)
            if not any(finding.severity == "error" for finding in findings):
                with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
                    _convert(require_onnx(self.lower(model, Path(scratch)), _TITLE))
        except ShipwayError as error:
            return [Finding("error", str(error), where=str(model.onnx or ""), hint=error.hint)]
        return findings

    def lower(self, model: PortableModel, folder: Path) -> PortableModel:
        """Replace custom operators by their portable bodies, and inline local functions.

        OpenVINO's ONNX frontend does not expand functions.

        Raises:
            EngineError: A custom operator has no body.
            ModelError: The file is absent, truncated or not ONNX.
            OutputError: `folder` cannot be written to.
        """
        path = require_onnx(model, _TITLE)
        model = lower_operators(model, path, folder, has_kernel=lambda _: False, runs=_runs)
        path = require_onnx(model, _TITLE)
        proto = read_onnx(path, model)
        if not proto.functions:
            return model
        import onnx
        from onnx.inliner import inline_local_functions

        with engine_errors(f"The local functions of {path} cannot be inlined", _NOISE):
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
        ov = _runtime()
        path = require_onnx(model, _TITLE)
        read_onnx(path, model)
        _require_options(options)
        raise_errors(_TITLE, _findings(model))
        target = _MAKER.target(path, folder)
        with tempfile.TemporaryDirectory(prefix="shipway-") as lowered, staged(target) as scratch:
            inlined = require_onnx(self.lower(model, Path(lowered)), _TITLE)
            converted = _convert(inlined)
            xml = scratch / target.name
            with engine_errors(f"{_TITLE} cannot write {target}", _NOISE):
                ov.save_model(converted, str(xml), compress_to_fp16=False)
            weights = (xml.with_suffix(".bin").name,)
            facts = {"custom_ops": describe_operators(read_onnx(inlined), (), "")}
            artifact = _MAKER.save(path, model, options, xml, companions=weights, facts=facts)
        return placed(artifact, target)

    def load(self, artifact: Artifact, options: EngineOptions) -> OpenVinoSession:
        """Compile the IR for the device.

        Raises:
            EngineMissing: openvino is not installed.
            EngineError: The model does not compile, or an option was not granted.
            ModelError: The artifact changed since it was made.
        """
        ov = _runtime()
        _require_options(options)
        _MAKER.open(artifact)
        core = ov.Core()
        config = _config(options)
        with engine_errors(f"{_TITLE} cannot load {artifact.path}", _NOISE):
            compiled = core.compile_model(str(artifact.path), _device(core, options), config)
        _require_granted(compiled, config)
        return OpenVinoSession(artifact, core, compiled, options)


class OpenVinoSession(BaseSession):
    """A compiled model with one infer request for each thread that runs it at the same time."""

    def __init__(
        self, artifact: Artifact, core: Core, compiled: CompiledModel, options: EngineOptions
    ) -> None:
        """Find the ports of the inputs and outputs, and read back what OpenVINO has granted."""
        effective = {**_effective(compiled, options), **effective_operators(artifact)}
        super().__init__(artifact.inputs, artifact.outputs, effective)
        # Core and model stay together: dropping a Core that loaded an extension crashes its models.
        self._core: Any = core
        self._compiled: Any = compiled
        self._in = {spec.name: _port(compiled.inputs, spec) for spec in self.inputs}
        self._out = {spec.name: _port(compiled.outputs, spec) for spec in self.outputs}
        self._idle: list[InferRequest] = []

    def _check(self, feeds: Tensors) -> dict[str, int]:
        sizes = super()._check(feeds)
        for name, value in feeds.items():
            _refuse_wide(name, value)
        return sizes

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        arrays = {self._in[name]: _shareable(value) for name, value in feeds.items()}
        with engine_errors(f"{_TITLE} failed while running", _NOISE):
            request = self._take_request()
            # Sharing the inputs saves a copy; outputs are copied, the next run overwrites them.
            results = request.infer(arrays, share_inputs=True, share_outputs=False)
            outputs = {name: results[index] for name, index in self._out.items()}
            self._idle.append(request)
        return outputs

    def _take_request(self) -> InferRequest:
        with self._lock:
            return self._idle.pop() if self._idle else self._compiled.create_infer_request()

    def _release(self) -> None:
        self._idle.clear()
        self._compiled = None
        self._core = None


def _runtime() -> ModuleType:
    """Import openvino without its telemetry, which would call home from a forked process.

    Source: openvino/tools/ovc/telemetry_utils.py, which takes a stub where the package is absent.
    """
    silenced = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if silenced:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # Python's own mark for "absent"
    try:
        import openvino
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        why = "" if package_version("openvino") == "" else str(error)
        raise EngineMissing("openvino", install=_INSTALL, why=why) from error
    finally:
        if silenced:
            del sys.modules["openvino_telemetry"]
    module: ModuleType = openvino
    return module


def _findings(model: PortableModel) -> list[Finding]:
    narrowed = {"int64": "int32", "uint64": "int32", "float64": "float32"}
    warnings = [
        Finding(
            "warning",
            f"{_TITLE} computes '{spec.name}' ({spec.dtype}) as {narrowed[spec.dtype]}.",
            where=spec.name,
        )
        for spec in model.inputs
        if spec.dtype in narrowed
    ]
    return [*warnings, *bfloat16_findings(model, _TITLE)]


def _convert(path: Path) -> Model:
    """Convert an .onnx file with the ONNX frontend alone: asking all of them prints their errors."""
    from openvino.frontend import FrontEndManager

    with engine_errors(f"{_TITLE} cannot convert {path}", _NOISE):
        frontend = FrontEndManager().load_by_framework("onnx")
        try:
            return frontend.convert(frontend.load(str(path)))
        except Exception as error:
            _explain_operators(error)
            raise


def _runs(node: ir.Node) -> bool:
    """Whether the ONNX frontend has a rule for a standard node of a portable body.

    Source: No rule for DeformConv, nor for GridSample of planes with depth, in OpenVINO 2026.4.
    """
    if node.op_type != "GridSample":
        return node.op_type != "DeformConv"
    data = node.inputs[0]
    return data is not None and data.shape is not None and data.shape.rank() == 4


def _explain_operators(error: Exception) -> None:
    match = _UNKNOWN_OPERATORS.search(str(error))
    if match is None:
        return
    # OpenVINO writes custom operators as my.domain.Op and its missing standard ones as Op-17.
    names = [re.sub(r"\.(?=[^.]+$)", "::", name.strip()) for name in match.group(1).split(",")]
    custom = any("::" in name for name in names)
    raise EngineError(
        f"No kernel for {'custom operator' if custom else 'operator'} {', '.join(names)} "
        f"in {_TITLE} {package_version('openvino')}.",
        hint="Export the model with this operator written in standard ones.",
    ) from error


def _require_options(options: EngineOptions) -> None:
    require_precision(_TITLE, options, PRECISIONS, "")
    if not options.optimize:
        raise EngineError(
            f"{_TITLE} has no switch that turns its graph optimisation off.",
            hint="Take --engine onnxruntime for a run without optimisation.",
        )


def _device(core: Core, options: EngineOptions) -> str:
    devices: list[str] = core.available_devices
    wanted = options.device or "CPU"
    for name in devices:
        if name.lower() == wanted.lower():
            return name
    raise EngineError(
        f"{_TITLE} has no device '{options.device}' here.", hint=f"Devices: {', '.join(devices)}."
    )


def _config(options: EngineOptions) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": options.precision,
        "INFERENCE_NUM_THREADS": str(thread_count(options)),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        **options.extra,
    }


def _require_granted(compiled: CompiledModel, config: Mapping[str, str]) -> None:
    for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        granted = _property(compiled, name)
        if granted != config[name]:
            raise EngineError(
                f"Asked {_TITLE} for {name}={config[name]}; it granted {granted} on this machine.",
                hint=f"Ask for {granted}, or for another engine.",
            )


def _property(compiled: CompiledModel, name: str) -> str:
    value = compiled.get_property(name)
    return value.to_string() if hasattr(value, "to_string") else str(value)


def _effective(compiled: CompiledModel, options: EngineOptions) -> Mapping[str, str]:
    devices = compiled.get_property("EXECUTION_DEVICES")
    return {
        "runtime": _TITLE,
        "version": package_version("openvino"),
        "provider": ",".join(devices),
        "device": ",".join(devices),
        "precision": _property(compiled, "INFERENCE_PRECISION_HINT"),
        "threads": _property(compiled, "INFERENCE_NUM_THREADS"),
        "streams": _property(compiled, "NUM_STREAMS"),
        "hint": _property(compiled, "PERFORMANCE_HINT"),
        "pinning": _property(compiled, "ENABLE_CPU_PINNING"),
        "optimization": "all",
        **{name: _property(compiled, name) for name in options.extra},
    }


def _port(ports: list[Any], spec: TensorSpec) -> int:
    for index, port in enumerate(ports):
        if spec.name in port.get_names():
            return index
    names = ", ".join(port.get_any_name() for port in ports)
    raise EngineError(
        f"{_TITLE} lost the tensor '{spec.name}' in its conversion; it has {names}.",
        hint="Give the tensor another name when exporting.",
    )


def _shareable(value: NDArray[Any]) -> NDArray[Any]:
    """Return a C-ordered array; OpenVINO refuses to share a scalar it may not write to."""
    array = np.asarray(value, order="C")
    return array if array.ndim or array.flags.writeable else array.copy()


def _refuse_wide(name: str, value: NDArray[Any]) -> None:
    """Refuse integers that OpenVINO would wrap around without a word."""
    if value.dtype.kind not in "iu" or value.dtype.itemsize < 4 or value.size == 0:
        return
    limits = np.iinfo(np.int32)
    if value.max() > limits.max or value.min() < limits.min:
        raise EngineError(
            f"{_TITLE} computes {value.dtype} as int32, and '{name}' has values beyond that.",
            hint="Take another engine, or smaller values.",
        )
