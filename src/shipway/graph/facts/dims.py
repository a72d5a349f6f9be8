"""Sizes as integers or polynomials over named ones, so that `2*seq` and `seq+seq` are one size.

Every atom stands for an integer that is not negative: a dimension of an input, or the size of
something that only execution knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = [
    "ANY_SIGN",
    "Dim",
    "Poly",
    "add",
    "are_different",
    "atom",
    "atoms_of",
    "divide",
    "is_nonnegative",
    "multiply",
    "product",
    "rename_atoms",
    "subtract",
]

Monomial = tuple[str, ...]


class Poly:
    """A polynomial that is not a plain number: coefficients by their sorted atoms.

    Args:
        terms: Coefficient, never 0, of each monomial; at least one of them names an atom.
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        """Keep the terms."""
        self.terms = terms
        self._hash = hash(frozenset(terms.items()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Poly) and self.terms == other.terms)

    def __repr__(self) -> str:
        return "+".join(
            "*".join((*([str(factor)] if factor != 1 or not atoms else []), *atoms))
            for atoms, factor in sorted(self.terms.items())
        )


Dim = int | Poly


def atom(name: str) -> Poly:
    """Return the size with this name."""
    return Poly({(name,): 1})


def _terms(dim: Dim) -> Mapping[Monomial, int]:
    return dim.terms if isinstance(dim, Poly) else {(): dim}


def _simplest(terms: dict[Monomial, int]) -> Dim:
    found = {atoms: factor for atoms, factor in terms.items() if factor}
    if not found:
        return 0
    if len(found) == 1 and () in found:
        return found[()]
    return Poly(found)


def add(first: Dim, second: Dim, factor: int = 1) -> Dim:
    """Return `first + factor * second`."""
    if isinstance(first, int) and isinstance(second, int):
        return first + factor * second
    terms = dict(_terms(first))
    for atoms, count in _terms(second).items():
        terms[atoms] = terms.get(atoms, 0) + factor * count
    return _simplest(terms)


def subtract(first: Dim, second: Dim) -> Dim:
    """Return `first - second`."""
    return add(first, second, -1)


def multiply(first: Dim, second: Dim) -> Dim:
    """Return the product."""
    if isinstance(first, int) and isinstance(second, int):
        return first * second
    terms: dict[Monomial, int] = {}
    for atoms, count in _terms(first).items():
        for others, times in _terms(second).items():
            both = tuple(sorted(atoms + others))
            terms[both] = terms.get(both, 0) + count * times
    return _simplest(terms)


def product(dims: Iterable[Dim]) -> Dim:
    """Return the product of all; 1 for none."""
    found: Dim = 1
    for dim in dims:
        found = multiply(found, dim)
    return found


def divide(first: Dim, second: Dim) -> Dim | None:
    """Return the quotient where it is exact whatever the atoms are (but 0), else None."""
    if second == 0:
        return None
    if isinstance(first, int) and isinstance(second, int):
        return first // second if first % second == 0 else None
    if first == second:
        return 1
    divisor = _terms(second)
    if len(divisor) != 1:
        return None
    ((atoms, factor),) = divisor.items()
    terms: dict[Monomial, int] = {}
    for monomial, count in _terms(first).items():
        rest = _without(monomial, atoms)
        if rest is None or count % factor:
            return None
        terms[rest] = count // factor
    return _simplest(terms)


def _without(monomial: Monomial, atoms: Monomial) -> Monomial | None:
    rest = list(monomial)
    for name in atoms:
        if name not in rest:
            return None
        rest.remove(name)
    return tuple(rest)


def atoms_of(dim: Dim) -> Iterable[str]:
    """Return the names in a size, in the same order each time; those that occur twice too."""
    return () if isinstance(dim, int) else [name for names in sorted(dim.terms) for name in names]


def rename_atoms(dim: Dim, names: Mapping[str, str]) -> Dim:
    """Return a size with other names, no two of which become one; those not listed stay."""
    if isinstance(dim, int):
        return dim
    return Poly(
        {
            tuple(sorted(names.get(name, name) for name in monomial)): factor
            for monomial, factor in dim.terms.items()
        }
    )


ANY_SIGN = "~"
"""First letter of atoms that may be negative: content that is no size."""


def is_nonnegative(dim: Dim) -> bool:
    """Whether a number is certainly not negative."""
    if isinstance(dim, int):
        return dim >= 0
    return all(
        factor > 0 and not any(name.startswith(ANY_SIGN) for name in atoms)
        for atoms, factor in dim.terms.items()
    )


def are_different(first: Dim, second: Dim) -> bool:
    """Whether two numbers are certainly not equal."""
    gap = subtract(first, second)
    if isinstance(gap, int):
        return gap != 0
    return any(
        isinstance(one, int) and one < 0 and is_nonnegative(other)
        for one, other in ((first, second), (second, first))
    )


def vanishes_with(dim: Dim, other: Dim) -> bool:
    """Whether a size is certainly 0 wherever another one is, which is no plain number."""
    if isinstance(other, int) or isinstance(dim, int):
        return dim == 0
    if len(other.terms) > 1:
        return dim == other or divide(dim, other) is not None
    ((names, _),) = other.terms.items()
    return all(set(names) <= set(atoms) for atoms in dim.terms)
