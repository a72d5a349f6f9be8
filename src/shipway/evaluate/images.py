"""Decode photographs and cut them to size: the pixels Pillow and torchvision would give."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shipway.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "IMAGE_SUFFIXES",
    "INTERPOLATIONS",
    "crop_image",
    "decode_image",
    "load_image",
    "resize_image",
    "resized_size",
    "strict_decoding",
    "to_rgb",
]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Endings by which a folder's images are found: those of torchvision's ImageFolder."""

INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")


def load_image(path: Path) -> Image:
    """Read an image file as 8-bit RGB.

    As ImageNet evaluation does (torchvision's ImageFolder): EXIF orientation is not applied, an
    alpha channel is dropped, the first frame of several counts, and the content decides the format,
    not the ending. One difference: 16-bit gray keeps its high byte, where Pillow's own conversion
    turns everything above 255 white.

    Raises:
        DatasetError: The file is absent, empty, truncated, too large or no image.
    """
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from error
    except DatasetError as error:
        raise DatasetError(f"Cannot read {path}: {error}.") from error


def decode_image(data: bytes) -> Image:
    """Decode the bytes of an image file as 8-bit RGB; see `load_image`.

    Raises:
        DatasetError: The message is the bare reason, without the name of the file.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise DatasetError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_bomb(image.size)
            return to_rgb(image)
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError("not an image that Pillow can read") from None
    except Exception as error:  # on broken bytes a decoder raises whatever it likes
        raise DatasetError(str(error).rstrip(".") or type(error).__name__) from error


def to_rgb(image: Image) -> Image:
    """Return the image as 8-bit RGB, itself if it is that already.

    Raises:
        DatasetError: The pixels are 32-bit numbers, whose range the file does not tell.
    """
    from PIL.Image import fromarray

    if image.mode in {"I", "F"}:
        raise DatasetError(f"32-bit pixels (mode {image.mode}), whose range is not known")
    image.load()
    if image.mode.startswith("I;16"):
        image = fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "RGB":
        return image
    image.info.pop("transparency", None)  # dropped anyway, and Pillow warns of some palettes
    return image.convert("RGB")


@contextlib.contextmanager
def strict_decoding() -> Iterator[None]:
    """Hold Pillow to whole, sane images while the block runs, in every thread.

    A half-read image is an error even where the user's code has switched LOAD_TRUNCATED_IMAGES on,
    and so is a suspiciously large one. Complaints about metadata, which is not used, are dropped.
    """
    from PIL import Image, ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _refuse_bomb(size: tuple[int, int]) -> None:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise DatasetError(f"{size[0]}x{size[1]} pixels are more than Pillow's limit of {limit}")


def resized_size(size: tuple[int, int], target: int | tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) an image of `size` (width, height) is resized to.

    Args:
        size: Width and height, in pixels.
        target: (height, width), or the length of the shorter side; the longer one is then
            truncated, not rounded.

    Source: torchvision.transforms.functional.resize.

    Example:
        >>> resized_size((500, 375), 256)
        (341, 256)
    """
    if isinstance(target, tuple):
        return target[1], target[0]
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def resize_image(image: Image, target: int | tuple[int, int], interpolation: str) -> Image:
    """Resize with Pillow's antialiased filters, the horizontal pass first.

    Pillow 13 began to take the vertical pass first for tall images, which moves pixels by several
    of their 255 levels. Published accuracies were measured before that, so the order is fixed here,
    and the pixels are the same with every Pillow.

    Args:
        image: 8-bit RGB or L.
        target: See `resized_size`.
        interpolation: One of `INTERPOLATIONS`; "nearest" alone does not smooth.

    Raises:
        DatasetError: The result, or what lies between the passes, is too large.
    """
    from PIL.Image import Resampling

    width, height = resized_size(image.size, target)
    _refuse_bomb((width, max(height, image.height)))
    method = Resampling[interpolation.upper()]
    if method is Resampling.NEAREST:
        return image.resize((width, height), method)
    return image.resize((width, image.height), method).resize((width, height), method)


def crop_image(image: Image, target: tuple[int, int]) -> Image:
    """Cut the centre out; a side shorter than wanted is filled up with black on both ends.

    Half a pixel is rounded to even (58.5 becomes 58). Where black is added, the odd pixel goes to
    the right and the bottom.

    Args:
        image: Any mode.
        target: (height, width) of the result.

    Raises:
        DatasetError: The result is too large.

    Source: torchvision.transforms.functional.center_crop.
    """
    height, width = target
    _refuse_bomb((width, height))
    left, top = _offset(image.width, width), _offset(image.height, height)
    return image.crop((left, top, left + width, top + height))


def _offset(size: int, target: int) -> int:
    if target > size:
        return -((target - size) // 2)
    return round((size - target) / 2)
