"""Cases about model-local functions: what is known in one call is not known in another."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar

HEAD = '<domain: "local", opset_import: ["" : 18, "local" : 1]> '


@case()
def function_called_with_two_dtypes(draw: Draw):
    """A cast that one call does not need is needed by the other."""
    model = graph(
        "(float[N,3] x, double[3] w) => (float[N,3] y, float[3] z) { y = local.F(x) z = local.F(w) }",
        functions=HEAD + "F (v) => (o) { c = Cast <to = 1> (v) i = Identity(c) o = Neg(i) }",
    )
    return model, [{"x": draw(2, 3), "w": draw(3).astype(np.float64)}]


@case()
def function_called_with_two_ranks(draw: Draw):
    """A Squeeze, a Transpose without perm and a reduction without axes depend on the rank."""
    model = graph(
        "(float[1,N,3] x, float[N] w) => (float[?,?] y, float[?] z) { y = local.F(x) z = local.F(w) }",
        functions=HEAD
        + """F (v) => (o) {
            t = Transpose(v) s = Squeeze(t) u = Transpose(s) m = ReduceMax <keepdims = 1> (v)
            k = Squeeze(m) o = Add(u, k)
        }""",
    )
    return model, [{"x": draw(1, size, 3), "w": draw(size)} for size in (2, 4)]


@case()
def function_whose_sizes_agree_in_one_call_only(draw: Draw):
    """Reshaping to the other's shape is nothing for equal shapes, and something for others."""
    model = graph(
        """(float[N,4] x, float[4,N] w) => (float[?,?] y, float[?,?] z) {
            n = Neg(x) y = local.F(x, n) z = local.F(x, w)
        }""",
        functions=HEAD + "F (v, w) => (o) { s = Shape(w) r = Reshape(v, s) o = Exp(r) }",
    )
    return model, [{"x": draw(size, 4), "w": draw(4, size)} for size in (2, 1, 4)]


@case()
def function_whose_names_are_those_around_the_call(draw: Draw):
    """x, y and k mean other values inside."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { k = Neg(x) a = local.F(k, x) y = Identity(a) }",
        functions=HEAD
        + "F (y, k) => (x) { a = Identity(y) i = Identity(k) b = Exp(a) x = Sub(b, i) }",
    )
    return model, [{"x": draw(2, 3)}]


@case()
def function_attribute_that_is_an_axis(draw: Draw):
    """Softmax and Concat take their axis from the call; nothing may be merged across axes."""
    model = graph(
        """(float[3,3] x) => (float[?,?] y, float[?,?] z) {
            y = local.F <axis = 0> (x) z = local.F <axis = 1> (x)
        }""",
        functions=HEAD
        + """F <axis> (v) => (o) {
            s = Softmax <axis: int = @axis> (v) t = Softmax <axis = 1> (v)
            c = Concat <axis: int = @axis> (s, t) n = Softmax <axis: int = @axis> (v) d = Sub(n, s)
            o = Concat <axis: int = @axis> (c, d)
        }""",
    )
    return model, [{"x": draw(3, 3)}]


@case()
def function_attribute_that_is_a_constant(draw: Draw):
    """Two Constants of one attribute are equal, of two attributes they are not."""
    model = graph(
        "(float[N] x) => (float[N] y, float[N] z) { y = local.F <s = 2.0, t = 2.0> (x) z = local.F <s = 3.0, t = 5.0> (x) }",
        functions=HEAD
        + """F <s, t> (v) => (o) {
            a = Constant <value_float: float = @s> () b = Constant <value_float: float = @s> ()
            c = Constant <value_float: float = @t> () p = Mul(v, a) q = Mul(p, b) r = Sub(q, c)
            two = Constant <value_float = 2.0> () o = Pow(r, two)
        }""",
    )
    return model, [{"x": draw(5)}]


@case()
def function_that_keeps_what_is_not_there(draw: Draw):
    """An input that a call leaves out stays left out for the nodes that read it."""
    model = graph(
        "(float[N] x) => (float[N] y, float[N] z, float[N] w) { y = local.F(x) z = local.F(x, low) w = local.F(x, , high) }",
        functions=HEAD
        + "F (v, low, high) => (o) { i = Identity(v) c = Clip(i, low, high) d = Clip(i, low) e = Sub(c, d) o = Add(e, c) }",
        low=scalar(-0.5),
        high=scalar(0.5),
    )
    return model, [{"x": draw(9)}]


@case()
def function_whose_size_depends_on_its_numbers(draw: Draw):
    """Two calls find as many numbers as there are, which need not be equally many."""
    model = graph(
        """(float[N] x, float[N] w) => (float[?] y, bool[?] e) {
            a = local.F(x) b = local.F(w) s = Shape(a) t = Shape(b) e = Equal(s, t)
            u = Shape(a) y = Reshape(a, u)
        }""",
        functions=HEAD
        + """F (v) => (o) {
            z = Constant <value_float = 0.0> () g = Greater(v, z) o = Compress(v, g)
        }""",
    )
    return model, [{"x": draw(6), "w": draw(6)}, {"x": np.ones(2, "f"), "w": -np.ones(2, "f")}]


@case()
def function_in_a_loop_whose_size_grows(draw: Draw):
    """The call in the body sees another size each time."""
    model = graph(
        """(float[N] x, int64 trips) => (float[?] y) <bool go = {1}> {
            y = Loop (trips, go, x) <body = b (int64 i, bool c, float[?] v) => (bool d, float[?] w) {
                d = Identity(c) w = local.F(v)
            }>
        }""",
        functions=HEAD
        + "F (v) => (o) { s = Shape(v) n = Neg(v) r = Reshape(n, s) o = Concat <axis = 0> (v, r) }",
    )
    return model, [{"x": draw(2), "trips": scalar(trips, np.int64)} for trips in (0, 1, 3)]


@case()
def function_with_a_branch_that_returns_its_input(draw: Draw):
    """The branch reads the function's input and constant, and hands one of them on."""
    model = graph(
        "(float[2] x, bool c) => (float[2] y) { a = local.F(x, c) y = local.F(a, c) }",
        functions=HEAD
        + """F (v, c) => (o) {
            k = Constant <value_floats = [1.0, 2.0]> () m = Constant <value_floats = [1.0, 2.0]> ()
            o = If (c) <then_branch = t () => (float[2] p) { p = Identity(k) },
                else_branch = e () => (float[2] q) { i = Identity(v) j = Add(i, m) q = Identity(j) }>
        }""",
    )
    return model, [{"x": draw(2), "c": scalar(value, bool)} for value in (True, False)]


@case("random")
def function_that_draws(draw: Draw):
    """Two calls draw twice, also where the draw lies in a function inside."""
    model = graph(
        "(float[N,50] x) => (float[N,50] y) { a = local.F(x) b = local.F(x) y = Sub(a, b) }",
        functions=HEAD
        + "F (v) => (o) { i = Identity(v) o = local.G(i) }"
        + HEAD
        + "G (v) => (o) { r = RandomNormalLike(v) o = Add(r, v) }",
    )
    return model, [{"x": draw(4, 50)}]


@case("custom")
def function_with_an_unknown_operator_inside(draw: Draw):
    """Calls are as opaque as what is in them, unread ones too."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a = local.F(x) b = local.F(x) u = local.F(b) y = Sub(a, b) }",
        functions='<domain: "local", opset_import: ["" : 18, "my.ops" : 1]> '
        "F (v) => (o) { k = Constant <value_float = 1.0> () i = Identity(v) o = my.ops.Blend <alpha = 0.5> (i, k) }",
    )
    model.opset_import.add(domain="my.ops", version=1)
    return model, [{"x": draw(2, 3)}]


@case()
def function_that_nobody_calls_any_more(draw: Draw):
    """What the unread call needed goes with it, but not what another function calls."""
    model = graph(
        "(float[N,3] x) => (float[N,3] y) { a = local.F(x) y = local.H(x) }",
        functions=HEAD
        + "F (v) => (o) { a = local.G(v) o = local.H(a) }"
        + HEAD
        + "G (v) => (o) { o = Exp(v) }"
        + HEAD
        + "H (v) => (o) { i = Identity(v) o = Neg(i) }",
    )
    return model, [{"x": draw(2, 3)}]


@case()
def function_with_a_shared_target_of_a_reshape(draw: Draw):
    """As an initializer the constant target would be free; in a body it is one more node."""
    model = graph(
        "(float[N,2,3] x) => (float[?,?] y, int64[2] s) { y, s = local.F(x) }",
        functions=HEAD
        + """F (v) => (o, s) {
            z = Constant <value_ints = [0]> () six = Constant <value_ints = [6]> () h = Shape(v)
            n = Gather(h, z) s = Concat <axis = 0> (n, six) r = Reshape(v, s) e = Relu(r) o = Reshape(e, s)
        }""",
    )
    return model, [{"x": draw(size, 2, 3)} for size in (2, 1)]
