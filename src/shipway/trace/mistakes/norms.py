"""Normalisations: another epsilon, no scale, no shift, other statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, call_named

__all__ = ["MISTAKES"]

_EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1)
_SMALL = 0.02
"""Numbers up to this that are added to a tensor are taken for an epsilon."""


def _epsilons(now: float) -> list[float]:
    """Return the usual ones, and the declared one a power of ten off; each once."""
    candidates = (now * 10, now / 10, *_EPSILONS)
    return [one for one in dict.fromkeys(float(f"{one:.6g}") for one in candidates) if one != now]


def _norm(call: Call) -> Iterator[Mistake]:
    now = call.arguments["eps"]
    if now is not None:
        yield from call.others("eps", _epsilons(now), "approximation")
    if call.arguments.get("weight") is not None:
        yield call.changed("gain", f"{call.name} without its weight", weight=None)
    if call.arguments.get("bias") is not None:
        yield call.changed("offset", f"{call.name} without its bias", bias=None)


def _batch_norm(call: Call) -> Iterator[Mistake]:
    yield from _norm(call)
    yield from _unshifted(call)
    flag = "training" if "training" in call.arguments else "train"
    if call.arguments.get(flag) is False:
        title = "batch norm with the statistics of this batch"
        # Without running statistics to update: the call must not write to the model's own.
        yield call.changed(
            "input", title, **{flag: True, "running_mean": None, "running_var": None}
        )


def _unshifted(call: Call) -> Iterator[Mistake]:
    """Folded into the convolution before it, whose bias is then dropped."""
    target = call.node.target

    def apply(named: dict[str, Any]) -> Any:
        mean = named["running_mean"] * 0
        return call_named(target, {**named, "bias": None, "running_mean": mean})

    if call.arguments.get("running_mean") is not None:
        yield Mistake("offset", "batch norm, folded, without the bias that comes of it", apply)


def _group_norm(call: Call) -> Iterator[Mistake]:
    yield from _norm(call)
    sizes = call.sizes("input")
    channels = sizes[1] if sizes else ""
    if channels.isdigit():
        count = int(channels)
        groups = [one for one in (1, 2, 4, 8, 16, 32, count) if count % one == 0]
        yield from call.others("num_groups", groups, "input")


def _epsilon_added(call: Call) -> Iterator[Mistake]:
    now = call.arguments.get("other")
    if isinstance(now, float) and 0 < now <= _SMALL:
        yield from call.others("other", _epsilons(now), "approximation")


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    "layer_norm": _norm,
    "native_layer_norm": _norm,
    "rms_norm": _norm,
    "instance_norm": _norm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _norm,
    "group_norm": _group_norm,
    "add": _epsilon_added,
    "add_": _epsilon_added,
}
