"""What is asked of OpenVINO when a model is compiled for a device, and whether it was granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shipway.engines.base import PRECISIONS, EngineOptions
from shipway.engines.openvino.runtime import TITLE
from shipway.engines.requests import require_precision, thread_count
from shipway.environment import package_version
from shipway.errors import EngineError

if TYPE_CHECKING:
    from openvino import CompiledModel, Core

__all__ = ["config_of", "device_of", "effective_settings", "require_granted", "require_options"]


def require_options(options: EngineOptions) -> None:
    """Refuse options that OpenVINO does not have.

    Raises:
        EngineError: A precision that does not exist, or optimisation switched off.
    """
    require_precision(TITLE, options, PRECISIONS, "")
    if not options.optimize:
        raise EngineError(
            f"{TITLE} has no switch that turns its graph optimisation off.",
            hint="Take --engine onnxruntime for a run without optimisation.",
        )


def device_of(core: Core, options: EngineOptions) -> str:
    """Return OpenVINO's name of the device asked for; the CPU where none is.

    Raises:
        EngineError: There is no such device here.
    """
    devices: list[str] = core.available_devices
    wanted = options.device or "CPU"
    for name in devices:
        if name.lower() == wanted.lower():
            return name
    raise EngineError(
        f"{TITLE} has no device '{options.device}' here.", hint=f"Devices: {', '.join(devices)}."
    )


def config_of(options: EngineOptions) -> dict[str, str]:
    """Return every property that is pinned, and those the user gave."""
    return {
        "INFERENCE_PRECISION_HINT": options.precision,
        "INFERENCE_NUM_THREADS": str(thread_count(options)),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        **options.extra,
    }


def require_granted(compiled: CompiledModel, config: Mapping[str, str]) -> None:
    """Refuse a compiled model in which something else is in force than was asked for.

    Raises:
        EngineError: The precision, the thread count or the streams are other ones.
    """
    for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        granted = _property(compiled, name)
        if granted != config[name]:
            raise EngineError(
                f"Asked {TITLE} for {name}={config[name]}; it granted {granted} on this machine.",
                hint=f"Ask for {granted}, or for another engine.",
            )


def _property(compiled: CompiledModel, name: str) -> str:
    value = compiled.get_property(name)
    return value.to_string() if hasattr(value, "to_string") else str(value)


def effective_settings(compiled: CompiledModel, options: EngineOptions) -> Mapping[str, str]:
    """Return what is in force, as OpenVINO itself says it."""
    devices = compiled.get_property("EXECUTION_DEVICES")
    return {
        "runtime": TITLE,
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
