import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
NUMBERS = np.random.default_rng(0)


def weights(variance=0.5):
    return {
        "w": NUMBERS.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "s": NUMBERS.standard_normal(4).astype(np.float32),
        "b": NUMBERS.standard_normal(4).astype(np.float32),
        "m": NUMBERS.standard_normal(4).astype(np.float32),
        "v": np.full(4, variance, np.float32),
    }


HEADER = "<float[4,3,3,3] w, float[4] s, float[4] b, float[4] m, float[4] v>"


@pytest.mark.parametrize("bias", ["", ", b"])
def test_it_goes_into_the_convolution(simplify, bias):
    found = simplify(
        HEAD + f"(float[n,3,5,5] x) => (float[n,4,3,3] y) {HEADER} {{\n"
        f"  a = Conv(x, w{bias})\n  y = BatchNormalization(a, s, b, m, v)\n}}",
        weights=weights(),
    )
    assert found.ops == ["Conv"]


def test_a_convolution_that_others_read_stays(simplify):
    found = simplify(
        HEAD + f"(float[n,3,5,5] x) => (float[n,4,3,3] y, float[n,4,3,3] a) {HEADER} {{\n"
        "  a = Conv(x, w)\n  y = BatchNormalization(a, s, b, m, v)\n}",
        weights=weights(),
    )
    assert found.ops == ["Conv", "BatchNormalization"]


def test_a_variance_that_gives_no_finite_scale_stays(simplify):
    found = simplify(
        HEAD + f"(float[n,3,5,5] x) => (float[n,4,3,3] y) {HEADER} {{\n"
        "  a = Conv(x, w)\n  y = BatchNormalization<epsilon = 0.0>(a, s, b, m, v)\n}",
        weights=weights(0.0),
        sizes=(),
    )
    assert found.ops == ["Conv", "BatchNormalization"]


def test_a_transposed_convolution_takes_it_too(simplify):
    found = simplify(
        HEAD + "(float[n,3,5,5] x) => (float[n,4,7,7] y) "
        "<float[3,4,3,3] u, float[4] s, float[4] b, float[4] m, float[4] v> {\n"
        "  a = ConvTranspose(x, u)\n  y = BatchNormalization(a, s, b, m, v)\n}",
        weights={
            "u": NUMBERS.standard_normal((3, 4, 3, 3)).astype(np.float32),
            **{name: array for name, array in weights().items() if name != "w"},
        },
    )
    assert found.ops == ["ConvTranspose"]


@pytest.mark.parametrize("groups", [1, 2])
def test_it_goes_into_a_transposed_convolution_group_by_group(simplify, groups):
    numbers = weights() | {"w": NUMBERS.standard_normal((6, 4 // groups, 3, 3)).astype(np.float32)}
    found = simplify(
        HEAD + f"(float[n,6,5,5] x) => (float[n,4,7,7] y) "
        f"<float[6,{4 // groups},3,3] w, float[4] s, float[4] b, float[4] m, float[4] v> {{\n"
        f"  a = ConvTranspose<group={groups}>(x, w, b)\n  y = BatchNormalization(a, s, b, m, v)\n}}",
        weights=numbers,
    )
    assert found.ops == ["ConvTranspose"]
