"""Pooling, padding and resampling: borders, corners, modes, rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, call_named

__all__ = ["MISTAKES"]

_KINDS = ("nearest-exact", "nearest", "bilinear", "bicubic")
_MODES = {0: "bilinear", 1: "nearest", 2: "bicubic"}
_PADDINGS = {0: "zeros", 1: "border", 2: "reflection"}


def _average(call: Call) -> Iterator[Mistake]:
    padding = call.arguments["padding"]
    if any(padding if isinstance(padding, list | tuple) else [padding]):
        yield from call.others("count_include_pad", (True, False), "input")
    yield Mistake("input", "largest instead of average", _as_other(call, "max_pool"))


def _largest(call: Call) -> Iterator[Mistake]:
    yield Mistake("input", "average instead of largest", _as_other(call, "avg_pool"))


def _as_other(call: Call, kind: str) -> Callable[[dict[str, Any]], Any]:
    from torch.nn import functional

    function = getattr(functional, f"{kind}{call.name[-2:]}")

    def apply(named: dict[str, Any]) -> Any:
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        options = {name: named[name] for name in names if named[name] != []}
        return function(named["self"], **options)

    return apply


def _adaptive(call: Call) -> Iterator[Mistake]:
    from torch.nn import functional

    kind = "max" if "avg" in call.name else "avg"
    function = getattr(functional, f"adaptive_{kind}_pool{call.name[-2:]}")
    title = f"adaptive {'largest' if kind == 'max' else 'average'} pooling in its place"
    yield Mistake("input", title, lambda named: function(named["self"], named["output_size"]))


def _resized(call: Call) -> Iterator[Mistake]:
    """Interpolation: other corners, or another kind."""
    from torch.nn import functional

    if "align_corners" in call.arguments:
        yield from call.others("align_corners", (True, False), "approximation")
    now = next((kind for kind in _KINDS if kind.replace("-", "_") in call.name), "")
    if len(call.sizes() or ()) != 4:
        return
    first = next(iter(call.arguments))
    for kind in _KINDS:
        if kind != now:

            def apply(named: dict[str, Any], kind: str = kind) -> Any:
                size = tuple(call_named(call.node.target, named).shape[-2:])
                return functional.interpolate(named[first], size, mode=kind)

            yield Mistake("approximation", f"{kind} instead of {now} interpolation", apply)


def _grid_sampled(call: Call) -> Iterator[Mistake]:
    yield from call.others("align_corners", (True, False), "approximation")
    for argument, names in (("interpolation_mode", _MODES), ("padding_mode", _PADDINGS)):
        now = call.arguments[argument]
        for value, name in names.items():
            if value != now:
                title = f"grid sample with {name} instead of {names[now]}"
                yield call.changed("approximation", title, **{argument: value})


def _padded(call: Call) -> Iterator[Mistake]:
    pads = list(call.arguments.get("pad", call.arguments.get("padding")) or ())
    name = "pad" if "pad" in call.arguments else "padding"
    if not all(isinstance(one, int) for one in pads):
        return
    mirrored = [pads[at ^ 1] for at in range(len(pads))]
    if mirrored != pads:
        yield call.changed("layout", f"{call.name} on the other side", **{name: mirrored})
    if call.name == "pad":
        for mode in ("constant", "reflect", "replicate"):
            if mode != call.arguments["mode"] and len(pads) < 2 * len(call.sizes() or ()):
                title = f"padding with {mode} instead of {call.arguments['mode']}"
                yield call.changed("input", title, mode=mode, value=None)


def _rounded(call: Call) -> Iterator[Mistake]:
    import torch

    for name in ("round", "floor", "ceil", "trunc"):
        if name != call.name:
            title = f"{name} instead of {call.name}"
            yield call.replaced("approximation", title, getattr(torch, name))


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _average),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _largest),
    **{f"adaptive_{kind}_pool{rank}d": _adaptive for kind in ("avg", "max") for rank in (1, 2, 3)},
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "upsample_nearest2d"), _resized),
    **dict.fromkeys(("_upsample_nearest_exact2d",), _resized),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), _grid_sampled),
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _padded),
    **dict.fromkeys(("round", "floor", "ceil", "trunc"), _rounded),
}
