"""How an image becomes the model's input, as data that reads and writes as one line of text."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import DatasetError, UsageError
from shipway.evaluate.images import INTERPOLATIONS, crop_image, load_image, resize_image, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PRESETS", "Preprocess", "load_image", "parse_preprocess"]

_EXAMPLE = (
    "resize 256 bicubic, crop 224, scale 1/255, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Steps in the order they are taken: resize, crop, channels, scale, mean, std, layout.

    Values are computed as `(pixel * a / b - mean) / std` in float32, which is torchvision's
    ToTensor and Normalize bit for bit where the scale is 1/255.

    Args:
        resize: Length of the shorter side, or (height, width); None keeps the size.
        interpolation: One of `INTERPOLATIONS`; "" where there is no resize.
        crop: (height, width) of the centre; None keeps everything.
        scale: (a, b): pixels in 0..255 are multiplied by a and divided by b.
        mean: Subtracted after scaling: one value, or one a channel in the model's order.
        std: Divides after that; likewise.
        order: "RGB" or "BGR".
        channels: 3, or 1 for luma (Pillow's "L").
        layout: "nchw" or "nhwc": where the channels of a batch are.
        dtype: "float32", or "uint8" for models that scale by themselves.

    Raises:
        UsageError: A value makes no sense, or two of them together.
    """

    resize: int | tuple[int, int] | None = None
    interpolation: str = ""
    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 255.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: str = "RGB"
    channels: int = 3
    layout: str = "nchw"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        for problem in (*_size_problems(self), *_value_problems(self)):
            raise UsageError(f"Preprocessing: {problem}.", hint=f"For example '{_EXAMPLE}'.")

    def __str__(self) -> str:
        """Write the line that `parse_preprocess` reads back."""
        return "none" if self == PRESETS["none"] else ", ".join(_steps(self))

    def apply(self, image: Image) -> NDArray[Any]:
        """Turn one image into one sample.

        Args:
            image: Any mode; made RGB first, as `load_image` does.

        Returns:
            float32 or uint8, shape (channels, height, width), or (height, width, channels) with
            layout "nhwc". No batch axis.

        Raises:
            DatasetError: The image has no pixels, or would become too large.
        """
        if not image.width or not image.height:
            raise DatasetError(f"an image of {image.width}x{image.height} pixels")
        image = to_rgb(image)
        if self.channels == 1:
            image = image.convert("L")
        if self.resize is not None:
            image = resize_image(image, self.resize, self.interpolation)
        if self.crop is not None:
            image = crop_image(image, self.crop)
        pixels = np.asarray(image).reshape(image.height, image.width, self.channels)
        if self.order == "BGR":
            pixels = pixels[:, :, ::-1]
        if self.layout == "nchw":
            pixels = pixels.transpose(2, 0, 1)
        return self._normalize(pixels)

    def apply_array(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scale one sample that came from an array; with preset "none" it passes as it is.

        Args:
            values: One sample without batch axis, in the layout named by `layout`.

        Raises:
            DatasetError: `mean` or `std` has another number of values than there are channels.
        """
        if self == PRESETS["none"]:
            return values
        return self._normalize(values)

    @property
    def image_steps(self) -> tuple[str, ...]:
        """The steps that only an image can take, as text; empty where arrays can take them all."""
        only = ("resize ", "crop ", "channels ", "order BGR", "dtype uint8")
        return tuple(step for step in _steps(self) if step.startswith(only))

    def _normalize(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if self.dtype == "uint8":
            return np.ascontiguousarray(pixels)
        values = np.array(pixels, dtype=np.float32, order="C")
        factor, divisor = np.float32(self.scale[0]), np.float32(self.scale[1])
        if factor != 1:
            values *= factor
        if divisor != 1:
            values /= divisor
        if self.mean:
            values -= self._per_channel(self.mean, values)
        if self.std:
            values /= self._per_channel(self.std, values)
        return values

    def _per_channel(self, numbers: tuple[float, ...], values: NDArray[Any]) -> NDArray[Any]:
        if len(numbers) == 1:
            return np.asarray(numbers[0], dtype=np.float32)
        axis = 0 if self.layout == "nchw" else -1
        if not values.ndim or values.shape[axis] != len(numbers):
            raise DatasetError(
                f"{len(numbers)} values of mean or std do not fit a sample of shape "
                f"{list(values.shape)} in layout {self.layout}"
            )
        shape = [1] * values.ndim
        shape[axis] = len(numbers)
        return np.asarray(numbers, dtype=np.float32).reshape(shape)


def _size_problems(spec: Preprocess) -> Iterator[str]:
    sides = [
        side
        for size in (spec.resize, spec.crop)
        if size is not None
        for side in (size if isinstance(size, tuple) else (size,))
    ]
    if any(side < 1 for side in sides):
        yield f"a size of {min(sides)} pixels"
    if spec.resize is not None and spec.interpolation not in INTERPOLATIONS:
        choices = ", ".join(INTERPOLATIONS)
        given = f"; '{spec.interpolation}' is none" if spec.interpolation else ""
        yield f"resize needs an interpolation ({choices}){given}"
    if spec.resize is None and spec.interpolation:
        yield f"interpolation '{spec.interpolation}' without a resize"


def _value_problems(spec: Preprocess) -> Iterator[str]:
    for name, choices in _CHOICES.items():
        if getattr(spec, name) not in choices:
            yield f"{name} is {getattr(spec, name)}, not {' or '.join(map(str, choices))}"
    for name in ("mean", "std"):
        numbers = getattr(spec, name)
        if len(numbers) not in {0, 1, spec.channels}:
            yield f"{name} has {len(numbers)} values for {spec.channels} channels"
    if not all(map(_fits_float32, (*spec.scale, *spec.mean, *spec.std))):
        yield "a number is not finite in float32"
    elif any(np.float32(number) == 0 for number in (*spec.scale, *spec.std)):
        yield "scale or std is 0"
    if spec.channels == 1 and spec.order != "RGB":
        yield "order BGR with one channel"
    if spec.dtype == "uint8" and (spec.scale != (1.0, 1.0) or spec.mean or spec.std):
        yield "dtype uint8 leaves no room for scale, mean or std"


def _fits_float32(number: float) -> bool:
    return math.isfinite(number) and abs(number) <= float(np.finfo(np.float32).max)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "order": ("RGB", "BGR"),
    "channels": (3, 1),
    "layout": ("nchw", "nhwc"),
    "dtype": ("float32", "uint8"),
}


def _steps(spec: Preprocess) -> list[str]:
    steps = []
    if spec.resize is not None:
        steps.append(f"resize {_size_text(spec.resize)} {spec.interpolation}")
    if spec.crop is not None:
        height, width = spec.crop
        steps.append(f"crop {_size_text(height if height == width else spec.crop)}")
    if spec.channels != 3:
        steps.append(f"channels {spec.channels}")
    factor, divisor = map(_number_text, spec.scale)
    steps.append(f"scale {factor}" if divisor == "1" else f"scale {factor}/{divisor}")
    for name, numbers in (("mean", spec.mean), ("std", spec.std)):
        if numbers:
            steps.append(" ".join((name, *map(_number_text, numbers))))
    if spec.channels == 3:
        steps.append(f"order {spec.order}")
    if spec.layout != "nchw":
        steps.append(f"layout {spec.layout}")
    if spec.dtype != "float32":
        steps.append(f"dtype {spec.dtype}")
    return steps


def _size_text(size: int | tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else str(size)


def _number_text(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _imagenet(interpolation: str) -> Preprocess:
    return Preprocess(
        resize=256,
        interpolation=interpolation,
        crop=(224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


PRESETS: dict[str, Preprocess] = {
    "imagenet-bicubic": _imagenet("bicubic"),
    "imagenet-bilinear": _imagenet("bilinear"),
    "none": Preprocess(scale=(1.0, 1.0)),
}
"""Preprocessing by name. "none" leaves pixels in 0..255, as float32."""


def parse_preprocess(text: str) -> Preprocess:
    """Read preprocessing from one line: a preset, steps, or a preset with changed steps.

    Steps are separated by commas, in any order: `resize N INTERPOLATION` (shorter side) or
    `resize HxW INTERPOLATION`, `crop N`, `crop HxW`, `scale A/B`, `mean V...`, `std V...`,
    `order RGB|BGR`, `channels 3|1`, `layout nchw|nhwc`, `dtype float32|uint8`. After a preset, a
    resize may leave the interpolation as it is, and `none` takes a step out (`resize none`).
    Without a preset the scale is 1/255 unless given (1 with `dtype uint8`).

    Raises:
        UsageError: An unknown or repeated step, or a value that makes no sense.

    Example:
        >>> str(parse_preprocess("resize 248 bicubic, crop 224, mean 0.5, std 0.5"))
        'resize 248 bicubic, crop 224, scale 1/255, mean 0.5, std 0.5, order RGB'
        >>> parse_preprocess("imagenet-bicubic, resize 248").crop
        (224, 224)
    """
    items = [item.strip() for item in text.split(",")]
    base = PRESETS.get(items[0].lower())
    changes: dict[str, Any] = {}
    for item in items if base is None else items[1:]:
        change = _read_step(item, text)
        if changes.keys() & change.keys():
            raise _bad(text, f"'{item}' is a second {item.split()[0].lower()}")
        changes |= change
    if changes.get("dtype") == "uint8":
        changes.setdefault("scale", (1.0, 1.0))
    if changes.get("resize", ...) is None:
        changes["interpolation"] = ""
    try:
        return dataclasses.replace(base or Preprocess(), **changes)
    except UsageError as error:
        problem = str(error).removeprefix("Preprocessing: ")
        raise UsageError(f"Preprocessing '{text}': {problem}", hint=error.hint) from None


def _read_step(item: str, text: str) -> dict[str, Any]:
    word, *values = item.split() or [""]
    name = word.lower()
    if name not in _READERS:
        raise _bad(text, f"'{word}' is no preset or step", _suggestion(name))
    try:
        return _READERS[name](name, values)
    except (ValueError, IndexError, ZeroDivisionError):
        raise _bad(text, f"'{item}' is not understood") from None


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, [*_READERS, *PRESETS], n=1)
    known = f"Steps: {', '.join(_READERS)}. Presets: {', '.join(PRESETS)}."
    return f"Did you mean '{near[0]}'? {known}" if near else known


def _bad(text: str, why: str, hint: str = "") -> UsageError:
    return UsageError(f"Preprocessing '{text}': {why}.", hint=hint or f"For example '{_EXAMPLE}'.")


def _read_resize(_name: str, values: Sequence[str]) -> dict[str, Any]:
    if len(values) == 1:
        return {"resize": _read_size(values[0])}
    size, interpolation = values
    return {"resize": _read_size(size), "interpolation": interpolation.lower()}


def _read_crop(_name: str, values: Sequence[str]) -> dict[str, Any]:
    (size,) = values
    side = _read_size(size)
    return {"crop": (side, side) if isinstance(side, int) else side}


def _read_size(value: str) -> int | tuple[int, int] | None:
    if value == "none":
        return None
    sides = [int(side) for side in value.lower().split("x")]
    if len(sides) == 1:
        return sides[0]
    height, width = sides
    return height, width


def _read_scale(_name: str, values: Sequence[str]) -> dict[str, Any]:
    (value,) = values
    factor, slash, divisor = value.partition("/")
    return {"scale": (float(factor), float(divisor) if slash else 1.0)}


def _read_numbers(name: str, values: Sequence[str]) -> dict[str, Any]:
    if list(values) == ["none"]:
        return {name: ()}
    if not values:
        raise ValueError(name)
    return {name: tuple(float(value) for value in values)}


def _read_choice(name: str, values: Sequence[str]) -> dict[str, Any]:
    (value,) = values
    by_text = {str(choice).lower(): choice for choice in _CHOICES[name]}
    return {name: by_text.get(value.lower(), value)}


_READERS: dict[str, Callable[[str, Sequence[str]], dict[str, Any]]] = {
    "resize": _read_resize,
    "crop": _read_crop,
    "scale": _read_scale,
    "mean": _read_numbers,
    "std": _read_numbers,
    **dict.fromkeys(_CHOICES, _read_choice),
}
