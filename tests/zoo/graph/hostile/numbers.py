"""Cases about values: NaN, infinity, signed zero, bounds."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case()
def same_clip_with_and_without_minimum(draw: Draw):
    """Clip(x, '', c) and Clip(x, c) have the same inputs if the empty one is dropped."""
    text = "(float[2,5] x) => (float[2,5] y) { a = Clip(x, , c) b = Clip(x, c) y = Sub(a, b) }"
    return graph(text, c=scalar(0.3)), [{"x": draw(2, 5)}]


@case()
def multiply_by_ones_that_broadcast(draw: Draw):
    """Mul by ones is no no-op when the ones have more rows."""
    model = graph("(float[3] x) => (float[2,3] y) { y = Mul(x, ones) }", ones=np.ones((2, 3), "f"))
    return model, [{"x": draw(3)}]


@case()
def add_zeros_that_broadcast_a_free_dim(draw: Draw):
    """Add of zeros [4,3] makes four rows out of one."""
    text = "(float[N,3] x) => (float[?,3] y) { z = Add(x, zeros) y = Relu(z) }"
    return graph(text, zeros=np.zeros((4, 3), "f")), [{"x": draw(1, 3)}, {"x": draw(4, 3)}]


@case()
def add_zero_loses_negative_zero(draw: Draw):
    """x + 0 turns -0.0 into 0.0, x - 0 and x + -0.0 do not; 1/x tells."""
    model = graph(
        """(float[N] x) => (float[N] y, float[N] z, float[N] w) {
            a = Add(x, zero)
            y = Reciprocal(a)
            b = Sub(x, zero)
            z = Reciprocal(b)
            c = Add(x, negative)
            w = Reciprocal(c)
        }""",
        zero=scalar(0.0),
        negative=scalar(-0.0),
    )
    return model, [{"x": np.float32([0.0, -0.0, 1, -1])}, {"x": draw.wild(11)}]


@case()
def multiply_by_zero_keeps_nan(draw: Draw):
    """x * 0 is NaN for NaN and infinity, -0.0 for negatives."""
    model = graph(
        """(float[N,3] x) => (float[N,3] y, float[N,3] z) <float[3] zeros = {0,0,0}> {
            a = Mul(x, zeros)
            y = Add(a, k)
            z = Mul(x, zeros)
        }""",
        k=draw(3),
    )
    return model, [{"x": draw.wild(size, 3)} for size in (4, 0)]


@case()
def nan_and_infinity_in_constants(draw: Draw):
    """Folding inf * 0, inf - inf and 0/0 has to give NaN, without a complaint."""
    model = graph(
        """(float[4] x) => (float[4] y, float[4] z, float[4] w) {
            a = Mul(big, zeros)
            b = Sub(big, big)
            c = Div(zeros, zeros)
            y = Add(x, a)
            z = Max(x, b)
            w = Min(x, c)
        }""",
        big=np.float32([np.inf, -np.inf, 1, np.nan]),
        zeros=np.float32([0, -0.0, 0, 0]),
    )
    return model, [{"x": draw.wild(4)}]


@case()
def subtract_itself(draw: Draw):
    """x - x is NaN where x is infinite or NaN."""
    text = "(float[3] x) => (float[3] y) <float[3] zeros = {0,0,0}> { a = Sub(x, x) b = Mul(a, zeros) y = Add(x, b) }"
    return graph(text), [{"x": np.float32([1, np.inf, np.nan])}]


@case()
def divide_by_itself_and_equal_to_itself(draw: Draw):
    """x / x is NaN at 0 and NaN; NaN is not equal to itself."""
    model = graph(
        """(float[N] x) => (float[N] y, bool[N] z, float[N] w) <float zero = {0}> {
            y = Div(x, x)
            z = Equal(x, x)
            w = Pow(x, zero)
        }"""
    )
    return model, [{"x": draw.wild(11)}]


@case()
def negative_zero_is_another_constant(draw: Draw):
    """0.0 and -0.0 compare equal and may not be merged: x/0 and x/-0 differ."""
    model = graph(
        "(float[2] x) => (float[2] y) { a = Div(x, zero) b = Div(x, negative) y = Sub(a, b) }",
        zero=np.zeros(2, "f"),
        negative=-np.zeros(2, "f"),
    )
    return model, [{"x": np.float32([1, -1])}]


@case()
def min_and_max_crossed(draw: Draw):
    """Max(5) then Min(2) is 2 everywhere but at NaN."""
    text = "(float[4] x) => (float[4] y) <float low = {5}, float high = {2}> { a = Max(x, low) y = Min(a, high) }"
    return graph(text), [{"x": np.float32([-5, 3, 9, np.nan])}]


@case()
def clip_relu_clip(draw: Draw):
    """Merged bounds are clamped one after the other."""
    model = graph(
        """(float[6] x) => (float[6] y) <float low = {-2}, float high = {3}, float low2 = {1}, float high2 = {2.5}> {
            a = Clip(x, low, high)
            b = Relu(a)
            y = Clip(b, low2, high2)
        }"""
    )
    return model, [{"x": np.float32([-5, -1, 0.5, 1.5, 2.7, 9])}]


@case()
def clip_with_crossed_bounds(draw: Draw):
    """min > max gives max; two Clips with disjoint ranges give one number."""
    model = graph(
        """(float[6] x) => (float[6] y, float[6] z) <float low = {4}, float high = {-1}, float low2 = {5}, float high2 = {6}> {
            y = Clip(x, low, high)
            a = Clip(x, , high)
            z = Clip(a, low2, high2)
        }"""
    )
    return model, [{"x": np.float32([-5, -1, 0.5, 4.5, np.inf, 9])}]


@case()
def where_with_equal_branches_and_nan(draw: Draw):
    """Where(c, x, x) is x; Where(x == x, x, 0) is not."""
    model = graph(
        """(float[N] x, bool[N] c) => (float[N] y, float[N] z) <float zero = {0}> {
            a = Where(c, x, x)
            y = Neg(a)
            same = Equal(x, x)
            z = Where(same, x, zero)
        }"""
    )
    return model, [{"x": draw.wild(9), "c": draw(9) > 0}]


@case()
def argmax_after_softmax(draw: Draw):
    """Softmax over axis 0 changes the order along axis 1."""
    model = graph(
        "(float[3,4] x) => (int64[3] y) { a = Softmax <axis = 0> (x) y = ArgMax <axis = 1, keepdims = 0> (a) }"
    )
    return model, [{"x": draw(3, 4) * 4}]


@case()
def sum_and_mean_of_one(draw: Draw):
    """Sum, Mean, Min and Max of one input are the input itself."""
    model = graph(
        """(float[N] x) => (float[N] y) { a = Sum(x) b = Mean(a) c = Max(b) d = Min(c) e = Concat <axis = 0> (d) y = Neg(e) }"""
    )
    return model, [{"x": draw.wild(9)}, {"x": draw(0)}]


@case()
def not_not_and_neg_neg(draw: Draw):
    """Neg(Neg(x)) is x bit for bit, Abs(Neg(x)) is Abs(x), Not(Greater) is not LessOrEqual at NaN."""
    model = graph(
        """(float[N] x, float[N] z) => (float[N] y, bool[N] w) {
            a = Neg(x)
            y = Neg(a)
            g = Greater(x, z)
            w = Not(g)
        }"""
    )
    return model, [{"x": draw.wild(9), "z": draw.wild(9)}]


@case()
def scalar_and_vector_of_one(draw: Draw):
    """A constant of shape [1] is not one of shape []: the result has another rank."""
    model = graph(
        """(float x) => (float[1] y, float z) {
            y = Add(x, vector)
            z = Add(x, point)
        }""",
        vector=np.float32([0]),
        point=scalar(0.0),
    )
    return model, [{"x": scalar(3.5)}]


@case()
def reciprocal_and_square_root_chain(draw: Draw):
    """Sqrt(x)^2 is NaN for negatives; 1/(1/x) is not x."""
    model = graph(
        """(float[N] x) => (float[N] y, float[N] z) <float two = {2}> {
            r = Sqrt(x)
            y = Pow(r, two)
            a = Reciprocal(x)
            z = Reciprocal(a)
        }"""
    )
    return model, [{"x": draw.wild(11)}]
