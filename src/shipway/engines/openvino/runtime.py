"""OpenVINO itself: imported without its telemetry, and what it prints without meaning."""

from __future__ import annotations

import re
import sys
from types import ModuleType

from shipway.environment import package_version
from shipway.errors import EngineMissing

__all__ = ["INSTALL", "NOISE", "TITLE", "runtime"]

TITLE = "OpenVINO"
INSTALL = "pip install 'shipway[openvino]'"
NOISE = re.compile(
    r"^\s*(?:(?:Caught exception: )?Exception from \S+|Check '.*' failed at \S+"
    r"|FrontEnd API failed with \w+:|Model wasn't fully converted\..*|Summary:|Loading input model"
    r"|While validating .*|Node .* of type \w+|-- \S+ with a message:)\s*$"
    r"|^-- (?=No conversion)| at src/plugins/\S+$",
    re.MULTILINE,
)


def runtime() -> ModuleType:
    """Import openvino without its telemetry, which would call home from a forked process.

    Source: openvino/tools/ovc/telemetry_utils.py, which takes a stub where the package is absent.

    Raises:
        EngineMissing: It is not installed, or does not load.
    """
    silenced = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if silenced:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # Python's own mark for "absent"
    try:
        import openvino
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        why = "" if package_version("openvino") == "" else str(error)
        raise EngineMissing("openvino", install=INSTALL, why=why) from error
    finally:
        if silenced:
            del sys.modules["openvino_telemetry"]
    module: ModuleType = openvino
    return module
