"""Which decisions about sizes torch.export took while it traced, and where in the model's code."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shipway.source.locations import CodeLocation, current_location

__all__ = ["SizeDecision", "Watch", "watch_decisions"]

_LOGGER = "torch.fx.experimental.symbolic_shapes"
_GUARD = re.compile(r"^eval (?P<guard>.+) \[guard added\]")
_CREATED = re.compile(r"^create_symbol (?P<symbol>\w+) = (?P<size>\d+) for ")
_REPLACED = re.compile(r"^set_replacement (?P<symbol>\w+) = (?P<value>[^ ]+) ")
_TRANSPARENT = (
    "torch/__init__.py",
    "torch/fx/experimental/symbolic_shapes.py",
    "torch/fx/experimental/sym_node.py",
    "torch/fx/experimental/recording.py",
    "torch/utils/_stats.py",
    "logging/__init__.py",
    "functools.py",
)


@dataclass(frozen=True, slots=True)
class SizeDecision:
    """One condition on sizes that the traced graph relies on.

    Args:
        guard: The condition in torch's symbols, e.g. "Ne(s77, 3)".
        where: Line of the model that was running.
        direct: Whether that line itself asked (an `if` on a size), not an operator inside it.
    """

    guard: str
    where: CodeLocation | None
    direct: bool


@dataclass(slots=True)
class Watch:
    """What was seen of a trace.

    Args:
        decisions: In the order they were taken.
        sizes: Size of each of torch's symbols in the example.
    """

    decisions: list[SizeDecision] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def name_symbols(self, example: Mapping[str, int]) -> dict[str, str]:
        """Return the user's name of each symbol; sizes differ, so that they identify dimensions."""
        names = {size: name for name, size in example.items()}
        return {symbol: names[size] for symbol, size in self.sizes.items() if size in names}


class _Watcher(logging.Handler):
    """torch logs each guard while the line that caused it is still on the stack."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.INFO)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if match := _CREATED.match(text):
            self._watch.sizes[match["symbol"]] = int(match["size"])
            return
        if match := _GUARD.match(text):
            guard = match["guard"]
        elif match := _REPLACED.match(text):
            guard = f"Eq({match['symbol']}, {match['value']})"
        else:
            return
        where, direct = current_location(_TRANSPARENT)
        self._watch.decisions.append(SizeDecision(guard, where, direct))


@contextlib.contextmanager
def watch_decisions() -> Iterator[Watch]:
    """Collect the size decisions that torch.export takes inside the block."""
    logger = logging.getLogger(_LOGGER)
    watch = Watch()
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    quiet = logger.getEffectiveLevel() > logging.INFO
    watcher = _Watcher(watch)
    logger.handlers = [watcher] if quiet else [*handlers, watcher]
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    logger.propagate = propagate and not quiet
    try:
        yield watch
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
