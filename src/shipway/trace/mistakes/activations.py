"""Activations: another function in their place, another slope, another bound."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, show

__all__ = ["MISTAKES"]

_SLOPES = (0.0, 0.01, 0.1, 0.2, 0.25, 0.3, 1.0)
_BOUNDS = ((0.0, 6.0), (0.0, 1.0), (-1.0, 1.0))
_ONLY_CLIPPED = frozenset({("relu", "relu6"), ("tanh", "hardtanh")})
_NEAR = frozenset(
    frozenset(pair)
    for pair in (
        ("gelu", "quick gelu"),
        ("gelu", "silu"),
        ("silu", "hardswish"),
        ("sigmoid", "hardsigmoid"),
        ("sigmoid", "hardsigmoid of slope 0.2"),
        ("hardsigmoid", "hardsigmoid of slope 0.2"),
        ("gelu", "tanh gelu"),
    )
)
_REPLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "relu": ("identity", "leaky relu 0.01", "leaky relu 0.1", "relu6", "gelu", "silu", "elu"),
    "gelu": ("quick gelu", "silu", "relu", "identity"),
    "silu": ("hardswish", "gelu", "quick gelu", "sigmoid", "relu", "identity"),
    "hardswish": ("silu", "relu6", "relu", "identity"),
    "sigmoid": ("hardsigmoid", "hardsigmoid of slope 0.2", "tanh", "identity"),
    "hardsigmoid": ("sigmoid", "hardsigmoid of slope 0.2", "identity"),
    "tanh": ("hardtanh", "sigmoid", "identity"),
    "mish": ("silu", "identity"),
    "softplus": ("relu", "identity"),
    "elu": ("relu", "leaky relu 0.01", "identity"),
    "leaky_relu": ("identity",),
    "relu6": ("relu", "identity"),
    "exp": ("identity",),
    "abs": ("identity",),
}


@functools.cache
def _functions() -> dict[str, Callable[[Any], Any]]:
    import torch
    from torch.nn import functional

    return {
        "identity": lambda x: x,
        "relu": torch.relu,
        "relu6": functional.relu6,
        "leaky relu 0.01": functools.partial(functional.leaky_relu, negative_slope=0.01),
        "leaky relu 0.1": functools.partial(functional.leaky_relu, negative_slope=0.1),
        "gelu": functional.gelu,
        "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "silu": functional.silu,
        "elu": functional.elu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "hardswish": functional.hardswish,
        "hardsigmoid": functional.hardsigmoid,
        "hardsigmoid of slope 0.2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
        "hardtanh": functional.hardtanh,
    }


def _replaced(call: Call, name: str) -> Iterator[Mistake]:
    for other in _REPLACEMENTS[name]:
        cause = "approximation" if frozenset((name, other)) in _NEAR else "activation"
        cause = "saturation" if (name, other) in _ONLY_CLIPPED else cause
        yield call.replaced(cause, f"{other} instead of {name}", _functions()[other])


def _activation(call: Call) -> Iterator[Mistake]:
    yield from _replaced(call, call.name.removesuffix("_"))


def _gelu(call: Call) -> Iterator[Mistake]:
    other = "tanh" if call.arguments["approximate"] == "none" else "none"
    title = f"gelu in its {'tanh' if other == 'tanh' else 'exact'} form"
    yield call.changed("approximation", title, approximate=other)
    yield from _activation(call)


def _leaky_relu(call: Call) -> Iterator[Mistake]:
    yield from call.others("negative_slope", _SLOPES, "activation")


def _elu(call: Call) -> Iterator[Mistake]:
    yield from call.others("alpha", (0.5, 1.0, 1.6732632), "activation")
    yield from _activation(call)


def _bounded(call: Call, low: str, high: str) -> Iterator[Mistake]:
    now = (call.arguments[low], call.arguments[high])
    words = f"{show(now[0])}..{show(now[1])}"
    yield call.replaced("saturation", f"{call.name} without its bounds {words}", lambda x: x)
    for name, bound in ((low, now[0]), (high, now[1])):
        other = high if name == low else low
        if bound is not None and call.arguments[other] is not None:
            title = f"{call.name} without its {name} {show(bound)}"
            far = float("-inf") if name == low else float("inf")
            yield call.changed("saturation", title, **{name: far})
    for bounds in _BOUNDS:
        if bounds != now:
            title = f"{call.name} to {show(bounds[0])}..{show(bounds[1])} instead of {words}"
            yield call.changed("saturation", title, **{low: bounds[0], high: bounds[1]})


def _clamp(call: Call) -> Iterator[Mistake]:
    limits = (call.arguments["min"], call.arguments["max"])
    if not any(hasattr(limit, "meta") for limit in limits):  # tensors as bounds are left alone
        yield from _bounded(call, "min", "max")


def _hardtanh(call: Call) -> Iterator[Mistake]:
    yield from _bounded(call, "min_val", "max_val")


def _one_bound(call: Call) -> Iterator[Mistake]:
    yield call.replaced("saturation", f"{call.name} left out", lambda x: x)


def _prelu(call: Call) -> Iterator[Mistake]:
    for name, function in (("relu", "relu"), ("identity", "identity")):
        yield call.replaced("activation", f"{name} instead of prelu", _functions()[function])


_PLAIN = ("softplus", "relu6", "relu6_")
_ALSO_IN_PLACE = (
    "relu",
    "silu",
    "hardswish",
    "sigmoid",
    "hardsigmoid",
    "tanh",
    "mish",
    "exp",
    "abs",
)

MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    **dict.fromkeys(_PLAIN, _activation),
    **{f"{name}{suffix}": _activation for name in _ALSO_IN_PLACE for suffix in ("", "_")},
    "gelu": _gelu,
    "gelu_": _gelu,
    "leaky_relu": _leaky_relu,
    "leaky_relu_": _leaky_relu,
    "elu": _elu,
    "elu_": _elu,
    "clamp": _clamp,
    "clamp_": _clamp,
    "clamp_min": _one_bound,
    "clamp_max": _one_bound,
    "hardtanh": _hardtanh,
    "hardtanh_": _hardtanh,
    "prelu": _prelu,
}
