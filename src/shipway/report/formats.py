"""Numbers as a reader of a report sees them: one place for digits, signs and missing values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "ENGINE_FAILED",
    "MISSING",
    "TOO_SMALL",
    "clean_text",
    "decimals_for",
    "format_bytes",
    "format_count",
    "format_fixed",
    "format_percent",
    "format_points",
    "format_probability",
    "format_scientific",
]

MISSING = "-"
TOO_SMALL = "n too small"
ENGINE_FAILED = "not measured, the engine failed; its message is under Engines and artifacts"

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def format_count(value: int | None) -> str:
    """Write an integer with its thousands apart.

    Example:
        >>> format_count(22050664)
        '22,050,664'
        >>> format_count(None)
        '-'
    """
    return MISSING if value is None else f"{value:,}"


def decimals_for(values: Iterable[float | None]) -> int:
    """Return the decimals that show at least three digits of every value, three at most.

    One column has one number of decimals, so that its figures stand under each other.

    Example:
        >>> decimals_for([120.2, 450.0]), decimals_for([12.25, 450.0]), decimals_for([0.31, None])
        (0, 1, 3)
    """
    smallest = min((abs(value) for value in values if value), default=1.0)
    return 0 if smallest >= 100 else 1 if smallest >= 10 else 2 if smallest >= 1 else 3


def format_fixed(value: float | None, decimals: int) -> str:
    """Write a number with this many decimals and its thousands apart.

    Example:
        >>> format_fixed(1234.5, 2)
        '1,234.50'
    """
    return MISSING if value is None else f"{value:,.{decimals}f}"


def format_percent(rate: float | None, decimals: int = 2) -> str:
    """Write a rate in [0, 1] as percent, without the sign: the header has it.

    Example:
        >>> format_percent(523 / 540)
        '96.85'
    """
    return MISSING if rate is None else f"{100 * rate:.{decimals}f}"


def format_points(difference: float | None) -> str:
    """Write a difference of two rates in percentage points, signed; zero has no sign.

    Example:
        >>> format_points(-1 / 540), format_points(0.0), format_points(1 / 540)
        ('\N{MINUS SIGN}0.19', '0.00', '+0.19')
    """
    if difference is None:
        return MISSING
    text = f"{100 * difference:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def format_scientific(value: float | None) -> str:
    """Write an error with three digits, in powers of ten below 1 and from 1000 on.

    Example:
        >>> format_scientific(3.14159e-7), format_scientific(0.0), format_scientific(12.5)
        ('3.14e-07', '0', '12.5')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1 <= abs(value) < 999.5 else f"{value:.2e}"


def format_probability(value: float | None) -> str:
    """Write a p-value.

    Example:
        >>> format_probability(1.0), format_probability(0.0317), format_probability(1e-9)
        ('1.000', '0.032', '< 0.001')
    """
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_bytes(value: int | None) -> str:
    """Write a size in powers of a thousand.

    Example:
        >>> format_bytes(88_197_123), format_bytes(512), format_bytes(999_999)
        ('88.2 MB', '512 bytes', '1.0 MB')
    """
    if value is None:
        return MISSING
    size, unit = float(value), 0
    while round(size, 1) >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{value} bytes"


def clean_text(value: Any) -> str:
    r"""Return text that is safe to show: control characters, escapes among them, become visible.

    A terminal obeys escape sequences, and a name or an error message may come from anywhere.

    Example:
        >>> print(clean_text("a\x1b[31mb"))
        a\x1b[31mb
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in str(value)
    )
