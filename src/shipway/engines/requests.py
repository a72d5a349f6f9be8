"""What every engine does with the options it is given, the findings it makes, the errors it meets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator

from shipway.engines.base import PRECISIONS, EngineOptions, Finding
from shipway.environment import usable_cores
from shipway.errors import EngineError, ShipwayError

__all__ = [
    "engine_errors",
    "raise_errors",
    "refuse_extras",
    "require_precision",
    "thread_count",
]

_LONGEST_MESSAGE = 400


def thread_count(options: EngineOptions) -> int:
    """Return the threads asked for; 0 becomes all physical cores this process may use.

    Raises:
        EngineError: The number is negative.
    """
    if options.threads < 0:
        raise EngineError(
            f"{options.threads} threads make no sense.",
            hint="Give --threads 1 or more; 0 takes all physical cores.",
        )
    return options.threads or usable_cores()


def require_precision(
    engine: str, options: EngineOptions, offered: Collection[str], hint: str
) -> None:
    """Refuse a precision that does not exist or that the engine does not offer.

    Raises:
        EngineError: With `hint` where the precision exists but the engine lacks it.
    """
    if options.precision not in PRECISIONS:
        raise EngineError(
            f"Unknown precision '{options.precision}'.", hint=f"One of: {', '.join(PRECISIONS)}."
        )
    if options.precision not in offered:
        raise EngineError(f"{engine} does not compute in {options.precision} here.", hint=hint)


def refuse_extras(engine: str, options: EngineOptions) -> None:
    """Refuse options of one engine where the engine has none.

    Raises:
        EngineError: There is one.
    """
    if options.extra:
        raise EngineError(
            f"{engine} has no option {', '.join(options.extra)}.", hint="Leave it out."
        )


def raise_errors(engine: str, findings: Iterable[Finding]) -> None:
    """Raise the errors among the findings of a pre-flight as one.

    Raises:
        EngineError: There is at least one error; the message holds all of them.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise EngineError(
            f"{engine} cannot take this model: {' '.join(error.message for error in errors)}",
            hint=next((error.hint for error in errors if error.hint), ""),
        )


@contextlib.contextmanager
def engine_errors(action: str, noise: re.Pattern[str]) -> Iterator[None]:
    """Turn whatever a vendor raises into an EngineError with its first meaningful line.

    Args:
        action: What failed, to begin the message with: "ONNX Runtime cannot load model.onnx".
        noise: What to cut out of the vendor's message: source files, enum values.

    Raises:
        EngineError: The block raised anything that is not an error of Shipway.
    """
    try:
        yield
    except ShipwayError:
        raise
    except Exception as error:
        raise EngineError(f"{action}: {_distil(str(error), noise)}") from error


def _distil(text: str, noise: re.Pattern[str]) -> str:
    lines = (line.strip() for line in noise.sub("", text).splitlines())
    line = next(filter(None, lines), "no reason given").rstrip(".") + "."
    return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + "…"
