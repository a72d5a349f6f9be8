"""Each kind of fault, made on purpose without a word about the operators, is called by its name.

Every case runs in f32, f16 and bf16: the engine's tensor is rounded to that dtype, and golden is
not. The sentence must hold the number that was put in.
"""

import ml_dtypes
import numpy as np
import pytest
from scipy.special import erf

from shipway.compare.cause.finding import find_cause
from shipway.errors import TensorError, UsageError

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
EVERY_PRECISION = pytest.mark.parametrize("precision", DTYPES)
CHANNELS = 24


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def image():
    """A convolution's output: each channel has its own mean and spread."""
    spread, mean = np.linspace(0.5, 2, CHANNELS), np.linspace(-1, 1, CHANNELS)
    return noise(1, CHANNELS, 20, 20) * spread[:, None, None] + mean[:, None, None]


def tokens():
    return noise(2, 33, CHANNELS) * np.linspace(0.5, 2, CHANNELS) + np.linspace(-1, 1, CHANNELS)


TENSORS = {"image": (image, 1), "tokens": (tokens, 2)}
EVERY_TENSOR = pytest.mark.parametrize("tensor", TENSORS)


def made(tensor):
    """Return the tensor, its channel axis, and one number a channel that broadcasts with it."""
    make, axis = TENSORS[tensor]
    values = make()
    shape = [CHANNELS if k == axis else 1 for k in range(values.ndim)]
    return values, axis, 0.5 * noise(CHANNELS, seed=5).reshape(shape)


def found(golden, actual, precision):
    """Give the engine's tensor its dtype, and in f32 an error in the last digit."""
    wobble = 1 + 1e-7 * noise(*np.shape(actual), seed=9)
    kept = np.isin(actual, [np.min(actual), np.max(actual)])  # what sits at a bound, sits
    actual = np.where(kept, actual, actual * wobble).astype(DTYPES[precision])
    return find_cause(np.asarray(golden, np.float32), actual, precision=precision)


def relu(values):
    return np.maximum(values, 0)


def gelu(values):
    return 0.5 * values * (1 + erf(values / np.sqrt(2)))


@EVERY_PRECISION
@EVERY_TENSOR
@pytest.mark.parametrize("factor", [1.02, 0.5, -1, 1.01])
def test_one_factor_is_a_gain(tensor, precision, factor):
    golden, _, _ = made(tensor)
    cause = found(golden, factor * golden, precision)
    assert cause.kind == "gain"
    assert float(cause.explanation.split()[2].rstrip(";")) == pytest.approx(factor, rel=1e-3)


@EVERY_PRECISION
@EVERY_TENSOR
def test_a_factor_before_a_bias_and_a_relu_is_a_gain(tensor, precision):
    """A weight * 1.02 scales what comes before the bias; the ReLU hides half of it."""
    values, _, bias = made(tensor)
    for after in (np.asarray, relu):
        cause = found(after(values + bias), after(1.02 * values + bias), precision)
        assert cause.kind == "gain"
        assert "scaled by 1.0" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
def test_three_x_plus_five_is_a_gain_and_a_constant(tensor, precision):
    golden, _, _ = made(tensor)
    cause = found(golden, 3 * golden + 5, precision)
    assert cause.kind == "gain"
    factor, constant = (float(word.strip(",")) for word in cause.explanation.split()[2:5:2])
    assert (factor, constant) == pytest.approx((3, 5), rel=1e-3)


@EVERY_PRECISION
@EVERY_TENSOR
def test_a_missing_bias_is_an_offset(tensor, precision):
    values, axis, bias = made(tensor)
    for after in (np.asarray, relu):
        cause = found(after(values + bias), after(values), precision)
        assert cause.kind == "offset"
        assert f"axis {axis}" in cause.explanation


@EVERY_PRECISION
def test_one_constant_for_all_is_an_offset(precision):
    golden, _, _ = made("image")
    cause = found(golden, golden + 0.25, precision)
    assert (cause.kind, cause.explanation[:4]) == ("offset", "+0.2")


@EVERY_PRECISION
@EVERY_TENSOR
@pytest.mark.parametrize("after", [np.asarray, relu])
def test_a_zeroed_channel_is_named(tensor, precision, after):
    golden, axis, _ = made(tensor)
    actual = golden.copy()
    np.moveaxis(actual, axis, 0)[17] = 0
    cause = found(after(golden), after(actual), precision)
    assert cause.kind == "channel"
    assert f"slice 17 on axis {axis} of {CHANNELS} is off by 1: all zero" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
def test_a_run_of_channels_is_named(tensor, precision):
    golden, axis, _ = made(tensor)
    actual = golden.copy()
    np.moveaxis(actual, axis, 0)[8:12] *= 1.3
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert f"slices 8 to 11 on axis {axis}" in cause.explanation


@EVERY_PRECISION
def test_a_tile_is_named_on_both_of_its_axes(precision):
    golden, _, _ = made("image")
    actual = golden.copy()
    actual[:, :, 4:8, 16:20] = noise(1, CHANNELS, 4, 4, seed=3)
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert "slices 4 to 7 on axis 2" in cause.explanation
    assert "slices 16 to 19 on axis 3" in cause.explanation


@EVERY_PRECISION
def test_a_wrong_padding_is_an_error_at_the_border(precision):
    golden, _, _ = made("image")
    actual = golden.copy()
    inside = np.zeros(golden.shape, bool)
    inside[..., 1:-1, 1:-1] = True
    actual[~inside] += noise((~inside).sum(), seed=4)
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert "outer 1 rows and columns" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
@pytest.mark.parametrize(
    ("rearrange", "words"),
    [
        (lambda x: np.moveaxis(x, 1, -1).reshape(x.shape), "its axes in the order"),
        (lambda x: np.moveaxis(x.reshape(np.moveaxis(x, 1, -1).shape), -1, 1), "in the order"),
        (lambda x: x[..., ::-1], "backwards"),
        (lambda x: np.roll(x, 5, axis=1), "slices along axis 1 in another order: "),
        (lambda x: x[..., np.random.default_rng(1).permutation(x.shape[-1])], "another order"),
    ],
    ids=["as if channels last", "as if channels first", "flipped", "rolled", "shuffled"],
)
def test_the_right_numbers_in_other_places_are_a_layout(tensor, precision, rearrange, words):
    golden, _, _ = made(tensor)
    cause = found(golden, rearrange(golden), precision)
    assert cause.kind == "layout"
    assert words in cause.explanation


@EVERY_PRECISION
def test_a_transpose_of_equal_axes_is_a_layout(precision):
    golden, _, _ = made("image")
    cause = found(golden, golden.transpose(0, 1, 3, 2), precision)
    assert cause.kind == "layout"
    assert "(0, 1, 3, 2)" in cause.explanation


def test_numbers_in_no_order_at_all_are_still_a_layout():
    golden, _, _ = made("image")
    actual = np.random.default_rng(0).permutation(golden.ravel()).reshape(golden.shape)
    assert found(golden, actual, "f32").kind == "layout"


@EVERY_PRECISION
def test_a_softmax_over_the_wrong_axis_is_a_layout(precision):
    scores = np.exp(noise(2, 4, 17, 17))
    golden, actual = (scores / scores.sum(axis=axis, keepdims=True) for axis in (3, 2))
    cause = found(golden, actual, precision)
    assert cause.kind == "layout"
    assert "along axis 2, but golden does along axis 3" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (relu, np.asarray, "where golden stops at 0"),
        (np.asarray, relu, "a ReLU that golden does not have"),
        (relu, lambda x: np.where(x > 0, x, 0.01 * x), "where golden stops at 0"),
        (lambda x: x.clip(0, 2), relu, "where golden stops at 2"),
        (
            lambda x: np.where(x > 0, x, 0.1 * x),
            lambda x: np.where(x > 0, x, 0.3 * x),
            "there it is 3",
        ),
        (gelu, relu, "a function of golden"),
        (relu, gelu, "a function of golden"),
        (gelu, lambda x: x / (1 + np.exp(-x)), "a function of golden where that is above 0"),
        (np.asarray, np.abs, "there it is -"),
    ],
    ids=["none", "extra", "leaky", "no clip", "slope", "relu", "gelu", "silu", "abs"],
)
def test_another_activation_is_called_so(tensor, precision, right, wrong, words):
    values, _, _ = made(tensor)
    cause = found(right(values), wrong(values), precision)
    assert cause.kind == "activation"
    assert words in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
@pytest.mark.parametrize(
    ("bounds", "words"),
    [((-50, 2), "above at 2 "), ((-1.5, 1.5), "above at 1.5 and below at -1.5 ")],
)
def test_values_cut_off_are_a_saturation(tensor, precision, bounds, words):
    golden, _, _ = made(tensor)
    cause = found(golden, golden.clip(*bounds), precision)
    assert cause.kind == "saturation"
    assert f"cut off {words}" in cause.explanation


@EVERY_PRECISION
def test_a_relu6_for_a_relu_is_a_saturation(precision):
    golden = relu(4 * image())
    cause = found(golden, golden.clip(0, 6), precision)
    assert cause.kind == "saturation"
    assert "above at 6 in" in cause.explanation


def test_the_end_of_f16_is_a_saturation():
    golden = 40_000 * image()
    actual = golden.clip(-65504, 65504)
    assert find_cause(golden, actual.astype(np.float16), precision="f16").kind == "saturation"
    with np.errstate(over="ignore"):
        cause = find_cause(golden, golden.astype(np.float16), precision="f16")
    assert cause.kind == "saturation"
    assert "beyond 65504" in cause.explanation


@EVERY_PRECISION
def test_nan_is_counted_and_placed(precision):
    golden, _, _ = made("image")
    actual = golden.copy()
    actual[0, 3] = np.nan
    cause = found(golden, actual, precision)
    assert cause.kind == "nan"
    assert "NaN in 400 of 9600 elements, first at [0, 3, 0, 0]" in cause.explanation
    assert "all in slice 3 on axis 1" in cause.explanation


def test_inf_from_small_numbers_is_no_saturation():
    golden, _, _ = made("image")
    actual = golden.copy()
    actual[0, 0, 0, 0] = np.inf
    assert found(golden, actual, "f16").kind == "nan"


def test_numbers_where_golden_is_nan_are_a_nan_fault():
    golden, _, _ = made("image")
    odd = golden.copy()
    odd[0, 0, 0, 0] = np.nan
    cause = found(odd, golden, "f32")
    assert (cause.kind, cause.explanation[:26]) == ("nan", "numbers where golden is Na")


def test_a_mask_of_the_lowest_number_for_minus_infinity_is_a_saturation():
    golden = np.where(np.tri(9) > 0, 0, -np.inf)
    cause = found(golden, np.where(np.tri(9) > 0, 0, -65504), "f32")
    assert cause.kind == "saturation"
    assert "-65504" in cause.explanation


@EVERY_TENSOR
@pytest.mark.parametrize("scale", [1, 2])
def test_a_tanh_gelu_is_an_approximation(tensor, scale):
    values, _, _ = made(tensor)
    cubic = np.sqrt(2 / np.pi) * scale * (values + 0.044715 * scale**2 * values**3)
    actual = 0.5 * scale * values * (1 + np.tanh(cubic))
    cause = found(gelu(scale * values), actual, "f32")
    assert cause.kind == "approximation"


@EVERY_PRECISION
@pytest.mark.parametrize("bias", [0, 0.3])
def test_another_epsilon_is_an_approximation(precision, bias):
    """Rows of small variance shrink more."""
    values = noise(1, 65, 48) * np.exp(0.7 * noise(1, 65, 1, seed=2)) * 0.3
    middle = values - values.mean(axis=-1, keepdims=True)
    variance = values.var(axis=-1, keepdims=True)
    golden, actual = (
        middle / np.sqrt(variance + epsilon) + bias * noise(48, seed=3) for epsilon in (1e-5, 0.05)
    )
    cause = found(golden, actual, precision)
    assert cause.kind == "approximation"
    assert "each row along the last axis is scaled by a factor of its own" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
def test_another_weight_for_each_channel_is_an_input(tensor, precision):
    values, axis, bias = made(tensor)
    cause = found(values, values * (1 + 0.3 * bias), precision)
    assert cause.kind == "input"
    assert f"along axis {axis} is scaled by a factor of its own" in cause.explanation


@EVERY_PRECISION
@EVERY_TENSOR
def test_a_tensor_of_something_else_is_an_input(tensor, precision):
    """Another draw from the same distribution is no layout, however alike the sorted values are."""
    values, _, _ = made(tensor)
    other = values[..., ::-1] * 0 + noise(*values.shape, seed=77)
    for golden in (values, noise(*values.shape)):
        cause = found(golden, other, precision)
        assert cause.kind == "input"
        assert "has little to do with golden" in cause.explanation


@EVERY_PRECISION
def test_an_error_without_structure_is_not_given_one(precision):
    golden, _, _ = made("image")
    cause = found(golden, golden + 0.1 * noise(*golden.shape, seed=8), precision)
    assert cause.kind == "unknown"
    assert "relative L2 0.0" in cause.explanation


@pytest.mark.parametrize(
    ("golden", "actual", "kind"),
    [
        (np.array(2.0), np.array(3.0), "unknown"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "unknown"),
        (np.zeros(3), np.zeros(3), "unknown"),
        (np.zeros((4, 5)), np.ones((4, 5)), "offset"),
        (np.arange(20.0).reshape(4, 5), np.zeros((4, 5)), "gain"),
        (np.array([1.0]), np.array([np.nan]), "nan"),
        (np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4) + 1, "offset"),
        (np.arange(16).reshape(4, 4), np.arange(16).reshape(4, 4).T, "layout"),
        (np.tri(6) > 0, np.tri(6).T > 0, "layout"),
    ],
    ids=["0-d", "empty", "equal", "zeros", "to zeros", "one nan", "int", "int T", "bool T"],
)
def test_small_odd_tensors_are_no_trouble(golden, actual, kind):
    cause = find_cause(golden, actual, precision="f32")
    assert cause.explanation
    if kind != "unknown":
        assert cause.kind == kind


def test_what_does_not_fit_is_refused():
    with pytest.raises(TensorError, match=r"\[2\] with shape \[3\]"):
        find_cause(np.zeros(2), np.zeros(3), precision="f32")
    with pytest.raises(UsageError, match="int8"):
        find_cause(np.zeros(2), np.zeros(2), precision="int8")


@EVERY_PRECISION
@pytest.mark.parametrize("size", [64, 128])
def test_a_hard_sigmoid_is_known_by_few_numbers(precision, size):
    values = 2 * noise(1, size)
    golden, actual = 1 / (1 + np.exp(-values)), (0.2 * values + 0.5).clip(0, 1)
    cause = found(golden, actual, precision)
    assert cause.kind in {"activation", "approximation"}
    assert "a function of golden" in cause.explanation
