"""Which tensors are read in one run: no more than fit in memory, none that change the result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Separation", "chunks_of", "separate"]


def chunks_of(
    names: Sequence[str], sizes: Mapping[str, int], max_bytes: int, most: int
) -> list[tuple[str, ...]]:
    """Cut tensors into runs of neighbours that are held in memory together.

    Args:
        names: The tensors, in the order of execution.
        sizes: Their sizes in bytes.
        max_bytes: What a run may hold; a tensor that is larger has a run of its own.
        most: How many runs there may be at most: the limit gives way rather than this.

    Example:
        >>> chunks_of("abcd", {"a": 3, "b": 3, "c": 9, "d": 1}, 6, 8)
        [('a', 'b'), ('c',), ('d',)]
    """
    limit = max(max_bytes, 1)
    while True:
        chunks: list[list[str]] = []
        held = 0
        for name in names:
            held += sizes[name]
            if not chunks or held > limit:
                chunks.append([])
                held = sizes[name]
            chunks[-1].append(name)
        if len(chunks) <= most:
            return [tuple(chunk) for chunk in chunks]
        limit *= 2


@dataclass(slots=True)
class Separation:
    """How the tensors of a chunk are read.

    Args:
        together: Groups that leave the result as it is; each is read in one run.
        perturbing: Tensors that change it even when read alone; each is read in a run of its own.
        undecided: Groups that change it and were not taken apart, for lack of attempts.
    """

    together: list[tuple[str, ...]] = field(default_factory=list)
    perturbing: list[str] = field(default_factory=list)
    undecided: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """What is read in each run."""
        return [*self.together, *((name,) for name in self.perturbing), *self.undecided]


def separate(
    names: Sequence[str],
    keeps: Callable[[Sequence[str]], bool],
    attempts: int,
    suspects: Collection[str] = (),
) -> tuple[Separation, int]:
    """Find out which tensors change the result when they are read.

    Suspects are tried one by one, the others by halving.

    Args:
        names: Tensors that change the result when all are read at once.
        keeps: Says whether reading these tensors leaves the result as it is; slow.
        attempts: How often `keeps` may be called.
        suspects: Those of them that are likely to be the cause.

    Returns:
        How to read them, and how many attempts are left.

    Example:
        >>> found, left = separate("abcdefgh", lambda names: "c" not in names, 20)
        >>> found.together, found.perturbing
        ([('a', 'b', 'd', 'e', 'f', 'g', 'h')], ['c'])
        >>> left
        13
        >>> separate("abcdefgh", lambda names: "c" not in names, 20, "c")[1]
        18
    """
    search = _Search(keeps, attempts)
    others = tuple(name for name in names if name not in suspects)
    doubtful = [(name,) for name in names if name in suspects]
    for group in filter(None, (others, *doubtful)):
        if len(group) < len(names):
            search.try_group(group)
        else:
            search.halve(group)  # all at once were tried
    search.join(names)
    return search.found, search.left


class _Search:
    """A search with a limit on the attempts."""

    def __init__(self, keeps: Callable[[Sequence[str]], bool], attempts: int) -> None:
        self.found = Separation()
        self.left = attempts
        self._keeps = keeps

    def try_group(self, group: tuple[str, ...]) -> None:
        """Find out how to read a group."""
        answer = self._ask(group)
        if answer:
            self.found.together.append(group)
        elif answer is None:
            self.found.undecided.append(group)
        else:
            self.halve(group)

    def halve(self, group: tuple[str, ...]) -> None:
        """Take a group apart that changes the result."""
        middle = len(group) // 2
        if not middle:
            self.found.perturbing.append(group[0])
            return
        self.try_group(group[:middle])
        self.try_group(group[middle:])

    def join(self, names: Sequence[str]) -> None:
        """Read all harmless groups at once, if that is harmless, too."""
        harmless = {name for group in self.found.together for name in group}
        joined = tuple(name for name in names if name in harmless)
        if len(self.found.together) > 1 and self._ask(joined):
            self.found.together = [joined]

    def _ask(self, group: Sequence[str]) -> bool | None:
        if not self.left:
            return None
        self.left -= 1
        return self._keeps(group)
