"""Finds out whether reading tensors changed the result, and which of them did."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.onnxruntime.segments import SegmentRunner, array_of, value_of
from shipway.engines.tapping import TapCheck
from shipway.graph.segments import Segment, SegmentedGraph
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["explain", "same_bits"]

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def explain(
    graph: SegmentedGraph,
    runner: SegmentRunner,
    segments: Sequence[Segment],
    feeds: Tensors,
    expected: Tensors,
    live: Mapping[str, OrtValue],
    rerun: Callable[[Tensors], Mapping[str, NDArray[Any]]],
) -> TapCheck:
    """Hold the outputs of a tapped run against those of an untapped one.

    Where they differ, the graph is run again and again with fewer and fewer nodes read, until the
    node is found from which on it matters.

    Args:
        graph: What was run.
        runner: Runs its segments.
        segments: Those that were run.
        feeds: The inputs.
        expected: Outputs of the untapped run.
        live: Those of the tapped run.
        rerun: Runs untapped once more.
    """
    made = [name for name in graph.outputs if name in graph.maker]
    if _agree({name: live[name] for name in made}, expected):
        return TapCheck(identical=True, perturbed={})
    again = rerun(feeds)
    if not all(same_bits(again[name], expected[name]) for name in made):
        return TapCheck(identical=False, perturbed=_all(graph, _why_random(graph)))
    search = _Search(graph, runner, segments, feeds, expected)
    if not search.agrees(0):
        why = "the optimised graph gives another result once it is loaded again, tapped or not"
        return TapCheck(identical=False, perturbed=_all(graph, why))
    node = search.first_that_matters()
    return TapCheck(identical=False, perturbed=_downstream(graph, node))


def same_bits(golden: NDArray[Any], actual: NDArray[Any]) -> bool:
    """Whether two arrays are equal in dtype, shape and every bit."""
    if (golden.dtype, golden.shape) != (actual.dtype, actual.shape):
        return False
    if golden.dtype == object:
        return bool(np.array_equal(golden, actual))
    left, right = (np.ascontiguousarray(one).reshape(-1) for one in (golden, actual))
    return bool(np.array_equal(left.view(np.uint8), right.view(np.uint8)))


def _agree(values: Mapping[str, OrtValue], expected: Tensors) -> bool:
    return all(
        same_bits(expected[name], array_of(value))
        for name, value in values.items()
        if value.is_tensor()
    )


def _why_random(graph: SegmentedGraph) -> str:
    random = [node for node in graph.nodes if node.op_type in _RANDOM]
    names = ", ".join(f"{node.op_type} '{node.name or node.output[0]}'" for node in random)
    return "the model gives another result in every run" + (f": it has {names}" if names else "")


def _all(graph: SegmentedGraph, why: str) -> dict[str, str]:
    return dict.fromkeys(graph.maker, why)


def _downstream(graph: SegmentedGraph, node: int) -> dict[str, str]:
    first = graph.nodes[node]
    names = [name for name in first.output if name]
    why = f"reading '{names[0]}' ({first.op_type}) changes what is computed after it"
    found = dict.fromkeys(names, why)
    for one, reads in zip(graph.nodes[node + 1 :], graph.reads[node + 1 :], strict=True):
        if not found.keys().isdisjoint(reads):
            found |= {name: f"computed from '{names[0]}': {why}" for name in one.output if name}
    return found


class _Search:
    def __init__(
        self,
        graph: SegmentedGraph,
        runner: SegmentRunner,
        segments: Sequence[Segment],
        feeds: Tensors,
        expected: Tensors,
    ) -> None:
        self._graph = graph
        self._runner = runner
        self._starts = [segment.start for segment in segments]
        self._feeds = feeds
        self._expected = expected

    def agrees(self, count: int) -> bool:
        """Whether the outputs are right where only the first nodes are read, the rest run at once."""
        graph = self._graph
        places = [*(start for start in self._starts if start < count), count]
        live = {name: value_of(self._feeds[name]) for name in graph.inputs}
        for start, end in itertools.pairwise(places):
            segment = graph.segment(start, end)
            values = self._runner.run(segment, live, segment.makes) if segment.makes else {}
            live |= {name: values[name] for name in segment.keeps}
        if count < len(graph.nodes):
            rest = graph.segment(count, len(graph.nodes))
            live |= self._runner.run(rest, live, rest.keeps)
        made = (name for name in graph.outputs if name in graph.maker)
        return _agree({name: live[name] for name in made}, self._expected)

    def first_that_matters(self) -> int:
        """Return the first node whose values cannot be read without changing the result."""
        places = self._graph.places()
        right, wrong = 0, len(places) - 1
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if self.agrees(places[middle]):
                right = middle
            else:
                wrong = middle
        return places[right]
