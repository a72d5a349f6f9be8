"""Preprocessing: its text reads back, and its numbers are torchvision's to the last bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shipway.errors import DatasetError, UsageError
from shipway.evaluate.images import INTERPOLATIONS
from shipway.evaluate.preprocess import PRESETS, Preprocess, parse_preprocess

sizes = st.integers(1, 2000)
pairs = st.tuples(sizes, sizes)
numbers = st.floats(-300, 300, width=32).filter(lambda x: abs(x) > 1e-3)


@st.composite
def preprocesses(draw):
    resize = draw(st.none() | sizes | pairs)
    channels = draw(st.sampled_from([1, 3]))
    values = st.just(()) | st.tuples(numbers) | st.tuples(*[numbers] * channels)
    as_bytes = draw(st.booleans())
    return Preprocess(
        resize=resize,
        interpolation="" if resize is None else draw(st.sampled_from(INTERPOLATIONS)),
        crop=draw(st.none() | pairs),
        scale=(1.0, 1.0) if as_bytes else (draw(numbers), draw(numbers)),
        mean=() if as_bytes else draw(values),
        std=() if as_bytes else draw(values),
        order=draw(st.sampled_from(["RGB", "BGR"])) if channels == 3 else "RGB",
        channels=channels,
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        dtype="uint8" if as_bytes else "float32",
    )


@given(preprocesses())
def test_text_reads_back_to_the_same(preprocess):
    assert parse_preprocess(str(preprocess)) == preprocess


def test_the_line_of_the_documentation():
    text = (
        "resize 256 bicubic, crop 224, scale 1/255, mean 0.485 0.456 0.406, "
        "std 0.229 0.224 0.225, order RGB"
    )
    assert parse_preprocess(text) == PRESETS["imagenet-bicubic"]
    assert str(PRESETS["imagenet-bicubic"]) == text


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_found_by_name(name):
    assert parse_preprocess(f" {name.upper()} ") == PRESETS[name]


def test_none_is_written_as_its_name():
    assert str(parse_preprocess("none")) == "none"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("imagenet-bicubic, resize 248", "resize 248 bicubic, crop 224, scale 1/255, "),
        ("imagenet-bicubic, resize 232 bilinear", "resize 232 bilinear, crop 224, "),
        ("imagenet-bilinear, resize none", "crop 224, scale 1/255, mean 0.485"),
        ("resize 240x320 lanczos", "resize 240x320 lanczos, scale 1/255, order RGB"),
        ("crop 224x192, channels 1", "crop 224x192, channels 1, scale 1/255"),
        ("imagenet-bicubic, crop none, mean none, std none", "resize 256 bicubic, scale 1/255, o"),
        ("scale 2, order bgr", "scale 2, order BGR"),
        ("dtype uint8, layout NHWC", "scale 1, order RGB, layout nhwc, dtype uint8"),
    ],
)
def test_presets_take_changes_and_steps_take_defaults(text, expected):
    assert str(parse_preprocess(text)).startswith(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no preset or step"),
        ("imagenet-bicubik", "no preset or step"),
        ("crop 224, none", "'none' is no preset or step"),
        ("crop", "'crop' is not understood"),
        ("crop 224 224", "not understood"),
        ("crop 22.4", "not understood"),
        ("crop 0", "a size of 0 pixels"),
        ("resize -4 bicubic", "a size of -4 pixels"),
        ("resize 256", "resize needs an interpolation"),
        ("resize 256 cubic", "'cubic' is none"),
        ("crop 224, crop 225", "'crop 225' is a second crop"),
        ("mean", "not understood"),
        ("mean red", "not understood"),
        ("mean 1 2", "mean has 2 values for 3 channels"),
        ("channels 1, std 1 2 3", "std has 3 values for 1 channels"),
        ("std 0", "scale or std is 0"),
        ("scale 1/0", "scale or std is 0"),
        ("std 1e-60", "scale or std is 0"),
        ("mean nan", "not finite"),
        ("scale 1e39", "not finite"),
        ("channels 2", "channels is 2, not 3 or 1"),
        ("order RBG", "order is RBG, not RGB or BGR"),
        ("layout chw", "layout is chw"),
        ("dtype float16", "dtype is float16"),
        ("channels 1, order BGR", "order BGR with one channel"),
        ("imagenet-bicubic, dtype uint8", "dtype uint8 leaves no room"),
        ("crop 224,", "'' is no preset or step"),
    ],
)
def test_a_wrong_text_is_refused_with_the_reason(text, message):
    with pytest.raises(UsageError) as caught:
        parse_preprocess(text)
    assert message in str(caught.value)
    assert caught.value.hint


def test_a_near_miss_is_named_in_the_hint():
    with pytest.raises(UsageError) as caught:
        parse_preprocess("imagenet-bicubik")
    assert "Did you mean 'imagenet-bicubic'?" in caught.value.hint


def photo(width=50, height=37):
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", ["imagenet-bicubic", "imagenet-bilinear"])
def test_imagenet_presets_equal_torchvisions_steps_bit_for_bit(name):
    """ToTensor is uint8 to float32, divided by 255; Normalize is subtract, then divide in place."""
    image = photo(500, 375)
    method = Image.Resampling[name.removeprefix("imagenet-").upper()]
    small = image.resize((341, 256), method).crop((58, 16, 58 + 224, 16 + 224))
    tensor = torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float().div(255)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    actual = parse_preprocess(name).apply(image)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual, tensor.sub_(mean).div_(std).numpy())


def test_every_pixel_value_gets_the_float32_of_the_formula():
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for text, function in (
        ("scale 1/255", lambda x: x / np.float32(255)),
        ("scale 1", lambda x: x),
        ("scale 2/3", lambda x: x * np.float32(2) / np.float32(3)),
        ("mean 0.5, std 0.5", lambda x: (x / np.float32(255) - np.float32(0.5)) / np.float32(0.5)),
        ("scale 1/127.5, mean 1", lambda x: x / np.float32(127.5) - np.float32(1)),
    ):
        expected = function(np.arange(256, dtype=np.float32)).reshape(16, 16)
        actual = parse_preprocess(f"channels 1, {text}").apply(image)
        np.testing.assert_array_equal(actual, expected[None], err_msg=text)


def test_caffe_convention_subtracts_the_mean_in_bgr_order():
    actual = parse_preprocess("scale 1, mean 104 117 123, order BGR").apply(photo())
    pixels = np.asarray(photo()).astype(np.float32)
    for channel, (source, mean) in enumerate(((2, 104), (1, 117), (0, 123))):
        np.testing.assert_array_equal(actual[channel], pixels[:, :, source] - np.float32(mean))


def test_none_gives_the_pixels_as_float32():
    actual = parse_preprocess("none").apply(photo())
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, np.asarray(photo()).transpose(2, 0, 1))


def test_uint8_and_nhwc_give_the_pixels_as_they_lie():
    actual = parse_preprocess("dtype uint8, layout nhwc").apply(photo())
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, np.asarray(photo()))


def test_nhwc_holds_the_same_numbers_as_nchw():
    text = "imagenet-bicubic, resize 20, crop 16"
    first = parse_preprocess(text).apply(photo())
    last = parse_preprocess(f"{text}, layout nhwc").apply(photo())
    np.testing.assert_array_equal(first.transpose(1, 2, 0), last)


def test_one_channel_is_pillows_luma():
    actual = parse_preprocess("channels 1, dtype uint8").apply(photo())
    np.testing.assert_array_equal(actual, np.asarray(photo().convert("L"))[None])


def test_apply_leaves_the_image_alone():
    image = photo()
    before = np.array(image)
    parse_preprocess("imagenet-bicubic, resize 30, crop 20").apply(image)
    np.testing.assert_array_equal(np.asarray(image), before)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DatasetError, match="0x5 pixels"):
        parse_preprocess("imagenet-bicubic").apply(Image.new("RGB", (0, 5)))


def test_arrays_pass_through_none_untouched_whatever_their_dtype():
    values = np.arange(6, dtype=np.int64)
    assert parse_preprocess("none").apply_array(values) is values


@pytest.mark.parametrize(("layout", "shape"), [("nchw", (3, 2, 2)), ("nhwc", (2, 2, 3))])
def test_arrays_are_scaled_along_the_axis_of_their_channels(layout, shape):
    values = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    actual = parse_preprocess(f"mean 0.1 0.2 0.3, layout {layout}").apply_array(values)
    mean = np.float32([0.1, 0.2, 0.3]).reshape((3, 1, 1) if layout == "nchw" else (1, 1, 3))
    np.testing.assert_array_equal(actual, values.astype(np.float32) / np.float32(255) - mean)


def test_scaling_an_array_does_not_write_into_it():
    values = np.ones((1, 2, 2), np.float32)
    parse_preprocess("scale 1/255").apply_array(values)
    assert (values == 1).all()


def test_an_array_with_other_channels_than_the_mean_is_refused():
    with pytest.raises(DatasetError, match="do not fit a sample of shape"):
        parse_preprocess("mean 1 2 3").apply_array(np.zeros((1, 4, 4)))


def test_scalar_samples_take_a_single_mean():
    assert parse_preprocess("scale 1, mean 2").apply_array(np.float64(5)) == 3
