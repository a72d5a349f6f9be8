"""Cases about operators nobody knows; the judge gives them a body, a simplifier sees none."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case("custom")
def custom_between_known(draw: Draw):
    """An unknown operator is opaque; constants beside it may fold."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a = Relu(x) b = my.ops.Blend <alpha = 0.5> (a, k) kk = Add(k1, k2) y = Add(b, kk) }",
        k=draw(3),
        k1=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(2, 3)}]


@case("custom")
def custom_of_constants_only(draw: Draw):
    """An unknown operator on constants may not be folded, nor what hangs on it."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { g = my.ops.Blend <alpha = 0.25> (k, k) kk = Add(k1, k2) gg = Mul(kk, g) y = Add(x, gg) }",
        k=draw(3),
        k1=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(2, 3)}]


@case("custom")
def custom_in_the_default_domain(draw: Draw):
    """TensorRT's plugins sit in the default domain."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a = Relu(x) b = BlendPlugin_TRT <alpha = 0.5> (a, k) kk = Add(k1, k2) y = Add(b, kk) }",
        k=draw(3),
        k1=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(2, 3)}]


@case("custom")
def custom_called_twice(draw: Draw):
    """Two calls of an operator with a state are two calls."""
    text = "(float[N,50] x) => (float[N,50] y) { a = my.ops.Noise(x) b = my.ops.Noise(x) y = Sub(a, b) }"
    return graph(text), [{"x": draw(4, 50)}]


@case("custom")
def custom_inside_a_branch(draw: Draw):
    """An unknown operator inside an If."""
    model = graph(
        """(float[2,3] x, bool c) => (float[2,3] y) {
            r = If (c) <then_branch = t () => (float[?,?] o) { o = my.ops.Blend <alpha = 2.0> (x, k1) }, else_branch = e () => (float[?,?] p) { p = Relu(x) }>
            kk = Add(k1, k2)
            y = Add(r, kk)
        }""",
        k1=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(2, 3), "c": scalar(value, bool)} for value in (True, False)]


@case("custom")
def custom_whose_output_shape_is_unknown(draw: Draw):
    """An unknown operator may change the shape: a no-op Reshape or Expand after it is not known to be one."""
    model = graph(
        """(float[N,4] x) => (float[?,?] y, float[?,?] z) {
            a = my.ops.Fold(x)
            s = Shape(x)
            b = Add(a, zeros)
            y = Mul(b, ones)
            z = Expand(a, two)
        }""",
        zeros=np.zeros((1, 2), "f"),
        ones=np.ones((1, 1), "f"),
        two=np.array([1, 2]),
    )
    return model, [{"x": draw(size, 4)} for size in (2, 1)]


@case("custom")
def custom_with_an_unread_result(draw: Draw):
    """A dead call may go, one with a read second output may not lose its place."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a, b = my.ops.Two(x) y = Exp(b) }",
    )
    return model, [{"x": draw(2, 3)}]


@case("custom")
def standard_name_in_another_domain(draw: Draw):
    """my.ops.Identity is not Identity, my.ops.Add is not Add."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a = my.ops.Identity(x) b = my.ops.Add(a, zeros) y = Neg(b) }",
        zeros=np.zeros(3, "f"),
    )
    return model, [{"x": draw(2, 3)}]
