"""What a named edit is, and what it did."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Edit", "EditResult", "Kind", "Option"]

Kind = Literal["exact", "reassociating", "changes-numerics"]


@dataclass(frozen=True, slots=True)
class EditResult:
    """What an edit did.

    Attributes:
        name: Name of the edit.
        changed: How many places it changed.
        notes: What the user should know, e.g. places it left alone and why.
    """

    name: str
    changed: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {"name": self.name, "changed": self.changed, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class Option:
    """An option of an edit.

    Attributes:
        name: Name, as a keyword of the function.
        type: int, str, bool, or a tuple of strings.
        default: None for one that must be given.
        is_required: Whether it must be given.
    """

    name: str
    type: str
    default: Any
    is_required: bool

    def to_json(self) -> dict[str, Any]:
        """Return the option as plain data."""
        shown = list(self.default) if isinstance(self.default, tuple) else self.default
        return {
            "name": self.name,
            "type": self.type,
            "default": shown,
            "required": self.is_required,
        }


@dataclass(frozen=True, slots=True)
class Edit:
    """A named edit.

    Attributes:
        name: Name on the command line.
        kind: exact: same numbers; reassociating: same formula, sums in another order;
            changes-numerics: another result, and the edit must be allowed to.
        apply: The function: a model and options in, an EditResult out.
        knowledge: What the same is called in msit's surgeon; "" for others.
    """

    name: str
    kind: Kind
    apply: Callable[..., EditResult]
    knowledge: str = ""

    @property
    def summary(self) -> str:
        """The first line of the function's doc string."""
        return (inspect.getdoc(self.apply) or "").partition("\n")[0]

    @property
    def options(self) -> tuple[Option, ...]:
        """What the function takes beside the model."""
        parameters = list(inspect.signature(self.apply).parameters.values())[1:]
        return tuple(
            Option(
                one.name,
                str(one.annotation),
                None if one.default is one.empty else one.default,
                one.default is one.empty,
            )
            for one in parameters
        )

    def to_json(self) -> Mapping[str, Any]:
        """Return the edit's description as plain data."""
        return {
            "name": self.name,
            "class": self.kind,
            "summary": self.summary,
            "knowledge": self.knowledge,
            "options": [one.to_json() for one in self.options],
        }
