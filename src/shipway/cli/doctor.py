"""The `shipway doctor` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shipway.cli.flags import Flag
from shipway.cli.terminal import make_table, print_json, print_result, start_log
from shipway.engines.base import Availability
from shipway.engines.registry import engine_names, find_engine
from shipway.environment import describe_environment
from shipway.errors import ShipwayError
from shipway.native.build import compiler_version, find_compiler

__all__ = ["doctor"]

_GET_COMPILER = "apt-get install g++"


@dataclass(frozen=True, slots=True)
class _Tool:
    name: str
    version: str
    install: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "install": self.install}


def doctor(*, json: Flag = False) -> int:
    """Show what is installed, what is missing, and how to get it.

    The exit code is 0 when at least one engine besides torch can be used, else 3.

    ```
    shipway doctor
    ```

    Args:
        json: Print JSON.
    """
    start_log(quiet=json)
    environment = describe_environment()
    engines = {name: _probe(name) for name in engine_names()}
    tools = [_find_compiler(), _find_native(environment)]
    if json:
        print_json(_describe(environment, engines, tools))
    else:
        _show(environment, engines, tools)
    usable = [name for name, found in engines.items() if found.installed and name != "torch"]
    return 0 if usable else 3


def _probe(name: str) -> Availability:
    try:
        return find_engine(name).probe()
    except ShipwayError as error:
        return Availability(installed=False, why=str(error), install=error.hint)


def _find_compiler() -> _Tool:
    path = find_compiler()
    if path is not None:
        return _Tool("C++ compiler", compiler_version(path), "")
    return _Tool("C++ compiler", "", _GET_COMPILER)


def _find_native(environment: dict[str, Any]) -> _Tool:
    isa = environment["isa"]
    if isa.startswith("unknown"):
        return _Tool("native code", "", f"{_GET_COMPILER} && pip install --force-reinstall shipway")
    return _Tool("native code", f"built; this CPU: {isa}", "")


def _describe(
    environment: dict[str, Any], engines: dict[str, Availability], tools: list[_Tool]
) -> dict[str, Any]:
    return {
        "environment": environment,
        "engines": {
            name: {
                "installed": found.installed,
                "version": found.version,
                "devices": [device.name for device in found.devices],
                "why": found.why,
                "install": found.install,
            }
            for name, found in engines.items()
        },
        "tools": [tool.to_json() for tool in tools],
    }


def _show(
    environment: dict[str, Any], engines: dict[str, Availability], tools: list[_Tool]
) -> None:
    memory_gb = environment["memory_bytes"] / 1e9
    print_result(f"{environment['cpu']}, {environment['usable_cores']} cores, {memory_gb:.0f} GB")
    versions = environment["versions"]
    print_result("  ".join(f"{name} {version}" for name, version in versions.items()), "")
    table = make_table("engine", "state", "version", "devices", "to get it")
    for column in table.columns:
        column.justify = "left"
    for name, found in engines.items():
        state = "ok" if found.installed else "missing"
        devices = ", ".join(device.name for device in found.devices)
        table.add_row(name, state, found.version, devices, found.install)
    for tool in tools:
        table.add_row(
            tool.name, "ok" if tool.version else "missing", tool.version, "", tool.install
        )
    print_result(table)
    for name, found in engines.items():
        if found.why:
            print_result(f"{name}: {found.why}")
