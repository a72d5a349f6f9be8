"""Decoding and cutting: against Pillow, an integer copy of its arithmetic, and files gone bad."""

import contextlib
import io
import math
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from shipway.errors import DatasetError
from shipway.evaluate.images import (
    INTERPOLATIONS,
    crop_image,
    decode_image,
    load_image,
    resize_image,
    resized_size,
    strict_decoding,
)


def noise(width, height, seed=0, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def weigh(name, x):
    x = abs(x)
    if name == "bilinear":
        return max(0.0, 1.0 - x)
    if name == "bicubic":
        if x < 1:
            return (1.5 * x - 2.5) * x * x + 1
        return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0
    sinc = [1.0 if v == 0 else math.sin(v * math.pi) / (v * math.pi) for v in (x, x / 3)]
    return sinc[0] * sinc[1] if x < 3 else 0.0


def resample_rows(pixels, size, name):
    """Resample axis 0 with Pillow's 22-bit fixed-point arithmetic, in plain integers."""
    length = pixels.shape[0]
    scale = length / size
    stretch = max(scale, 1.0)
    support = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}[name] * stretch
    out = np.empty((size, *pixels.shape[1:]), np.uint8)
    for index in range(size):
        centre = (index + 0.5) * scale
        low = max(0, int(centre - support + 0.5))
        high = min(length, int(centre + support + 0.5))
        weights = [weigh(name, (at - centre + 0.5) / stretch) for at in range(low, high)]
        total = sum(weights)
        fixed = [int(math.copysign(0.5, w) + w / total * (1 << 22)) for w in weights]
        rows = pixels[low:high].astype(np.int64)
        value = (1 << 21) + np.tensordot(np.array(fixed, np.int64), rows, axes=1)
        out[index] = np.clip(value >> 22, 0, 255)
    return out


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("size", [(50, 37), (9, 61), (20, 20)])
@pytest.mark.parametrize("target", [16, 30, (12, 45)])
def test_resize_is_pillows_integer_arithmetic_horizontal_pass_first(name, size, target):
    image = noise(*size)
    width, height = resized_size(size, target)
    across = resample_rows(np.asarray(image).swapaxes(0, 1), width, name).swapaxes(0, 1)
    expected = resample_rows(across, height, name) if height != size[1] else across
    actual = np.asarray(resize_image(image, target, name))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_resize_equals_one_call_of_pillow_where_the_image_is_not_tall(name):
    image = noise(100, 75)
    expected = image.resize((42, 32), Image.Resampling[name.upper()])
    np.testing.assert_array_equal(np.asarray(resize_image(image, 32, name)), np.asarray(expected))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600))
def test_resized_size_follows_torchvision(width, height, side):
    short, long = sorted((width, height))
    new_long = int(side * long / short)
    expected = (side, new_long) if width <= height else (new_long, side)
    assert resized_size((width, height), side) == expected


def reference_crop(pixels, height, width):
    """Centre crop as torchvision documents it: pad what is short, then cut, halves to even."""
    extra = [max(0, want - have) for want, have in zip((height, width), pixels.shape, strict=False)]
    pads = [(short // 2, (short + 1) // 2) for short in extra]
    padded = np.pad(pixels, [*pads, (0, 0)])
    top = int(np.rint((padded.shape[0] - height) / 2))
    left = int(np.rint((padded.shape[1] - width) / 2))
    return padded[top : top + height, left : left + width]


@given(*[st.integers(1, 12)] * 4)
def test_crop_takes_the_centre_and_pads_with_black(width, height, crop_height, crop_width):
    image = noise(width, height)
    actual = np.asarray(crop_image(image, (crop_height, crop_width)))
    np.testing.assert_array_equal(
        actual, reference_crop(np.asarray(image), crop_height, crop_width)
    )


def test_crop_rounds_half_a_pixel_to_even():
    """341 - 224 = 117: the crop of the published accuracies begins at 58, not 59."""
    ramp = Image.fromarray(np.tile(np.arange(341) % 256, (256, 1)).astype(np.uint8))
    assert np.asarray(crop_image(ramp, (224, 224)))[0, 0] == 58


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_common_mode_becomes_rgb_as_pillow_converts_it(mode):
    image = noise(8, 8).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(image, kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    actual = decode_image(data)
    assert actual.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(actual), expected)


def test_a_palette_with_transparency_gives_no_warning():
    image = noise(8, 8).convert("P")
    data = encoded(image, "PNG", transparency=bytes(range(200)))
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode_image(data)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_keeps_its_high_byte(kind):
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(values), kind)))
    np.testing.assert_array_equal(decoded, np.stack([values >> 8] * 3, axis=-1))


def test_32_bit_pixels_are_refused():
    data = encoded(Image.new("F", (4, 4), 0.5), "TIFF")
    with pytest.raises(DatasetError, match="32-bit pixels"):
        decode_image(data)


def test_a_png_named_jpeg_is_read_by_its_content(tmp_path):
    image = noise(8, 8)
    path = tmp_path / "photo.JPEG"
    path.write_bytes(encoded(image, "PNG"))
    np.testing.assert_array_equal(np.asarray(load_image(path)), np.asarray(image))


def test_exif_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(noise(8, 4), "JPEG", exif=exif.tobytes())).size == (8, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_an_error_at_any_length(kind):
    data = encoded(noise(16, 16), kind)
    for length in range(0, len(data) - 20, 7):
        with strict_decoding(), pytest.raises(DatasetError):
            decode_image(data[:length])


def test_a_truncated_image_stays_an_error_where_user_code_allows_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(noise(64, 64), "JPEG")
    with strict_decoding(), pytest.raises(DatasetError, match="truncated"):
        decode_image(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "GIF", "TIFF"]), st.data())
def test_garbage_is_a_dataset_error_and_nothing_else(garbage, kind, data):
    whole = bytearray(encoded(noise(8, 8), kind))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + len(garbage)] = garbage
    with strict_decoding(), contextlib.suppress(DatasetError):
        assert decode_image(bytes(whole)).mode == "RGB"


def test_an_empty_file_is_called_empty():
    with pytest.raises(DatasetError, match="the file is empty"):
        decode_image(b"")


def test_load_image_names_the_file(tmp_path):
    (tmp_path / "a b.jpg").write_text("not a picture")
    with pytest.raises(DatasetError, match=r"a b\.jpg: not an image"):
        load_image(tmp_path / "a b.jpg")
    with pytest.raises(DatasetError, match=r"c\.jpg: No such file"):
        load_image(tmp_path / "c.jpg")
    with pytest.raises(DatasetError, match="Is a directory"):
        load_image(tmp_path)


def png_of_size(width, height):
    """Return a PNG whose header promises a size and whose content is next to nothing."""

    def chunk(kind, body):
        return (
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        )

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 30_000], ids=["warned of", "refused by Pillow"])
def test_a_decompression_bomb_is_an_error_and_not_a_warning(side):
    with strict_decoding(), pytest.raises(DatasetError, match=r"exceeds limit|Pillow's limit"):
        decode_image(png_of_size(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DatasetError, match="limit"):
            decode_image(png_of_size(side, side))


@pytest.mark.parametrize(("target", "size"), [(256, (1, 9000)), ((20_000, 20_000), (4, 4))])
def test_a_resize_that_would_fill_the_memory_is_refused(target, size):
    with pytest.raises(DatasetError, match="Pillow's limit"):
        resize_image(Image.new("RGB", size), target, "bicubic")
    with pytest.raises(DatasetError, match="Pillow's limit"):
        crop_image(Image.new("RGB", size), (20_000, 20_000))
