"""PyTorch's errors, which run to pages, as one ExportError that names the line to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shipway.errors import ExportError
from shipway.export.guards import SizeDecision, Watch
from shipway.source.locations import CodeLocation, error_location, trace_location

__all__ = [
    "explain_failure",
    "explain_refusal",
    "explain_untranslated",
    "is_about_one",
    "name_symbols",
    "suggested_minima",
]

_FIXED = re.compile(
    r"You marked (\S+) as dynamic but your code specialized it to be a constant \((\d+)\)"
)
_EQUAL = re.compile(r"The values of (\w+) = \S+ and (\w+) = \S+ must always be equal")
_FIXES = re.compile(r"^Suggested fixes:\n((?:  .+\n?)+)", re.MULTILINE)
_GUARD = re.compile(
    r"Not all values of (?P<dim>\w+) = (?P<source>\S+) in the specified range.*? satisfy the generated "
    r"guard (?P<guard>.+?)\.?$",
    re.MULTILINE,
)
_ABOUT_ONE = re.compile(r" != [01]$")
_MULTIPLE = re.compile(r"^(\w+) = (\d+)\*_\w+$")
_RANGE = re.compile(r"^(\w+) = Dim\('\w+'(?:, min=(\d+))?(?:, max=(\d+))?\)$")
_CALL = re.compile(r"The following call raised this error:\n(?P<frames>(?: +.+\n?)+)")
_LEGACY = "or use --legacy, which keeps what the example inputs lead to"
_UNTRANSLATED = re.compile(r"No ONNX function found for (.+?)\. Failure message")
_FOREIGN = re.compile(r"operator with unrecognized namespace (\S+?)\. If you")
_UNSUPPORTED = re.compile(
    r"Exporting the operator '(\S+)' to ONNX opset version (\d+) is not supported"
)
_SINCE = re.compile(r"Support for this operator was added in version (\d+)")
_WORD = re.compile(r"[A-Za-z_]\w*")


def explain_failure(error: Exception, sizes: Mapping[str, int], inputs: str) -> ExportError:
    """Explain that the model itself fails on inputs that fit its specs."""
    tried = ", ".join(f"{name}={size}" for name, size in sizes.items())
    equal = " Dimensions that must be equal need one name." if len(sizes) > 1 else ""
    return ExportError(
        f"The model fails on the inputs {inputs}{f' with {tried}' if tried else ''}: "
        f"{_first_line(error)}{_at(error_location(error))}",
        hint="Mend the --input specs: dtype, fixed sizes, {low..high} for indices, or --bound "
        f"dim=low..high for sizes.{equal}",
    )


def explain_refusal(error: Exception, watch: Watch, names: Mapping[str, str]) -> ExportError:
    """Explain why torch.export refuses a model.

    Args:
        error: What torch.export raised.
        watch: The size decisions it took before.
        names: The user's names for torch's symbols.
    """
    text = str(error)
    if match := _FIXED.search(text):
        return _fixed(match[1], int(match[2]), watch, names)
    if match := _EQUAL.search(text):
        return ExportError(
            f"Dimensions '{match[1]}' and '{match[2]}' must always be equal in this model"
            f"{_at(_cause(watch.decisions, None))}",
            hint=f"Give them one name: write {match[2]} for both in --input.",
        )
    if needs := _requirements(text):
        where = next((item.where for item in watch.decisions if item.direct), None)
        return ExportError(
            "The model does not take every size that its specs allow; as traced it needs "
            f"{' and '.join(needs)}{_at(where or _cause(watch.decisions, None))}",
            hint="Make the model work for every size, limit the dimension with --bound "
            "dim=low..high, or write a number for it in --input.",
        )
    if "data-dependent" in text:
        return _data_dependent(error)
    return ExportError(
        f"torch.export cannot trace the model: {_first_line(error)}{_at(error_location(error))}",
        hint=f"Change that line, {_LEGACY}.",
    )


def _requirements(text: str) -> list[str]:
    """Return what torch needs of the sizes, in the user's names, the simplest form of it."""
    fixes = _FIXES.search(text)
    found = []
    for line in fixes[1].splitlines() if fixes else ():
        if multiple := _MULTIPLE.match(line.strip()):
            found.append(f"{multiple[1]} to be a multiple of {multiple[2]}")
        elif limits := _RANGE.match(line.strip()):
            bounds = [
                f"{word} {limits[group]}" for word, group in ((">=", 2), ("<=", 3)) if limits[group]
            ]
            found += [f"{limits[1]} {bound}" for bound in bounds]
    if found:
        return found
    guards = [
        match["guard"].replace(match["source"], match["dim"]) for match in _GUARD.finditer(text)
    ]
    return list(dict.fromkeys(guards))


def is_about_one(error: Exception) -> bool:
    """Whether torch objects to sizes 0 or 1 of some dimension inside the model."""
    guards = [match["guard"] for match in _GUARD.finditer(str(error))]
    return any(_ABOUT_ONE.search(guard) for guard in guards)


def suggested_minima(
    error: Exception, watch: Watch, names: Mapping[str, str], example: Mapping[str, int]
) -> dict[str, int]:
    """Return the smallest sizes torch needs, where minima are all it needs.

    They are among the fixes it suggests, or follow from a guard such as "(h // 8) != 1" against an
    image that three poolings reduce to one pixel. A limit that the model's own code decides on is
    none: below it the model takes another course, which the traced graph does not have.

    Args:
        error: What torch.export raised.
        watch: The size decisions it took before.
        names: The user's names for torch's symbols.
        example: Sizes that are known to be good.

    Returns:
        Smallest size by dimension; nothing where torch needs anything else.
    """
    fixes = _FIXES.search(str(error))
    minima: dict[str, int] = {}
    for line in fixes[1].splitlines() if fixes else ():
        limits = _RANGE.match(line.strip())
        if limits is None or not limits[2] or limits[3]:
            return {}
        minima[limits[1]] = int(limits[2])
    for guard in _GUARD.finditer(str(error)):
        if not _ABOUT_ONE.search(guard["guard"]):
            continue
        low = _smallest(guard["guard"].replace(guard["source"], "size"), example[guard["dim"]])
        if low is None:
            return {}
        minima[guard["dim"]] = max(low, minima.get(guard["dim"], 1))
    decided = {
        names[word]
        for item in watch.decisions
        if item.direct
        for word in _WORD.findall(item.guard)
        if word in names
    }
    return minima if decided.isdisjoint(minima) else {}


def _smallest(guard: str, good: int) -> int | None:
    """Return the smallest size from which on a guard holds, up to one that is known to be good."""
    import sympy  # type: ignore[import-untyped]  # it comes with torch, without types

    size = sympy.Symbol("size", integer=True, positive=True)
    try:
        difference = sympy.parse_expr(guard.replace("!=", "-"), local_dict={"size": size})
    except (AttributeError, SyntaxError, TypeError, ValueError):
        return None  # it is about more than this dimension
    smallest = None
    for candidate in range(good, 0, -1):
        if difference.subs(size, candidate) == 0:
            break
        smallest = candidate
    return smallest


def _fixed(dim: str, size: int, watch: Watch, names: Mapping[str, str]) -> ExportError:
    guards = {f"Eq({symbol}, {size})" for symbol, name in names.items() if name == dim}
    places = (item.where for item in watch.decisions if item.guard in guards and item.where)
    return ExportError(
        f"Dimension '{dim}' was asked to be dynamic, but the model fixes it to {size}"
        f"{_at(next(places, None) or _cause(watch.decisions, size))}",
        hint=f"Make that line work for every size, or write {size} for '{dim}' in --input.",
    )


def _cause(decisions: Sequence[SizeDecision], size: int | None) -> CodeLocation | None:
    """Return the last place that decided on an equality, of `size` if there is one."""
    equal = [item for item in decisions if item.guard.startswith("Eq(") and item.where]
    exact = [item for item in equal if size is not None and item.guard.endswith(f", {size})")]
    return next((item.where for item in reversed(exact or equal)), None)


def _data_dependent(error: Exception) -> ExportError:
    match = _CALL.search(str(error))
    where = trace_location(match["frames"]) if match else None
    return ExportError(
        "The model decides on the value of a tensor, which a traced graph cannot"
        f"{_at(where or error_location(error))}",
        hint=f"Write the choice with torch.where or torch.cond, {_LEGACY}.",
    )


def explain_untranslated(error: Exception) -> ExportError:
    """Explain why the graph could not be turned into ONNX."""
    causes = _chain(error)
    texts = [str(item) for item in causes]
    for text in texts:
        if match := _UNTRANSLATED.search(text) or _FOREIGN.search(text):
            return ExportError(
                f"There is no ONNX translation of the operator {_operator(match[1])}.",
                hint="Replace it by standard operators; --legacy takes a `symbolic` function of it.",
            )
        if match := _UNSUPPORTED.search(text):
            since = _SINCE.search(text)
            return ExportError(
                f"The operator {match[1]} cannot be written in opset {match[2]}.",
                hint=f"Export with --opset {since[1]} or newer." if since else "Try a newer opset.",
            )
    root = causes[-1]
    return ExportError(
        f"The ONNX exporter fails: {_first_line(root)}{_at(error_location(root))}",
        hint="Try another --opset, or --legacy.",
    )


def _operator(text: str) -> str:
    match = re.search(r"OpOverload\(op='([^']+)'", text)
    return match[1] if match else text


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "").rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _at(where: CodeLocation | None) -> str:
    return "." if where is None else f", at {where.quote()}"


def name_symbols(text: str, symbols: Mapping[str, str]) -> str:
    """Replace torch's symbols in an expression by the user's names, all at once.

    Example:
        >>> name_symbols("2*s7 + s77", {"s7": "s77", "s77": "width"})
        '2*s77 + width'
    """
    return _WORD.sub(lambda match: symbols.get(match[0], match[0]), text)
