"""A tensor in a few numbers: enough to recognise it again, in any layout, without its values."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.tensors import dtype_of

__all__ = ["QUANTILES", "Statistics", "summarize", "tensor_crc"]

QUANTILES = 33
_BLOCK = 1 << 20
_PLACES = 1 << 16
_SEED = 20261130


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is kept of a tensor.

    Numbers are of the finite elements, in float64; None where there are none. A sum that even
    float64 cannot hold is infinite, and null in JSON.

    Args:
        count: Elements.
        nan_count: Elements that are NaN.
        inf_count: Elements that are +Inf or -Inf.
        nonfinite_crc: CRC-32 of the flat positions (int64, ascending) and kinds of NaN, +Inf and
            -Inf; 0 where all are finite.
        min: Smallest element.
        max: Largest element.
        mean: Mean.
        l2: Square root of the sum of squares.
        quantiles: 33 elements at evenly spaced places of the sorted tensor, first and last
            included; fewer where there are fewer elements.
        channel_axis: Axis of `channel_l2`: 1 from rank 3 on, else the last; None for 0-d.
        channel_l2: L2 of each slice along that axis.
        crc: CRC-32 of the bytes in C order.
        projections: Two sums of the elements in C order, each with a weight that only its place
            decides, as shares of `l2`: equal for the same numbers in the same order, under any
            shape. Empty where nothing is finite, or where they were not kept.
    """

    count: int
    nan_count: int
    inf_count: int
    nonfinite_crc: int
    min: float | None
    max: float | None
    mean: float | None
    l2: float
    quantiles: tuple[float, ...]
    channel_axis: int | None
    channel_l2: tuple[float, ...]
    crc: int
    projections: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "mean": _json_number(self.mean),
            "l2": _json_number(self.l2),
            "quantiles": list(self.quantiles),
            "channel_l2": [_json_number(one) for one in self.channel_l2],
            "projections": list(self.projections),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statistics:
        """Read what `to_json` wrote."""
        return cls(
            **{
                **{name: data[name] for name in cls.__dataclass_fields__ if name in data},
                "l2": _read_norm(data["l2"]),
                "quantiles": tuple(data["quantiles"]),
                "channel_l2": tuple(map(_read_norm, data["channel_l2"])),
                "projections": tuple(data.get("projections", ())),
            }
        )


def _json_number(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _read_norm(number: float | None) -> float:
    return math.inf if number is None else number


@np.errstate(over="ignore")
def summarize(tensor: NDArray[Any]) -> Statistics:
    """Compute the statistics of a tensor.

    Args:
        tensor: Any shape, any dtype of `shipway.tensors.DTYPES`.

    Raises:
        TensorError: The dtype is not one of Shipway's.

    Example:
        >>> summarize(np.array([[3.0, 4.0]], np.float32)).l2
        5.0
    """
    dtype = dtype_of(tensor.dtype)
    contiguous = np.ascontiguousarray(tensor).reshape(tensor.shape)  # 0-d stays 0-d
    crc = tensor_crc(contiguous)
    flat = contiguous.reshape(-1)
    if dtype.name == "bfloat16":
        flat = flat.astype(np.float32)
    finite = flat
    nan_count = inf_count = nonfinite_crc = 0
    if dtype.is_float and not np.isfinite(flat).all():
        nan, inf = np.isnan(flat), np.isinf(flat)
        nan_count, inf_count = int(nan.sum()), int(inf.sum())
        nonfinite_crc = _crc_of_places(flat, nan, inf)
        finite = flat[~(nan | inf)]
    axis, channels = _channels(contiguous)
    return Statistics(
        count=int(flat.size),
        nan_count=nan_count,
        inf_count=inf_count,
        nonfinite_crc=nonfinite_crc,
        min=float(finite.min()) if finite.size else None,
        max=float(finite.max()) if finite.size else None,
        mean=float(finite.mean(dtype=np.float64)) if finite.size else None,
        l2=math.sqrt(_square_sum(finite)),
        quantiles=_quantiles(finite),
        channel_axis=axis,
        channel_l2=channels,
        crc=crc,
        projections=_projections(flat),
    )


def tensor_crc(tensor: NDArray[Any]) -> int:
    """Return the CRC-32 of a tensor's bytes in C order."""
    return zlib.crc32(np.asarray(tensor, order="C").reshape(-1).view(np.uint8).data)


def _crc_of_places(flat: NDArray[Any], nan: NDArray[np.bool_], inf: NDArray[np.bool_]) -> int:
    crc = 0
    for places in (nan, inf & (flat > 0), inf & (flat < 0)):
        crc = zlib.crc32(np.flatnonzero(places).astype(np.int64).tobytes(), crc + 1)
    return crc


def _square_sum(values: NDArray[Any]) -> float:
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        total += float(np.einsum("i,i->", block, block))
    return total


@functools.cache
def _weights() -> NDArray[np.float64]:
    """Return the weights of the places in a block: one row a projection."""
    return np.random.default_rng(_SEED).choice([-1.0, 1.0], (2, _PLACES))


@np.errstate(all="ignore")
def _projections(flat: NDArray[Any]) -> tuple[float, ...]:
    sums, energy = np.zeros(2), 0.0
    for number, start in enumerate(range(0, flat.size, _PLACES)):
        block = flat[start : start + _PLACES].astype(np.float64)
        energy_of = float(np.einsum("i,i->", block, block))
        if not math.isfinite(energy_of):
            block[~np.isfinite(block)] = 0
            energy_of = float(np.einsum("i,i->", block, block))
        # Every block counts with a weight of its own, so that blocks cannot change places unseen.
        sums += np.cos([1.0 + number, 2.0 + 1.7 * number]) * (_weights()[:, : block.size] @ block)
        energy += energy_of
    if not energy or not math.isfinite(energy):
        return ()
    return tuple(map(float, sums / math.sqrt(energy)))


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    if not values.size:
        return ()
    places = np.unique(
        np.linspace(0, values.size - 1, min(values.size, QUANTILES)).astype(np.int64)
    )
    if values.itemsize > 1:  # numpy's vectorised sort is several times faster than its partition
        return tuple(map(float, np.sort(values)[places]))
    return tuple(map(float, np.partition(values, places)[places]))


def _channels(tensor: NDArray[Any]) -> tuple[int | None, tuple[float, ...]]:
    if not tensor.ndim:
        return None, ()
    axis = 1 if tensor.ndim >= 3 else tensor.ndim - 1
    sums = np.zeros(tensor.shape[axis])
    lead = math.prod(tensor.shape[:axis])
    for part in tensor.reshape(lead, tensor.shape[axis], -1) if tensor.size else ():
        wide = part.astype(np.float64)
        wide[~np.isfinite(wide)] = 0
        sums += np.einsum("ci,ci->c", wide, wide)
    return axis, tuple(map(float, np.sqrt(sums)))
