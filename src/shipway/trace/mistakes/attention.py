"""Attention in one operator: its scale, its mask, its softmax, its operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake

__all__ = ["MISTAKES"]


def _attention(call: Call) -> Iterator[Mistake]:
    yield from _scales(call)
    yield from _axes(call)
    if call.arguments.get("attn_mask") is not None:
        yield call.changed("input", "attention without its mask", attn_mask=None)
    else:
        now = bool(call.arguments["is_causal"])
        title = f"attention {'without' if now else 'with'} a causal mask"
        yield call.changed("input", title, is_causal=not now)
    if call.sizes("query") == call.sizes("key"):
        yield call.swapped("query", "key")
    if call.sizes("key") == call.sizes("value"):
        yield call.swapped("key", "value")


def _scales(call: Call) -> Iterator[Mistake]:
    width = (call.sizes("query") or ("",))[-1]
    if not width.isdigit():
        return
    now = call.arguments["scale"]
    usual = 1 / math.sqrt(int(width))
    title = "attention scaled by {:.4g} instead of " + f"{usual if now is None else now:.4g}"
    for scale in (1.0, usual, usual**2, 1 / usual):
        if scale != (usual if now is None else now):
            yield call.changed("input", title.format(scale), scale=scale)


def _axes(call: Call) -> Iterator[Mistake]:
    """Attention written out, its softmax along another axis; only the plain kind."""
    plain = not call.arguments["is_causal"] and not call.arguments.get("enable_gqa")
    rank = len(call.sizes("query") or ())
    if plain and call.arguments["attn_mask"] is None:
        for axis in range(rank - 1):
            title = f"attention with its softmax along axis {axis} instead of {rank - 1}"
            yield Mistake("layout", title, _written_out(axis))


def _written_out(axis: int) -> Callable[[dict[str, Any]], Any]:
    def apply(named: dict[str, Any]) -> Any:
        query, key, value = named["query"], named["key"], named["value"]
        scale = named["scale"]
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        return (query @ key.transpose(-1, -2) * scale).softmax(axis) @ value

    return apply


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    "scaled_dot_product_attention": _attention,
}
