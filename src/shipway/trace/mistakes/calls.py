"""One call of an operator, seen through the names of its schema."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "Mistake", "bind_arguments", "call_named", "show", "sizes_of"]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Another way to compute a node.

    Args:
        cause: The kind of fault this would be; one of `compare.causes.CAUSES`.
        title: What is different.
        apply: Takes the arguments by name, tensors in them, and returns the result.
    """

    cause: str
    title: str
    apply: Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A node and its arguments by name; those that are tensors are nodes.

    Args:
        node: The torch.fx node.
        arguments: Its arguments, defaults included.
    """

    node: Any
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, node: Any) -> Call | None:
        """Read a node; None where it calls no operator of torch."""
        if getattr(node.target, "_schema", None) is None:
            return None
        return cls(node, bind_arguments(node.target, node.args, node.kwargs))

    @property
    def name(self) -> str:
        """The operator without its overload: "layer_norm"."""
        return str(self.node.target._schema.name).partition("::")[2]  # noqa: SLF001 -- torch has no public way to it

    def sizes(self, argument: str = "") -> tuple[str, ...] | None:
        """Return the sizes of an argument, or of the result; equal ones are equal strings."""
        node = self.arguments.get(argument) if argument else self.node
        return sizes_of(getattr(node, "meta", {}).get("val"))

    def changed(self, cause: str, title: str, **changes: Any) -> Mistake:
        """Return the call with other values for some arguments."""
        target = self.node.target
        return Mistake(cause, title, lambda named: call_named(target, {**named, **changes}))

    def swapped(self, left: str, right: str) -> Mistake:
        """Return the call with two arguments in each other's place."""
        target = self.node.target

        def apply(named: dict[str, Any]) -> Any:
            return call_named(target, {**named, left: named[right], right: named[left]})

        return Mistake("input", f"{self.name} with {left} and {right} swapped", apply)

    def replaced(self, cause: str, title: str, function: Callable[[Any], Any]) -> Mistake:
        """Return another function of the first argument."""
        first = next(iter(self.arguments))
        return Mistake(cause, title, lambda named: function(named[first]))

    def on(self, cause: str, title: str, argument: str, change: Callable[[Any], Any]) -> Mistake:
        """Return the call with one argument changed by a function."""
        target = self.node.target

        def apply(named: dict[str, Any]) -> Any:
            return call_named(target, {**named, argument: change(named[argument])})

        return Mistake(cause, title, apply)

    def others(
        self, argument: str, values: Sequence[Any], cause: str, *, skip: Sequence[Any] = ()
    ) -> Iterator[Mistake]:
        """Yield the call with each of several other values for an argument."""
        now = self.arguments[argument]
        for value in dict.fromkeys(values):
            if value != now and value not in skip:
                title = f"{self.name} with {argument} {show(value)} instead of {show(now)}"
                yield self.changed(cause, title, **{argument: value})


def sizes_of(value: Any) -> tuple[str, ...] | None:
    """Return the sizes of what torch.export knows of a tensor; None for what is none.

    As text: comparing two sizes that may change would make torch take them for equal from then on.
    """
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(map(str, shape))


def show(value: Any) -> str:
    """Write an argument for a title."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(show, value))}]"
    return str(value)


def bind_arguments(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by the names of the operator's schema, defaults included."""
    bound = {}
    for at, item in enumerate(_schema_arguments(target)):
        if item.name in kwargs:
            bound[item.name] = kwargs[item.name]
        elif at < len(args) and not item.kwarg_only:
            bound[item.name] = args[at]
        else:
            bound[item.name] = item.default_value
    return bound


def call_named(target: Any, named: Mapping[str, Any]) -> Any:
    """Call an operator with arguments by name."""
    items = _schema_arguments(target)
    positional = [named[item.name] for item in items if not item.kwarg_only]
    keywords = {item.name: named[item.name] for item in items if item.kwarg_only}
    return target(*positional, **keywords)


@functools.cache
def _schema_arguments(target: Any) -> tuple[Any, ...]:
    return tuple(target._schema.arguments)  # noqa: SLF001 -- torch has no public way to it
