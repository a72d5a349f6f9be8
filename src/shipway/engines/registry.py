"""Find engines by name through the entry-point group `shipway.engines`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from shipway.engines.base import Engine
from shipway.errors import EngineError, UsageError

__all__ = ["GROUP", "engine_names", "find_engine"]

GROUP = "shipway.engines"


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def engine_names() -> tuple[str, ...]:
    """Names of all registered engines, installed runtime or not, in alphabetical order."""
    return tuple(sorted(_registered()))


def find_engine(name: str) -> Engine:
    """Return a new instance of the engine called `name`.

    This does not import the engine's runtime: ask `probe()` whether it is there.

    Raises:
        UsageError: No engine of this name is registered.
        EngineError: The entry point is there but does not load.
    """
    points = _registered()
    if name not in points:
        raise UsageError(
            f"Unknown engine '{name}'.",
            hint=f"Engines here: {', '.join(sorted(points)) or 'none; run pip install shipway'}.",
        )
    try:
        engine: Engine = points[name].load()()
    except Exception as error:
        raise EngineError(
            f"The engine '{name}' ({points[name].value}) does not load: {error}.",
            hint="Reinstall the package that provides it; see shipway doctor.",
        ) from error
    return engine
