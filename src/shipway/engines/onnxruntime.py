"""ONNX Runtime: runs the .onnx file as it is, optimised when the session starts.

The artifact is a copy of the model. Everything is computed in the dtypes the model has, so a lower
precision needs another model, not another option.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import (
    Availability,
    BaseSession,
    Device,
    EngineOptions,
    Finding,
)
from shipway.engines.onnxfile import (
    Operator,
    bfloat16_findings,
    copy_onnx,
    read_onnx,
    require_onnx,
)
from shipway.engines.operators import (
    describe_operators,
    effective_operators,
    lower_operators,
    operators_in,
    require_kernel,
    unknown_findings,
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
from shipway.ops.kernel_library import KernelLibrary, libraries_of, library_of
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import ModelProto
    from onnxruntime import InferenceSession

__all__ = ["OnnxRuntimeEngine", "resolve_types"]

_TITLE = "ONNX Runtime"
_INSTALL = "pip install onnxruntime"
_CPU = "CPUExecutionProvider"
_PROVIDER_SUFFIX = "ExecutionProvider"
_SILENT_LOG = 4  # ORT_LOGGING_LEVEL_FATAL: what matters is raised as well
_CONFIG_WORDS = frozenset({"ep", "memory", "mlas", "optimization", "session"})
_MAKER = Maker("onnxruntime", "onnx", ".onnx")
_KERNEL = "native kernel"
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|Fatal error: "
    r"|Non-zero status code returned while running |Status Message: |/\S+?\.(?:h|cc):\d+ .*?\) "
)
_OPSET = re.compile(
    r"Opset (\d+) is under development.*?domain (\S+) is till opset (\d+)", re.DOTALL
)


class OnnxRuntimeEngine:
    """ONNX Runtime in this process; the CPU unless another device is named."""

    name = "onnxruntime"

    def probe(self) -> Availability:
        """Say which version and execution providers there are."""
        try:
            ort = _runtime()
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=_INSTALL)
        devices = tuple(
            Device(provider.removesuffix(_PROVIDER_SUFFIX), provider)
            for provider in ort.get_available_providers()
        )
        return Availability(installed=True, version=ort.__version__, devices=devices)

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find what ONNX Runtime will not take: operators, opset, dtypes, a broken file."""
        try:
            path = require_onnx(model, _TITLE)
            findings = _findings(model, read_onnx(path, model))
            if not any(finding.severity == "error" for finding in findings):
                with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
                    lowered = require_onnx(
                        self.lower(model, Path(scratch), inline=options.inline), _TITLE
                    )
                    _open(lowered, options, _libraries(read_onnx(lowered)))
        except EngineMissing:
            raise
        except ShipwayError as error:
            return [Finding("error", str(error), where=str(model.onnx or ""), hint=error.hint)]
        return findings

    def lower(self, model: PortableModel, folder: Path, *, inline: bool = False) -> PortableModel:
        """Replace custom operators without a native kernel by their portable bodies; all if `inline`.

        Functions and layouts are left alone: ONNX Runtime inlines and converts by itself.

        Raises:
            EngineError: An operator has neither a kernel nor a body.
            ModelError: The file is absent, truncated or not ONNX.
            OutputError: `folder` cannot be written to.
        """
        path = require_onnx(model, _TITLE)
        return lower_operators(
            model, path, folder, lambda op: not inline and library_of(op) is not None
        )

    def compile(self, model: PortableModel, options: EngineOptions, folder: Path) -> Artifact:
        """Copy the model into `folder` once a session on it has started.

        Raises:
            EngineMissing: onnxruntime is not installed.
            EngineError: ONNX Runtime refuses the model or an option.
            ModelError: The file is absent, truncated or not ONNX.
            OutputError: `folder` cannot be written to.
        """
        _runtime()
        path = require_onnx(model, _TITLE)
        proto = read_onnx(path, model)
        raise_errors(_TITLE, _findings(model, proto))
        libraries = _libraries(proto)
        _open(path, options, libraries)
        target = _MAKER.target(path, folder)
        facts = {
            "float_types": _float_types(proto),
            "custom_ops": describe_operators(proto, operators_in(proto).values(), _KERNEL),
            "kernel_libraries": [library.path.name for library in libraries],
        }
        with staged(target) as scratch:
            copy = scratch / target.name
            companions = copy_onnx(path, proto, copy)
            artifact = _MAKER.save(path, model, options, copy, companions=companions, facts=facts)
        return placed(artifact, target)

    def load(self, artifact: Artifact, options: EngineOptions) -> OnnxRuntimeSession:
        """Start a session.

        Raises:
            EngineMissing: onnxruntime is not installed.
            EngineError: The session does not start, or an option was not granted.
            ModelError: The artifact changed since it was made.
        """
        _runtime()
        _MAKER.open(artifact)
        proto = read_onnx(artifact.path)
        raise_errors(_TITLE, unknown_findings(proto, _title(), _is_known))
        _require_kernels(artifact, proto)
        session = _open(artifact.path, options, _libraries(proto))
        return OnnxRuntimeSession(artifact, session, options)


class OnnxRuntimeSession(BaseSession):
    """A session of ONNX Runtime. It may be run from several threads at once."""

    def __init__(
        self, artifact: Artifact, session: InferenceSession, options: EngineOptions
    ) -> None:
        """Read back what ONNX Runtime has granted."""
        super().__init__(artifact.inputs, artifact.outputs, _effective(artifact, session, options))
        self._session: Any = session
        self._names = [spec.name for spec in self.outputs]

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        session = self._session
        arrays = {name: np.asarray(value, order="C") for name, value in feeds.items()}
        with engine_errors(f"{_TITLE} failed while running", _NOISE):
            outputs = session.run(self._names, arrays)
        return dict(zip(self._names, outputs, strict=True))

    def _release(self) -> None:
        self._session = None


def resolve_types(path: Path, options: EngineOptions) -> dict[str, str]:
    """Return the type ONNX Runtime gives each output of a file, e.g. "tensor(float)".

    Args:
        path: The .onnx file; its outputs need not declare a type.
        options: How to open it.

    Raises:
        EngineMissing: onnxruntime is not installed.
        EngineError: ONNX Runtime refuses the model.
        ModelError: The file is absent, truncated or not ONNX.
    """
    proto = read_onnx(path)
    raise_errors(_TITLE, unknown_findings(proto, _title(), _is_known))
    session = _open(path, options, _libraries(proto))
    return {value.name: value.type for value in session.get_outputs()}


def _runtime() -> ModuleType:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        why = "" if package_version("onnxruntime") == "" else str(error)
        raise EngineMissing("onnxruntime", install=_INSTALL, why=why) from error
    module: ModuleType = onnxruntime
    return module


def _findings(model: PortableModel, proto: ModelProto) -> list[Finding]:
    unknown = unknown_findings(proto, _title(), _is_known)
    return [*unknown, *bfloat16_findings(model, _TITLE)]


def _title() -> str:
    return f"{_TITLE} {_runtime().__version__}"


def _libraries(proto: ModelProto) -> tuple[KernelLibrary, ...]:
    """Return the libraries with the kernels of a model's custom operators."""
    return libraries_of(operators_in(proto).values())


def _require_kernels(artifact: Artifact, proto: ModelProto) -> None:
    """Refuse a model that was compiled where its operators had kernels, and here they have none."""
    bodies = {function.name for function in proto.functions}
    for op in operators_in(proto).values():
        if op.onnx_name not in bodies:
            require_kernel(artifact, op, "onnxruntime")


def _is_known(operator: Operator) -> bool:
    known = _known_operators()
    return not known or operator in known


@functools.cache
def _known_operators() -> set[tuple[str, str]]:
    """Every operator with a schema; empty where this build of ONNX Runtime does not tell."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    list_schemas = getattr(state, "get_all_operator_schema", list)
    return {(schema.domain, schema.name) for schema in list_schemas()}


def _float_types(proto: ModelProto) -> list[str]:
    """Float dtypes of the weights: what "f32" means for this model."""
    from onnx import TensorProto

    names = {1: "f32", 10: "f16", 11: "f64", 16: "bf16"}
    types = {tensor.data_type for tensor in proto.graph.initializer}
    return sorted(names[kind] for kind in types & set(names) - {TensorProto.UNDEFINED})


def _open(
    path: Path, options: EngineOptions, libraries: Sequence[KernelLibrary]
) -> InferenceSession:
    require_precision(
        _TITLE,
        options,
        {"f32"},
        "It computes in the dtypes of the model: convert the model, or take openvino.",
    )
    provider = _provider(options.device)
    settings = _settings(options, provider)
    for library in libraries:
        settings.register_custom_ops_library(str(library.path))
    with engine_errors(f"{_TITLE} cannot load {path}", _NOISE):
        try:
            session = _runtime().InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:
            _explain_opset(path, error)
            raise
    granted = session.get_providers()
    if granted[0] != provider:
        raise EngineError(f"Asked for {provider}, {_TITLE} granted {', '.join(granted)}.")
    return session


def _explain_opset(path: Path, error: Exception) -> None:
    match = _OPSET.search(str(error))
    if match is None:
        return
    opset, domain, newest = match.groups()
    version = _runtime().__version__
    raise EngineError(
        f"{path} has opset {opset} of {domain}; {_TITLE} {version} supports up to {newest}.",
        hint=f"Export again with --opset {newest}, or upgrade: {_INSTALL} --upgrade.",
    ) from error


def _provider(device: str) -> str:
    """Return the execution provider for a device name ("CUDA"); "" is the CPU."""
    available: list[str] = _runtime().get_available_providers()
    wanted = (device or "CPU").removesuffix(_PROVIDER_SUFFIX) + _PROVIDER_SUFFIX
    for provider in available:
        if provider.lower() == wanted.lower():
            return provider
    raise EngineError(
        f"{_TITLE} has no device '{device}' here.",
        hint=f"Devices: {', '.join(name.removesuffix(_PROVIDER_SUFFIX) for name in available)}.",
    )


def _settings(options: EngineOptions, provider: str) -> Any:
    ort = _runtime()
    settings = ort.SessionOptions()
    settings.log_severity_level = _SILENT_LOG
    settings.intra_op_num_threads = thread_count(options)
    settings.inter_op_num_threads = 1
    if not options.optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    entries = _config_entries(options)
    if provider != _CPU:
        # Without this, nodes the device lacks would run on the CPU without a word.
        entries.setdefault("session.disable_cpu_ep_fallback", "1")
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    return settings


def _config_entries(options: EngineOptions) -> dict[str, str]:
    """Return the extra options, which are session configuration entries of ONNX Runtime."""
    # ONNX Runtime ignores a key it does not know, so at least its first word must be one of theirs.
    strange = [key for key in options.extra if key.partition(".")[0] not in _CONFIG_WORDS]
    if strange:
        raise EngineError(
            f"{_TITLE} has no option {', '.join(strange)}.",
            hint="Options are session configuration entries, such as session.intra_op.allow_spinning.",
        )
    return dict(options.extra)


def _effective(
    artifact: Artifact, session: InferenceSession, options: EngineOptions
) -> Mapping[str, str]:
    ort = _runtime()
    settings = session.get_session_options()
    off = settings.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    provider = session.get_providers()[0]
    return {
        "runtime": _TITLE,
        "version": ort.__version__,
        "provider": provider,
        "device": provider.removesuffix(_PROVIDER_SUFFIX),
        "precision": "+".join(artifact.made.get("float_types", [])) or "f32",
        "threads": str(settings.intra_op_num_threads),
        "optimization": "off" if off else "all",
        **effective_operators(artifact),
        **options.extra,
    }
