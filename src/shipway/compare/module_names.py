"""The names that module hooks give: a tensor called by the module that returned it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from shipway.engines.tapping import Tap

__all__ = ["module_names"]


def module_names(taps: Sequence[Tap]) -> Iterator[tuple[str, str]]:
    """Yield the path of each module with the name of the tensor that it returns.

    That is the last one computed in it, where it has no modules inside: of one that has, any could
    be returned. The tensors of a call lie together; a second call of the same module is `path#2`.

    Args:
        taps: In the order of execution.

    Example:
        >>> taps = [Tap("linear", 0, module="fc"), Tap("relu", 1), Tap("linear_1", 2, module="fc")]
        >>> list(module_names(taps))
        [('fc', 'linear'), ('fc#2', 'linear_1')]
    """
    paths = {tap.module for tap in taps}
    parents = {path[:end] for path in paths for end, char in enumerate(path) if char == "."}
    calls: Counter[str] = Counter()
    for path, run in groupby(taps, key=lambda tap: tap.module):
        if not path or path in parents:
            continue
        calls[path] += 1
        *_, last = run
        yield (path if calls[path] == 1 else f"{path}#{calls[path]}"), last.name
