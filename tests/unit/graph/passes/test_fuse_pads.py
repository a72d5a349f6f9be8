import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
INPUT = "(float[n,3,6,7] x) => (float[n,c,h,v] y) "


def padded(simplify, pads, node, *, pad="Pad(x, p)", more=""):
    return simplify(
        HEAD
        + INPUT
        + f"<float[4,3,3,3] w, int64[{len(pads)}] p{more}> {{\n  a = {pad}\n  y = {node}\n}}",
        weights={"w": WEIGHT, "p": np.array(pads)},
    )


@pytest.mark.parametrize("node", ["Conv(a, w)", "Conv<pads=[1,0,0,2]>(a, w)"])
def test_zeros_become_the_padding_of_a_convolution(simplify, node):
    assert padded(simplify, [0, 0, 1, 2, 0, 0, 3, 0], node).ops == ["Conv"]


@pytest.mark.parametrize("node", ["AveragePool<kernel_shape=[3,3]>(a)"])
def test_zeros_are_averaged_with_the_numbers(simplify, node):
    found = padded(simplify, [0, 0, 1, 2, 0, 0, 2, 0], node)
    assert found.ops == ["AveragePool"]


def test_axes_of_the_pad_are_followed(simplify):
    found = padded(
        simplify, [2, 1], "Conv(a, w)", pad="Pad(x, p, , at)", more=", int64[1] at = {-1}"
    )
    assert found.ops == ["Conv"]


@pytest.mark.parametrize(
    ("pads", "node", "pad"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], "Conv(a, w)", 'Pad<mode = "edge">(x, p)'),
        ([0, 0, 1, 1, 0, 0, 1, 1], "Conv(a, w)", "Pad(x, p, one)"),
        ([1, 0, 1, 1, 0, 0, 1, 1], "Conv(a, w)", "Pad(x, p)"),
        ([0, 0, -1, 1, 0, 0, 1, 1], "Conv(a, w)", "Pad(x, p)"),
        ([0, 0, 1, 1, 0, 0, 1, 1], 'Conv<auto_pad = "SAME_UPPER">(a, w)', "Pad(x, p)"),
        ([0, 0, 1, 1, 0, 0, 1, 1], "MaxPool<kernel_shape=[3,3]>(a)", "Pad(x, p)"),
        (
            [0, 0, 1, 1, 0, 0, 1, 1],
            "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)",
            "Pad(x, p)",
        ),
        ([0, 0, 3, 1, 0, 0, 1, 1], "AveragePool<kernel_shape=[3,3]>(a)", "Pad(x, p)"),
        ([0, 0, 1, 1, 0, 0, 1, 1], "AveragePool<kernel_shape=[3,3], ceil_mode=1>(a)", "Pad(x, p)"),
    ],
)
def test_other_pads_stay(simplify, pads, node, pad):
    assert len(padded(simplify, pads, node, pad=pad, more=", float one = {1}").ops) == 2


def test_a_pad_that_others_read_stays(simplify):
    found = simplify(
        HEAD + "(float[n,3,6,6] x) => (float[n,4,6,6] y, float[n,3,8,8] a) "
        "<float[4,3,3,3] w, int64[8] p> { a = Pad(x, p)  y = Conv(a, w) }",
        weights={"w": WEIGHT, "p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    )
    assert found.ops == ["Pad", "Conv"]
