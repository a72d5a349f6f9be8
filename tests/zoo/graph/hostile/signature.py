"""Cases about the graph's names, inputs and outputs, and what a model carries along."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case()
def unread_input(draw: Draw):
    """An input nobody reads is part of the signature."""
    return graph("(float[2] x, float[3] unused) => (float[2] y) { y = Relu(x) }"), [
        {"x": draw(2), "unused": draw(3)}
    ]


@case()
def input_is_output(draw: Draw):
    """An input is an output, under its own name."""
    return graph("(float[2] x) => (float[2] y, float[2] x) { y = Relu(x) }"), [{"x": draw(2)}]


@case()
def identity_to_outputs(draw: Draw):
    """Two outputs of one value, and an input renamed by Identity: all three need a node."""
    model = graph(
        "(float[2] x) => (float[2] y, float[2] z, float[2] z2) { y = Identity(x) r = Relu(x) z = Identity(r) z2 = Identity(r) }"
    )
    return model, [{"x": draw(2)}]


@case()
def identity_to_a_scalar_output(draw: Draw):
    """The declared shape of a scalar is empty: that is not the same as undeclared."""
    model = graph(
        "(float[N] x) => (float y, float z, float w) { s = ReduceSum <keepdims = 0> (x) y = Identity(s) a = ReduceMax <keepdims = 0> (x) b = Identity(a) z = Neg(b) w = Identity(k) }",
        k=scalar(2.5),
    )
    return model, [{"x": draw(3)}]


@case()
def identity_alone(draw: Draw):
    """A graph of one Identity between input and output."""
    return graph("(float[N] x) => (float[N] y) { y = Identity(x) }"), [{"x": draw.wild(9)}]


@case()
def no_ops_all_the_way(draw: Draw):
    """Every node is a no-op, and still the output has another name than the input."""
    model = graph(
        "(float[N,2] x) => (float[N,2] y, float[N,2] z) <int64[2] whole = {0,-1}> { a = Reshape(x, whole) b = Cast <to = 1> (a) c = Transpose <perm = [0,1]> (b) y = Identity(c) z = Identity(b) }"
    )
    return model, [{"x": draw.wild(size, 2)} for size in (6, 1)]


@case()
def equal_expressions_to_outputs(draw: Draw):
    """Merged, one node would need two output names."""
    return graph("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }"), [
        {"x": draw(2)}
    ]


@case()
def equal_to_an_input_and_output(draw: Draw):
    """An output equal to another output that is also read on."""
    model = graph(
        "(float[N] x) => (float[N] y, float[N] z, float[N] w) { y = Exp(x) z = Identity(y) w = Neg(z) }"
    )
    return model, [{"x": draw(size)} for size in (3, 0)]


@case()
def names_a_fusion_would_choose(draw: Draw):
    """New names clash with names that are there."""
    model = graph(
        """(float[2,3] x) => (float[2,3] y) {
            [fusionconvbn_0] relu_0 = Relu(x)
            t = Transpose <perm = [1,0]> (relu_0)
            constant_0 = Transpose <perm = [1,0]> (t)
            c_1 = Add(constant_0, k)
            y = Add(c_1, val_0)
        }""",
        k=draw(3),
        val_0=draw(3),
    )
    return model, [{"x": draw(2, 3)}]


@case()
def nodes_that_share_a_name(draw: Draw):
    """Node names need not be there, and repeat between a branch and the outside."""
    model = graph(
        """(float[2] x) => (float[2] y) <bool yes = {1}> {
            [n] a = Exp(x)
            b = If (yes) <then_branch = t () => (float[2] o) { [n] c = Neg(a) [m] o = Neg(c) }, else_branch = e () => (float[2] p) { [n] p = Abs(a) }>
            [m] y = Add(b, k)
        }""",
        k=draw(2),
    )
    return model, [{"x": draw(2)}]


@case()
def names_with_odd_characters(draw: Draw):
    """Value names hold slashes, colons, spaces and letters of any script."""
    model = graph("(float[2] x) => (float[2] y) { a = Exp(x) b = Neg(a) y = Neg(b) }")
    renamed = {"x": "in put/名:0", "a": "model/ä.1", "y": "out put/é;0"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    return model, [{"in put/名:0": draw(2)}]


@case()
def nodes_out_of_order_in_names_only(draw: Draw):
    """Names count backwards: what sorts by name runs backwards."""
    model = graph(
        "(float[2] z9) => (float[2] a0) { z8 = Exp(z9) z7 = Neg(z8) m = Sub(z8, z7) a0 = Div(m, z9) }"
    )
    return model, [{"z9": draw(2)}]


@case()
def every_input_a_different_type(draw: Draw):
    """Types of inputs and outputs are kept, unread ones and no-ops included."""
    model = graph(
        """(bool[N] b, int32[N] i, float16[N] h, double[N] d, uint8[N] u, string[N] s) => (bool[N] b2, int32[N] i2, float16[N] h2, double[N] d2, uint8[N] u2, string[N] s2) {
            n = Not(b)
            b2 = Not(n)
            i2 = Cast <to = 6> (i)
            h2 = Identity(h)
            d2 = Neg(d)
            m = Max(u)
            u2 = Identity(m)
            s2 = Identity(s)
        }"""
    )
    feeds = {
        "b": np.array([True, False]),
        "i": np.int32([-1, 7]),
        "h": np.float16([0.1, -0.0]),
        "d": np.float64([0.1, np.nan]),
        "u": np.uint8([0, 255]),
        "s": np.array(["a", "ß"], object),
    }
    return model, [feeds]


@case()
def dead_nodes_and_unread_outputs(draw: Draw):
    """Dead chains go; the unread output of a node that is alive stays nameless or named."""
    model = graph(
        """(float[N,4] x) => (float[N,2] y) {
            v, i = TopK <axis = 1> (x, two)
            dead = Exp(x)
            deader = Neg(dead)
            p, q = Split <axis = 1, num_outputs = 2> (x)
            y = Add(v, q)
        }""",
        two=np.array([2]),
    )
    return model, [{"x": draw(size, 4)} for size in (3, 1)]


@case()
def deep_chain(draw: Draw):
    """Two thousand nodes in a row: what recurses breaks."""
    steps = "\n".join(f"c{i + 1} = Neg(c{i})" for i in range(1999))
    text = f"(float[2] c0) => (float[2] y) {{ {steps} y = Exp(c1999) }}"
    return graph(text), [{"c0": draw(2)}]


@case()
def wide_sum(draw: Draw):
    """One node with five hundred inputs, many of them the same."""
    summands = ", ".join(["x", "n", "k"] * 170)
    text = f"(float[2] x) => (float[2] y) {{ n = Neg(x) y = Sum({summands}) }}"
    return graph(text, k=draw(2)), [{"x": draw(2)}]


@case()
def no_inputs_at_all(draw: Draw):
    """A graph without inputs is one constant."""
    model = graph(
        "() => (float[2] y, float[2] k) { k = Add(a, b) y = Mul(k, a) }", a=draw(2), b=draw(2)
    )
    return model, [{}]


@case()
def old_opset_with_attributes(draw: Draw):
    """At opset 9 axes, bounds and ratios are attributes, and Upsample exists."""
    model = graph(
        """(float[1,2,3,3] x) => (float[?,?,?,?] y) {
            a = Unsqueeze <axes = [0]> (x)
            b = Squeeze <axes = [0]> (a)
            c = Slice <axes = [2], starts = [0], ends = [9223372036854775807]> (b)
            d = Clip <min = -1.0, max = 1.0> (c)
            e = Dropout <ratio = 0.5> (d)
            f = Pad <pads = [0,0,0,0,0,0,0,0]> (e)
            g = Upsample <mode = "nearest"> (f, scales)
            y = Relu(g)
        }""",
        opset=9,
        ir=5,
        scales=np.float32([1, 1, 2, 2]),
    )
    return model, [{"x": draw(1, 2, 3, 3)}]
