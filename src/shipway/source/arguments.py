"""Arguments of a model factory as they are typed on the command line: `--arg width=0.25`."""

from __future__ import annotations

import ast
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from shipway.errors import UsageError

__all__ = ["arguments_to_json", "parse_arguments"]

_HINT = "Write --arg name=value, e.g. --arg width=0.25 --arg 'dims=[1,2]' --arg name=tiny."


def parse_arguments(items: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` pairs.

    A value is read as JSON (`true`, `0.25`, `[1,2]`, `{"a": 1}`), else as a Python literal of plain
    data (`True`, `None`, `(1, 2)`, `'text'`), else it is the text itself.

    Raises:
        UsageError: An item has no `=`, its name is no Python name, or a name comes twice.

    Example:
        >>> parse_arguments(["width=0.25", "name=tiny", "dims=(1, 2)", "bias=false"])
        {'width': 0.25, 'name': 'tiny', 'dims': (1, 2), 'bias': False}
    """
    arguments: dict[str, Any] = {}
    for item in items:
        name, separator, text = item.partition("=")
        name = name.strip()
        if not separator or not name.isidentifier():
            raise UsageError(f"'{item}' is not an argument of the form name=value.", hint=_HINT)
        if name in arguments:
            raise UsageError(f"The argument '{name}' is given twice.", hint=_HINT)
        arguments[name] = _parse_value(text)
    return arguments


def _parse_value(text: str) -> Any:
    for read in (_read_json, _read_literal):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = read(text)
            if _is_plain(value):
                return value
    return text


def _read_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _read_literal(text: str) -> Any:
    return ast.literal_eval(text.strip())


def _refuse_constant(name: str) -> Any:
    """Keep `NaN` and `Infinity` text: JSON does not have them, and a resume key is JSON."""
    raise ValueError(name)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def arguments_to_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as plain data, sorted by name; what JSON does not have, as its repr.

    Example:
        >>> arguments_to_json({"width": 2, "dims": (1, 2)})
        {'dims': {'repr': '(1, 2)'}, 'width': 2}
    """
    return {name: _to_json(value) for name, value in sorted(arguments.items())}


def _to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item) for key, item in sorted(value.items())}
    if not isinstance(value, tuple) and _is_plain(value):
        return value
    return {"repr": repr(value)}
