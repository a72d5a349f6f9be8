"""What Shipway knows about a tensor without its values: name, dtype, shape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import TensorError, UsageError

__all__ = [
    "ANY",
    "DTYPES",
    "DType",
    "Dim",
    "TensorSpec",
    "Tensors",
    "bind_dims",
    "check_feeds",
    "dtype_named",
    "dtype_of",
    "parse_spec",
    "random_feeds",
]

Tensors = Mapping[str, NDArray[Any]]
Dim = int | str
ANY = "?"
"""A dimension without a name that may take any size."""


@dataclass(frozen=True, slots=True)
class DType:
    """One element type under the names every tool gives it.

    `onnx` is the TensorProto enum, `acl` the aclDataType enum of Ascend CL (None: no such type),
    `openvino` the name of the OpenVINO element type.
    """

    name: str
    aliases: tuple[str, ...]
    onnx: int
    acl: int | None
    openvino: str

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype; bfloat16 comes from ml_dtypes."""
        if self.name == "bfloat16":
            import ml_dtypes

            bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return bfloat16
        return np.dtype(self.name)

    @property
    def is_float(self) -> bool:
        """Whether rounding errors are to be expected."""
        return "float" in self.name


DTYPES: tuple[DType, ...] = (
    DType("float32", ("f32", "float", "fp32"), 1, 0, "f32"),
    DType("float16", ("f16", "half", "fp16"), 10, 1, "f16"),
    DType("bfloat16", ("bf16",), 16, 27, "bf16"),
    DType("float64", ("f64", "double", "fp64"), 11, 11, "f64"),
    DType("int8", ("i8",), 3, 2, "i8"),
    DType("int16", ("i16",), 5, 6, "i16"),
    DType("int32", ("i32", "int"), 6, 3, "i32"),
    DType("int64", ("i64", "long"), 7, 9, "i64"),
    DType("uint8", ("u8",), 2, 4, "u8"),
    DType("uint16", ("u16",), 4, 7, "u16"),
    DType("uint32", ("u32",), 12, 8, "u32"),
    DType("uint64", ("u64",), 13, 10, "u64"),
    DType("bool", ("boolean",), 9, 12, "boolean"),
)

_BY_NAME = {name: dtype for dtype in DTYPES for name in (dtype.name, *dtype.aliases)}
_BY_ONNX = {dtype.onnx: dtype for dtype in DTYPES}


def dtype_named(name: str) -> DType:
    """Return the dtype with this name or alias.

    Raises:
        TensorError: No such dtype.

    Example:
        >>> dtype_named("f16").name
        'float16'
    """
    try:
        return _BY_NAME[name.lower()]
    except KeyError:
        known = ", ".join(dtype.name for dtype in DTYPES)
        raise TensorError(f"Unknown dtype '{name}'.", hint=f"One of: {known}.") from None


def dtype_of(key: int | np.dtype[Any]) -> DType:
    """Return the dtype for an ONNX TensorProto enum or a numpy dtype.

    Raises:
        TensorError: Shipway does not carry this element type.
    """
    found = _BY_ONNX.get(key) if isinstance(key, int) else _BY_NAME.get(key.name)
    if found is None:
        label = f"ONNX element type {key}" if isinstance(key, int) else f"numpy dtype {key}"
        raise TensorError(f"{label} is not supported.")
    return found


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one model input or output.

    Args:
        name: Tensor name; "" stands for the only input of a model.
        dtype: A name from `DTYPES`.
        shape: One entry a dimension: an int is fixed, a str is a symbolic size shared by every
            dimension of that name, `ANY` is free. None where the rank itself is unknown.
        value_range: Smallest and largest value that makes sense (say, token ids). Random inputs
            stay inside it; None takes the default of the dtype.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    value_range: tuple[float, float] | None = None

    @property
    def dynamic_dims(self) -> tuple[str, ...]:
        """Names of the symbolic dimensions, in order, `ANY` left out."""
        names = (dim for dim in self.shape or () if isinstance(dim, str) and dim != ANY)
        return tuple(dict.fromkeys(names))

    def __str__(self) -> str:
        """Write the spec the way `parse_spec` reads it."""
        name = f"{self.name}:" if self.name else ""
        dims = _UNKNOWN_RANK if self.shape is None else ",".join(str(dim) for dim in self.shape)
        bounds = [repr(float(bound)).removesuffix(".0") for bound in self.value_range or ()]
        limits = f"{{{'..'.join(bounds)}}}" if bounds else ""
        return f"{name}{self.dtype}[{dims}]{limits}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        shape = None if self.shape is None else list(self.shape)
        limits = None if self.value_range is None else list(self.value_range)
        return {"name": self.name, "dtype": self.dtype, "shape": shape, "value_range": limits}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        """Read what `to_json` wrote."""
        shape = None if data["shape"] is None else tuple(data["shape"])
        limits = data.get("value_range")
        return cls(data["name"], data["dtype"], shape, None if limits is None else tuple(limits))


_BRACKETS = re.compile(
    r"(?:(?P<name>.+?):)?(?P<dtype>[A-Za-z]\w*)?\[(?P<dims>[^\[\]]*)\](?:\{(?P<range>[^{}]*)\})?"
)
_CROSSES = re.compile(
    r"(?:(?P<name>.+?):)?"
    rf"(?:(?P<dtype>(?i:{'|'.join(_BY_NAME)})):)?"
    r"(?P<dims>(?:[0-9]+|\?|-1)(?:x(?:[0-9]+|\?|-1))*)"
)
_NUMBER = re.compile(r"[0-9]+")
_SYMBOL = re.compile(r"[A-Za-z_][\w.]*")
_UNKNOWN_RANK = "..."


def parse_spec(text: str) -> TensorSpec:
    """Read a tensor spec in either habit.

    Accepted: `name:dtype[d0,d1]`, `name:[d0,d1]`, `dtype[d0,d1]`, `[d0,d1]`, `name:1x3x224x224`,
    `name:dtype:1x3x224x224`, `1x3x224x224`. A dimension is a number, a symbolic name (brackets
    only; letters, digits, `_` and `.`), or `?` / `-1` for a free one; `[...]` is any rank. The dtype
    is float32 where none is given. `{low..high}` after the brackets limits random values.

    Raises:
        UsageError: The text is not a spec; the message shows the forms.
        TensorError: The dtype is unknown.

    Example:
        >>> str(parse_spec("image:f32[batch,3,224,224]"))
        'image:float32[batch,3,224,224]'
        >>> parse_spec("x:1x3x8x8").shape
        (1, 3, 8, 8)
        >>> parse_spec("ids:int64[1,77]{0..49407}").value_range
        (0.0, 49407.0)
    """
    match = _BRACKETS.fullmatch(text) or _CROSSES.fullmatch(text)
    if match is None:
        raise _bad_spec(text, "not a tensor spec")
    groups = match.groupdict()
    separator = "x" if match.re is _CROSSES else ","
    dtype = dtype_named(groups["dtype"] or "float32").name
    shape = _parse_dims(text, groups["dims"].strip(), separator)
    return TensorSpec(groups["name"] or "", dtype, shape, _parse_range(text, groups.get("range")))


def _bad_spec(text: str, why: str) -> UsageError:
    return UsageError(
        f"'{text}' is {why}.",
        hint="Write name:dtype[d0,d1,...] or name:1x3x224x224, e.g. image:float32[batch,3,224,224].",
    )


def _parse_dims(text: str, dims: str, separator: str) -> tuple[Dim, ...] | None:
    if dims == _UNKNOWN_RANK:
        return None
    return tuple(_parse_dim(text, part.strip()) for part in dims.split(separator)) if dims else ()


def _parse_dim(text: str, part: str) -> Dim:
    if part in {ANY, "-1"}:
        return ANY
    if _NUMBER.fullmatch(part):
        return int(part)
    if _SYMBOL.fullmatch(part):
        return part
    raise _bad_spec(text, f"not a tensor spec: '{part}' is no dimension")


def _parse_range(text: str, limits: str | None) -> tuple[float, float] | None:
    if limits is None:
        return None
    low, _, high = limits.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (math.nan, math.nan)
    if not -math.inf < bounds[0] <= bounds[1] < math.inf:
        raise _bad_spec(text, f"not a tensor spec: '{{{limits}}}' is no range low..high")
    return bounds


def bind_dims(specs: Iterable[TensorSpec], sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """Return the specs with each symbolic dimension in `sizes` replaced by its size."""
    return tuple(
        TensorSpec(
            spec.name,
            spec.dtype,
            None
            if spec.shape is None
            else tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape),
            spec.value_range,
        )
        for spec in specs
    )


def random_feeds(
    specs: Iterable[TensorSpec], *, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Make repeatable random inputs.

    Floats are standard normal, integers 0 or 1, booleans fair coins, unless the spec has a
    `value_range`: then uniform inside it. Every dimension still symbolic after `sizes` becomes 1.

    Args:
        specs: The inputs wanted; each must have a known rank.
        seed: Same seed, same numbers, on every machine.
        sizes: Size of each symbolic dimension.

    Raises:
        TensorError: A spec has no known rank, a range its dtype cannot hold, or a size the memory
            cannot.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for spec in bind_dims(specs, sizes or {}):
        if spec.shape is None:
            raise TensorError(
                f"Input '{spec.name}' has no known rank, so no random value can be made for it.",
                hint=f"Give its shape: --input '{spec.name}:{spec.dtype}[1,...]'.",
            )
        shape = tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape)
        try:
            feeds[spec.name] = _random(generator, spec, shape)
        except (MemoryError, ValueError) as error:  # numpy: too large for the machine, or for any
            raise TensorError(
                f"There is not enough memory for input '{spec.name}': {spec}.",
                hint="Is the size meant? A dynamic dimension can be given another: --size NAME=4.",
            ) from error
    return feeds


def _random(
    generator: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]
) -> NDArray[Any]:
    dtype = dtype_named(spec.dtype)
    if dtype.is_float and spec.value_range is None:
        return np.asarray(generator.standard_normal(shape)).astype(dtype.numpy)
    low, high = spec.value_range or (0.0, 1.0)
    smallest, largest = _limits(dtype)
    whole = not dtype.is_float and math.ceil(low) > math.floor(high)
    if low < smallest or high > largest or whole or math.isinf(high - low):
        raise TensorError(
            f"No {dtype.name} fills the range {{{low}..{high}}} of input '{spec.name}'.",
            hint=f"Give a range inside {smallest}..{largest}, with a value of that type in it.",
        )
    if dtype.is_float:
        return np.asarray(generator.uniform(low, high, shape)).astype(dtype.numpy)
    first, last = math.ceil(low), math.floor(high)
    return np.asarray(generator.integers(first, last, shape, dtype.numpy, endpoint=True))


def _limits(dtype: DType) -> tuple[float, float]:
    """Return the smallest and largest finite value of a dtype, exact where it is whole."""
    if dtype.name == "bool":
        return 0, 1
    if dtype.is_float:
        import ml_dtypes

        return float(ml_dtypes.finfo(dtype.numpy).min), float(ml_dtypes.finfo(dtype.numpy).max)
    return int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)


def check_feeds(specs: Iterable[TensorSpec], feeds: Tensors) -> dict[str, int]:
    """Check names, dtypes and shapes of `feeds` against `specs` and return the symbolic sizes.

    Raises:
        TensorError: An input is missing or unknown, or has the wrong dtype, rank or size, an integer
            outside the spec's range, or two
            dimensions of one symbolic name have different sizes. The message names the tensor.

    Example:
        >>> check_feeds([TensorSpec("x", "float32", ("n", 2))], {"x": np.zeros((5, 2), "float32")})
        {'n': 5}
    """
    wanted = {spec.name: spec for spec in specs}
    expected = ", ".join(str(spec) for spec in wanted.values())
    for problem, names in (
        ("without a value", [name for name in wanted if name not in feeds]),
        ("the model does not have", [name for name in feeds if name not in wanted]),
    ):
        if names:
            raise TensorError(f"Inputs {problem}: {', '.join(names)}.", hint=f"Expects {expected}.")
    sizes: dict[str, int] = {}
    for name, spec in wanted.items():
        _check_one(spec, feeds[name], sizes)
    return sizes


def _check_one(spec: TensorSpec, value: NDArray[Any], sizes: dict[str, int]) -> None:
    if value.dtype != dtype_named(spec.dtype).numpy:
        raise TensorError(
            f"Input '{spec.name}' has dtype {value.dtype}; the model takes {spec.dtype}.",
            hint=f"Convert it: array.astype('{spec.dtype}').",
        )
    _check_range(spec, value)
    if spec.shape is None:
        return
    if value.ndim != len(spec.shape):
        raise _wrong_shape(spec, value, f"has {value.ndim} dimensions, not {len(spec.shape)}")
    for axis, (dim, size) in enumerate(zip(spec.shape, value.shape, strict=True)):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) and dim != ANY else dim
        if expected not in {ANY, size}:
            label = f" ('{dim}')" if isinstance(dim, str) else ""
            raise _wrong_shape(spec, value, f"axis {axis}{label} is {size}, not {expected}")


def _check_range(spec: TensorSpec, value: NDArray[Any]) -> None:
    # Floats may stray; an index outside its table reads foreign memory in some engines.
    if spec.value_range is None or dtype_named(spec.dtype).is_float or not value.size:
        return
    low, high = spec.value_range
    smallest, largest = value.min(), value.max()
    if smallest < low or largest > high:
        raise TensorError(
            f"Input '{spec.name}' has values from {smallest} to {largest}.",
            hint=f"The model takes {low:g} to {high:g}: {spec}.",
        )


def _wrong_shape(spec: TensorSpec, value: NDArray[Any], why: str) -> TensorError:
    return TensorError(
        f"Input '{spec.name}' has shape {list(value.shape)}: {why}.", hint=f"Expects {spec}."
    )
