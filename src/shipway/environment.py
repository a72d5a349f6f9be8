"""The machine and the packages a result was measured with."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from shipway.native import isa_level

__all__ = [
    "describe_environment",
    "describe_machine",
    "load_average",
    "package_version",
    "package_versions",
    "usable_cores",
]

_PACKAGES = ("shipway", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


def package_version(name: str) -> str:
    """Return the installed version of a distribution, "" if it is absent. Imports nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def package_versions() -> dict[str, str]:
    """Return the version of Python and of every package that shapes a result and is installed."""
    found = {name: package_version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **{k: v for k, v in found.items() if v}}


def usable_cores() -> int:
    """Return how many physical cores this process may use (affinity counted, at least 1)."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def load_average() -> float:
    """Return the number of runnable processes, averaged over the last minute."""
    return os.getloadavg()[0]


@functools.cache
def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    """Return what of the machine decides how fast it is and what can run on it."""
    threads = {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "KMP_", "MKL_"))}
    return {
        "cpu": _cpu_model(),
        "isa": isa_level() or "unknown (installed without native code)",
        "usable_cores": usable_cores(),
        "thread_variables": threads,
    }


def describe_environment() -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a measurement: CPU, cores, memory, versions."""
    memory_bytes = psutil.virtual_memory().total
    return {
        **describe_machine(),
        "memory_bytes": memory_bytes,
        "os": platform.platform(),
        "versions": package_versions(),
    }
