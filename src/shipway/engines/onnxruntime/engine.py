"""ONNX Runtime: runs the .onnx file as it is, optimised when the session starts.

The artifact is a copy of the model. Everything is computed in the dtypes the model has, so a lower
precision needs another model, not another option.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
    bfloat16_findings,
    copy_onnx,
    read_onnx,
    require_onnx,
)
from shipway.engines.onnxruntime.runtime import (
    INSTALL,
    NOISE,
    PROVIDER_SUFFIX,
    TITLE,
    custom_operators,
    is_known,
    kernel_libraries,
    open_session,
    runtime,
    versioned_title,
)
from shipway.engines.onnxruntime.taps import OnnxRuntimeTaps
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
)
from shipway.engines.staging import Maker, placed, staged
from shipway.engines.tapping import DEFAULT_TAP_BYTES
from shipway.errors import EngineMissing, ShipwayError
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.ops.kernel_library import library_of
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

__all__ = ["OnnxRuntimeEngine", "resolve_types"]

_MAKER = Maker("onnxruntime", "onnx", ".onnx")
_KERNEL = "native kernel"


class OnnxRuntimeEngine:
    """ONNX Runtime in this process; the CPU unless another device is named."""

    name = "onnxruntime"

    def probe(self) -> Availability:
        """Say which version and execution providers there are."""
        try:
            ort = runtime()
        except EngineMissing as error:
            return Availability(installed=False, why=str(error), install=INSTALL)
        devices = tuple(
            Device(provider.removesuffix(PROVIDER_SUFFIX), provider)
            for provider in ort.get_available_providers()
        )
        return Availability(installed=True, version=ort.__version__, devices=devices)

    def check(self, model: PortableModel, options: EngineOptions) -> list[Finding]:
        """Find what ONNX Runtime will not take: operators, opset, dtypes, a broken file."""
        try:
            path = require_onnx(model, TITLE)
            findings = _findings(model, read_onnx(path, model))
            if not any(finding.severity == "error" for finding in findings):
                with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
                    lowered = require_onnx(
                        self.lower(model, Path(scratch), inline=options.inline), TITLE
                    )
                    open_session(lowered, options, kernel_libraries(read_onnx(lowered)))
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
        path = require_onnx(model, TITLE)
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
        runtime()
        path = require_onnx(model, TITLE)
        proto = read_onnx(path, model)
        raise_errors(TITLE, _findings(model, proto))
        libraries = kernel_libraries(proto)
        open_session(path, options, libraries)
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
        runtime()
        _MAKER.open(artifact)
        proto = read_onnx(artifact.path)
        raise_errors(TITLE, unknown_findings(proto, versioned_title(), is_known))
        _require_kernels(artifact, proto)
        session = open_session(artifact.path, options, kernel_libraries(proto))
        return OnnxRuntimeSession(artifact, session, options)

    def open_taps(
        self, artifact: Artifact, options: EngineOptions, *, max_bytes: int = DEFAULT_TAP_BYTES
    ) -> OnnxRuntimeTaps:
        """Load an artifact so that every tensor of its optimised graph can be read.

        A tapped run holds little more than a plain one: what is computed is handed out segment by
        segment. It takes one untapped run more, whose outputs it is held against.

        Raises:
            EngineMissing: onnxruntime is not installed.
            EngineError: The session does not start, or an option was not granted.
            ModelError: The artifact changed since it was made.
        """
        runtime()
        # Hashing takes as long as loading, and leaves the other cores alone: both go on at once.
        with ThreadPoolExecutor(1, "shipway-verify") as pool:
            verified = pool.submit(_MAKER.open, artifact)
            try:
                taps = _open_taps(artifact, options, max_bytes)
            except Exception:
                verified.result()  # a file that changed explains whatever else went wrong
                raise
            try:
                verified.result()
            except ShipwayError:
                taps.close()
                raise
        return taps


def _open_taps(artifact: Artifact, options: EngineOptions, max_bytes: int) -> OnnxRuntimeTaps:
    outline = read_outline(artifact.path)
    raise_errors(TITLE, unknown_findings(outline, versioned_title(), is_known))
    _require_kernels(artifact, outline)
    describe = partial(_effective, artifact, options)
    return OnnxRuntimeTaps(artifact, outline, options, describe, max_bytes)


class OnnxRuntimeSession(BaseSession):
    """A session of ONNX Runtime. It may be run from several threads at once."""

    def __init__(
        self, artifact: Artifact, session: InferenceSession, options: EngineOptions
    ) -> None:
        """Read back what ONNX Runtime has granted."""
        super().__init__(artifact.inputs, artifact.outputs, _effective(artifact, options, session))
        self._session: Any = session
        self._names = [spec.name for spec in self.outputs]

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        session = self._session
        arrays = {name: np.asarray(value, order="C") for name, value in feeds.items()}
        with engine_errors(f"{TITLE} failed while running", NOISE):
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
    raise_errors(TITLE, unknown_findings(proto, versioned_title(), is_known))
    session = open_session(path, options, kernel_libraries(proto))
    return {value.name: value.type for value in session.get_outputs()}


def _findings(model: PortableModel, proto: ModelProto) -> list[Finding]:
    unknown = unknown_findings(proto, versioned_title(), is_known)
    return [*unknown, *bfloat16_findings(model, TITLE)]


def _require_kernels(artifact: Artifact, proto: ModelProto) -> None:
    """Refuse a model that was compiled where its operators had kernels, and here they have none."""
    bodies = {function.name for function in proto.functions}
    for op in custom_operators(proto).values():
        if op.onnx_name not in bodies:
            require_kernel(artifact, op, "onnxruntime")


def _float_types(proto: ModelProto) -> list[str]:
    """Float dtypes of the weights: what "f32" means for this model."""
    from onnx import TensorProto

    names = {1: "f32", 10: "f16", 11: "f64", 16: "bf16"}
    types = {tensor.data_type for tensor in proto.graph.initializer}
    return sorted(names[kind] for kind in types & set(names) - {TensorProto.UNDEFINED})


def _effective(
    artifact: Artifact, options: EngineOptions, session: InferenceSession
) -> Mapping[str, str]:
    ort = runtime()
    settings = session.get_session_options()
    off = settings.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    provider = session.get_providers()[0]
    return {
        "runtime": TITLE,
        "version": ort.__version__,
        "provider": provider,
        "device": provider.removesuffix(PROVIDER_SUFFIX),
        "precision": "+".join(artifact.made.get("float_types", [])) or "f32",
        "threads": str(settings.intra_op_num_threads),
        "optimization": "off" if off else "all",
        **effective_operators(artifact),
        **options.extra,
    }
