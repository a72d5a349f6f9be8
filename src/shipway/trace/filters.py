"""Which tensors of an execution are asked for: by name, by operator."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from shipway.engines.tapping import Tap
from shipway.errors import UsageError

__all__ = ["TapFilter", "select_taps"]

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class TapFilter:
    """What a tensor must look like to be asked for. Without patterns, all are.

    Args:
        names: Patterns as in a shell ("encoder.*"); one must match the tensor's name or one of its
            other names. Capital and small letters differ.
        op_types: Operators, or patterns of them; one must be the tensor's. A part between dots is
            enough: "relu" is "aten.relu.default" too. Capital and small letters are the same.
    """

    names: tuple[str, ...] = ()
    op_types: tuple[str, ...] = ()

    def matches(self, tap: Tap) -> bool:
        """Whether a tensor is asked for."""
        named = not self.names or any(_has_name(tap, pattern) for pattern in self.names)
        return named and (not self.op_types or any(_is_op(tap, op) for op in self.op_types))

    def refuse_unmatched(self, taps: Iterable[Tap]) -> None:
        """Refuse patterns that match nothing among the tensors there are.

        Raises:
            UsageError: A name or an operator matches no tensor, or none matches both.
        """
        known = tuple(taps)
        for pattern in self.names:
            if not any(_has_name(tap, pattern) for tap in known):
                raise UsageError(
                    f"--names {pattern} matches none of {len(known)} tensors.",
                    hint=_close_names(pattern, known),
                )
        for op in self.op_types:
            if not any(_is_op(tap, op) for tap in known):
                found = sorted({tap.op for tap in known if tap.op})
                raise UsageError(
                    f"--op-type {op} matches none of {len(known)} tensors.",
                    hint=f"There are {', '.join(_closest(op, found)) or 'none'}.",
                )
        if not any(map(self.matches, known)):
            raise UsageError(
                f"No tensor matches both --names {' '.join(self.names)} and "
                f"--op-type {' '.join(self.op_types)}.",
                hint="Leave one of the two out.",
            )


def select_taps(
    taps: Sequence[Tap], names: Sequence[str] = (), op_types: Sequence[str] = ()
) -> tuple[Tap, ...]:
    """Return the tensors that are asked for, in their order.

    Args:
        taps: What an execution can show.
        names: As in `TapFilter`.
        op_types: As in `TapFilter`; with `names`, a tensor must match one of each.

    Raises:
        UsageError: A pattern matches nothing.

    Example:
        >>> taps = [Tap("conv1", 0, "Conv"), Tap("relu1", 1, "Relu"), Tap("conv2", 2, "Conv")]
        >>> [tap.name for tap in select_taps(taps, names=["*1"], op_types=["conv"])]
        ['conv1']
    """
    chosen = TapFilter(tuple(names), tuple(op_types))
    if names or op_types:
        chosen.refuse_unmatched(taps)
    return tuple(filter(chosen.matches, taps))


def _has_name(tap: Tap, pattern: str) -> bool:
    # A name may have brackets of its own: "layers[0]" names itself.
    return any(name == pattern or fnmatchcase(name, pattern) for name in (tap.name, *tap.names))


def _is_op(tap: Tap, op: str) -> bool:
    own, wanted = tap.op.casefold(), op.casefold()
    return bool(wanted) and (f".{wanted}." in f".{own}." or fnmatchcase(own, wanted))


def _close_names(pattern: str, taps: Sequence[Tap]) -> str:
    names = list(dict.fromkeys(name for tap in taps for name in (tap.name, *tap.names)))
    word = max(pattern.replace("?", "*").split("*"), key=len)
    inside = [name for name in names if word and word.casefold() in name.casefold()]
    found = inside or _closest(pattern, names)
    more = ", ..." if len(found) > _SHOWN else ""
    return f"There are {', '.join(found[:_SHOWN])}{more}" if found else "There are no tensors."


def _closest(word: str, names: Sequence[str]) -> list[str]:
    folded = [name.casefold() for name in names]
    close = difflib.get_close_matches(word.casefold(), folded, n=_SHOWN, cutoff=0.5)
    return [name for name in names if name.casefold() in close] or list(names[:_SHOWN])
