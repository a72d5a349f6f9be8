"""Cases about convolutions, normalisation, padding and pooling."""

import numpy as np

from hostile.casebook import Draw, case, graph, ints, scalar


def norm(draw: Draw, channels: int, suffix: str = "") -> dict[str, np.ndarray]:
    return {
        f"scale{suffix}": draw(channels),
        f"shift{suffix}": draw(channels),
        f"mean{suffix}": draw(channels),
        f"variance{suffix}": draw.positive(channels),
    }


@case()
def two_norms_share_one_weight(draw: Draw):
    """Folding the first normalisation into the shared weight changes the second convolution."""
    model = graph(
        """(float[1,3,8,8] x, float[1,3,8,8] z) => (float[?,?,?,?] y) {
            a = Conv(x, w)
            p = BatchNormalization(a, scale, shift, mean, variance)
            b = Conv(z, w)
            q = BatchNormalization(b, scale2, shift2, mean2, variance2)
            y = Add(p, q)
        }""",
        w=draw(4, 3, 3, 3),
        **norm(draw, 4),
        **norm(draw, 4, "2"),
    )
    return model, [{"x": draw(1, 3, 8, 8), "z": draw(1, 3, 8, 8)}]


@case()
def two_norms_share_one_bias_and_scale(draw: Draw):
    """Shared bias and shared normalisation constants may not be overwritten by the first fold."""
    model = graph(
        """(float[N,3,5,5] x) => (float[N,3,1,1] y) {
            a = Conv(x, w, b)
            p = BatchNormalization(a, scale, shift, mean, variance)
            c = Conv(p, w, b)
            q = BatchNormalization(c, scale, shift, mean, variance)
            y = Add(q, b4)
        }""",
        w=draw(3, 3, 3, 3),
        b=draw(3),
        b4=draw(1, 3, 1, 1),
        **norm(draw, 3),
    )
    return model, [{"x": draw(size, 3, 5, 5)} for size in (1, 3)]


@case()
def conv_read_twice_before_norm(draw: Draw):
    """The convolution's own output is still wanted."""
    text = "(float[1,3,8,8] x) => (float[?,?,?,?] y) { a = Conv(x, w) p = BatchNormalization(a, scale, shift, mean, variance) y = Add(p, a) }"
    return graph(text, w=draw(4, 3, 3, 3), **norm(draw, 4)), [{"x": draw(1, 3, 8, 8)}]


@case()
def conv_is_an_output_before_norm(draw: Draw):
    """The convolution's own output leaves the graph."""
    text = "(float[1,3,8,8] x) => (float[?,?,?,?] y, float[?,?,?,?] a) { a = Conv(x, w) y = BatchNormalization(a, scale, shift, mean, variance) }"
    return graph(text, w=draw(4, 3, 3, 3), **norm(draw, 4)), [{"x": draw(1, 3, 8, 8)}]


@case()
def transposed_grouped_conv_before_norm(draw: Draw):
    """ConvTranspose keeps its output channels on axis 1, per group."""
    text = "(float[1,4,6,6] x) => (float[?,?,?,?] y) { a = ConvTranspose <group = 2> (x, w) y = BatchNormalization(a, scale, shift, mean, variance) }"
    return graph(text, w=draw(4, 3, 3, 3), **norm(draw, 6)), [{"x": draw(1, 4, 6, 6)}]


@case()
def norm_in_training_mode(draw: Draw):
    """In training mode the statistics come from the batch, and there are three outputs."""
    model = graph(
        """(float[2,3,8,8] x) => (float[?,?,?,?] y, float[4] m, float[4] v) {
            a = Conv(x, w)
            y, m, v = BatchNormalization <training_mode = 1> (a, scale, shift, mean, variance)
        }""",
        w=draw(4, 3, 3, 3),
        **norm(draw, 4),
    )
    return model, [{"x": draw(2, 3, 8, 8)}]


@case()
def norm_with_zero_and_tiny_variance(draw: Draw):
    """Epsilon counts, and a scale of zero is legal."""
    constants = norm(draw, 3) | {
        "variance": np.float32([0, 1e-12, 1]),
        "scale": np.float32([1, 0, -2]),
    }
    model = graph(
        "(float[N,3,4,4] x) => (float[N,3,2,2] y) { a = Conv(x, w) y = BatchNormalization <epsilon = 0.001> (a, scale, shift, mean, variance) }",
        w=draw(3, 3, 3, 3),
        **constants,
    )
    return model, [{"x": draw(2, 3, 4, 4)}]


@case()
def norm_whose_constants_are_inputs(draw: Draw):
    """IR 3 lists every initializer as an input; later IRs make them overridable."""
    model = graph(
        """(float[1,2,3,3] x, float[2] scale, float[2] shift, float[2] mean, float[2] variance) => (float[?,?,?,?] y) {
            y = BatchNormalization(x, scale, shift, mean, variance)
        }""",
        opset=9,
        ir=3,
        **norm(draw, 2),
    )
    return model, [{"x": draw(1, 2, 3, 3)}]


@case()
def conv_plus_vector_on_width(draw: Draw):
    """A vector of 4 added to [1,4,4,4] lies along the width, not along the channels."""
    text = "(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Conv(x, w) y = Add(a, k) }"
    return graph(text, w=draw(4, 3, 3, 3), k=draw(4)), [{"x": draw(1, 3, 6, 6)}]


@case()
def conv_times_picture(draw: Draw):
    """A factor per pixel does not go into the weights."""
    text = "(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Conv(x, w) y = Mul(a, k) }"
    return graph(text, w=draw(4, 3, 3, 3), k=draw(1, 1, 4, 4)), [{"x": draw(1, 3, 6, 6)}]


@case()
def conv_times_factor_that_makes_a_batch(draw: Draw):
    """A factor of [2,4,1,1] doubles the batch."""
    text = "(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Conv(x, w) y = Mul(a, k) }"
    return graph(text, w=draw(4, 3, 3, 3), k=draw(2, 4, 1, 1)), [{"x": draw(1, 3, 6, 6)}]


@case()
def pad_with_a_number_before_conv(draw: Draw):
    """Padding with 1.5 is not the convolution's padding."""
    model = graph(
        "(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Pad(x, pads, c) y = Conv(a, w) }",
        w=draw(4, 3, 3, 3),
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
        c=scalar(1.5),
    )
    return model, [{"x": draw(1, 3, 6, 6)}]


@case()
def pad_by_reflection_before_conv(draw: Draw):
    """A reflecting Pad is not the convolution's padding."""
    model = graph(
        '(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Pad <mode = "reflect"> (x, pads) y = Conv(a, w) }',
        w=draw(4, 3, 3, 3),
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    )
    return model, [{"x": draw(1, 3, 6, 6)}]


@case()
def pad_with_axes_before_conv(draw: Draw):
    """Pad's own axes (opset 18) give begins and ends in another layout."""
    model = graph(
        "(float[1,3,6,6] x) => (float[?,?,?,?] y) { a = Pad(x, pads, , axes) y = Conv(a, w) }",
        w=draw(4, 3, 3, 3),
        pads=ints(1, 2, 1, 0),
        axes=ints(2, 3),
    )
    return model, [{"x": draw(1, 3, 6, 6)}]


@case()
def pad_that_cuts_before_conv(draw: Draw):
    """Negative pads cut; convolutions take no negative padding."""
    model = graph(
        "(float[N,3,6,6] x) => (float[?,?,?,?] y) { a = Pad(x, pads) y = Conv(a, w) }",
        w=draw(4, 3, 3, 3),
        pads=ints(0, 0, -1, 1, 0, 0, 1, -1),
    )
    return model, [{"x": draw(size, 3, 6, 6)} for size in (1, 2)]


@case()
def pad_before_conv_that_pads_itself(draw: Draw):
    """auto_pad counts from the padded size."""
    model = graph(
        '(float[1,3,7,7] x) => (float[?,?,?,?] y) { a = Pad(x, pads) y = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (a, w) }',
        w=draw(4, 3, 3, 3),
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    )
    return model, [{"x": draw(1, 3, 7, 7)}]


@case()
def pad_with_zero_before_max_pool(draw: Draw):
    """MaxPool pads with minus infinity: over negatives a zero border shows."""
    model = graph(
        "(float[1,2,6,6] x) => (float[?,?,?,?] y) { a = Pad(x, pads) y = MaxPool <kernel_shape = [3,3]> (a) }",
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    )
    return model, [{"x": draw(1, 2, 6, 6) - 9}, {"x": draw(1, 2, 6, 6)}]


@case()
def pad_with_zero_before_average_pool(draw: Draw):
    """AveragePool does not count its own padding unless told."""
    model = graph(
        "(float[1,2,6,6] x) => (float[?,?,?,?] y) { a = Pad(x, pads) y = AveragePool <kernel_shape = [3,3]> (a) }",
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    )
    return model, [{"x": draw(1, 2, 6, 6) + 3}]
