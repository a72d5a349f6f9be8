"""ONNX Runtime's Python package: the only module that imports it, and how its sessions start."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from shipway.engines.base import EngineOptions
from shipway.engines.onnxfile import Operator, operators
from shipway.engines.operators import operators_in
from shipway.engines.requests import engine_errors, require_precision, thread_count
from shipway.environment import package_version
from shipway.errors import EngineError, EngineMissing
from shipway.graph.segments import bodies_of
from shipway.ops.kernel_library import KernelLibrary, libraries_of

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import ModelProto
    from onnxruntime import InferenceSession

    from shipway.ops.definition import CustomOp

__all__ = [
    "CPU",
    "INSTALL",
    "NOISE",
    "PROVIDER_SUFFIX",
    "TITLE",
    "custom_operators",
    "is_known",
    "kernel_libraries",
    "open_session",
    "rooted",
    "runtime",
    "versioned_title",
]

TITLE = "ONNX Runtime"
INSTALL = "pip install onnxruntime"
CPU = "CPUExecutionProvider"
PROVIDER_SUFFIX = "ExecutionProvider"
NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|Fatal error: "
    r"|Non-zero status code returned while running |Status Message: |/\S+?\.(?:h|cc):\d+ .*?\) "
)
"""What its messages hold besides what a user wants to know."""

_SILENT_LOG = 4  # ORT_LOGGING_LEVEL_FATAL: what matters is raised as well
_CONFIG_WORDS = frozenset({"ep", "memory", "mlas", "optimization", "session"})
_FOLDER = "session.model_external_initializers_file_folder_path"
_NONE: Mapping[str, str] = MappingProxyType({})
_OPSET = re.compile(
    r"Opset (\d+) is under development.*?domain (\S+) is till opset (\d+)", re.DOTALL
)


def runtime() -> ModuleType:
    """Return the package.

    Raises:
        EngineMissing: It is not installed, or does not load.
    """
    try:
        import onnxruntime
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        why = "" if package_version("onnxruntime") == "" else str(error)
        raise EngineMissing("onnxruntime", install=INSTALL, why=why) from error
    module: ModuleType = onnxruntime
    return module


def versioned_title() -> str:
    """Return the name of the runtime with its version."""
    return f"{TITLE} {runtime().__version__}"


def custom_operators(proto: ModelProto) -> dict[str, CustomOp]:
    """Return the defined operators that a model calls, by name.

    The definitions bring torch with them, which takes seconds: they are not looked at where the
    runtime has every operator itself.
    """
    if not proto.functions and all(map(is_known, operators(proto))):
        return {}
    return operators_in(proto)


def kernel_libraries(proto: ModelProto) -> tuple[KernelLibrary, ...]:
    """Return the libraries with the kernels of a model's custom operators."""
    return libraries_of(custom_operators(proto).values())


def is_known(operator: Operator) -> bool:
    """Whether the runtime has a schema of an operator, or does not tell which it has."""
    known = _known_operators()
    return not known or operator in known


@functools.cache
def _known_operators() -> set[tuple[str, str]]:
    """Every operator with a schema; empty where this build of ONNX Runtime does not tell."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    list_schemas = getattr(state, "get_all_operator_schema", list)
    return {(schema.domain, schema.name) for schema in list_schemas()}


def open_session(
    path: Path,
    options: EngineOptions,
    libraries: Sequence[KernelLibrary],
    *,
    model: bytes | None = None,
    entries: Mapping[str, str] = _NONE,
    adjust: Callable[[Any], None] | None = None,
) -> InferenceSession:
    """Start a session.

    Args:
        path: The .onnx file.
        options: What the user asks for.
        libraries: Those with the kernels of custom operators.
        model: What to open instead of the file: a model whose weights may lie in files, at places
            relative to the root of the file system; see `rooted`.
        entries: Session configuration entries besides those of the options.
        adjust: Changes the SessionOptions before the session starts.

    Raises:
        EngineMissing: The package is not installed.
        EngineError: The model is refused, or an option is not granted.
    """
    require_precision(
        TITLE,
        options,
        {"f32"},
        "It computes in the dtypes of the model: convert the model, or take openvino.",
    )
    provider = _provider(options.device)
    settings = _settings(options, provider, entries)
    for library in libraries:
        settings.register_custom_ops_library(str(library.path))
    if model is not None:
        settings.add_session_config_entry(_FOLDER, path.anchor)
    if adjust is not None:
        adjust(settings)
    with engine_errors(f"{TITLE} cannot load {path}", NOISE):
        try:
            source = str(path) if model is None else model
            session = runtime().InferenceSession(source, settings, providers=[provider])
        except Exception as error:
            _explain_opset(path, error)
            raise
    granted = session.get_providers()
    if granted[0] != provider:
        raise EngineError(f"Asked for {provider}, {TITLE} granted {', '.join(granted)}.")
    return session


def rooted(proto: ModelProto, folder: Path) -> ModelProto:
    """Make the places of a model's external weights relative to the root of the file system.

    ONNX Runtime takes one folder for all of them, and nothing outside it: what it writes lies
    elsewhere than what it was given.

    Args:
        proto: The model; it is changed.
        folder: What the places are relative to now.
    """
    base = folder.absolute()
    pending: list[Any] = [proto.graph]
    while pending:
        graph = pending.pop()
        for tensor in graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    place = base / entry.value
                    entry.value = str(place.relative_to(place.anchor))
        for node in graph.node:
            pending += bodies_of(node)
    return proto


def _explain_opset(path: Path, error: Exception) -> None:
    match = _OPSET.search(str(error))
    if match is None:
        return
    opset, domain, newest = match.groups()
    version = runtime().__version__
    raise EngineError(
        f"{path} has opset {opset} of {domain}; {TITLE} {version} supports up to {newest}.",
        hint=f"Export again with --opset {newest}, or upgrade: {INSTALL} --upgrade.",
    ) from error


def _provider(device: str) -> str:
    """Return the execution provider for a device name ("CUDA"); "" is the CPU."""
    available: list[str] = runtime().get_available_providers()
    wanted = (device or "CPU").removesuffix(PROVIDER_SUFFIX) + PROVIDER_SUFFIX
    for provider in available:
        if provider.lower() == wanted.lower():
            return provider
    raise EngineError(
        f"{TITLE} has no device '{device}' here.",
        hint=f"Devices: {', '.join(name.removesuffix(PROVIDER_SUFFIX) for name in available)}.",
    )


def _settings(options: EngineOptions, provider: str, more: Mapping[str, str]) -> Any:
    ort = runtime()
    settings = ort.SessionOptions()
    settings.log_severity_level = _SILENT_LOG
    settings.intra_op_num_threads = thread_count(options)
    settings.inter_op_num_threads = 1
    if not options.optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    entries = {**_config_entries(options), **more}
    if provider != CPU:
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
            f"{TITLE} has no option {', '.join(strange)}.",
            hint="Options are session configuration entries, such as session.intra_op.allow_spinning.",
        )
    return dict(options.extra)
