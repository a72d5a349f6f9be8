"""A list that tells when it was changed: scripts change lists of names in every way Python has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

__all__ = ["Watched"]

T = TypeVar("T")


class Watched(list[T]):
    """A list that calls back after every change, with what it held before.

    Args:
        items: What it holds at first.
        changed: Called after a change with the former items.

    Example:
        >>> names = Watched(["x", "y"], lambda before: print("was", before))
        >>> names[0] = "z"
        was ['x', 'y']
        >>> names + ["w"]
        ['z', 'y', 'w']
    """

    __slots__ = ("_changed",)

    def __init__(self, items: Iterable[T], changed: Callable[[list[T]], None]) -> None:
        """Keep the items and whom to tell."""
        super().__init__(items)
        self._changed = changed

    def replace(self, items: Iterable[T]) -> None:
        """Hold other items from now on, as one change."""
        self[:] = list(items)

    def __reduce_ex__(self, _protocol: Any) -> tuple[type[list[T]], tuple[list[T]]]:
        """Copies are plain lists: they belong to nobody."""
        return list, (list(self),)


def _telling(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def change(self: Watched[Any], *arguments: Any, **keywords: Any) -> Any:
        before = list(self)
        result = method(self, *arguments, **keywords)
        self._changed(before)
        return result

    change.__name__, change.__doc__ = name, method.__doc__
    return change


for _name in (
    "__delitem__",
    "__iadd__",
    "__imul__",
    "__setitem__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
):
    setattr(Watched, _name, _telling(_name))
