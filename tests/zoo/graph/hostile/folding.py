"""Cases about what to fold, what not to fold, and where constants live."""

import numpy as np
from onnx import TensorProto, helper

from hostile.casebook import Draw, case, graph, ints, scalar


@case("size")
def constant_of_shape_that_is_big(draw: Draw):
    """Folding makes 16 MB out of 16 bytes."""
    text = "(float[1,2048] x) => (float[2048,2048] y) <int64[2] size = {2048,2048}> { k = ConstantOfShape <value = float[1] {0.5}> (size) y = Mul(x, k) }"
    return graph(text), [{"x": draw(1, 2048)}]


@case("size")
def expand_and_tile_that_are_big(draw: Draw):
    """Folding makes 16 MB out of 4 KB."""
    model = graph(
        "(float[1,2048] x) => (float[1,2048] y) <int64[2] size = {2048,1024}, int64[2] times = {1,2}> { k = Expand(e, size) t = Tile(k, times) y = MatMul(x, t) }",
        e=draw(1, 1024),
    )
    return model, [{"x": draw(1, 2048)}]


@case("size")
def range_that_is_big(draw: Draw):
    """Folding makes 32 MB out of three numbers."""
    text = "(float[1] x) => (float[4000000] y) <int64 zero = {0}, int64 far = {4000000}, int64 one = {1}> { k = Range(zero, far, one) f = Cast <to = 1> (k) y = Add(x, f) }"
    return graph(text), [{"x": draw(1)}]


@case("size")
def many_small_folds_of_one_constant(draw: Draw):
    """Each fold is under a budget of 64 KiB, together they are 2 MB: one weight used in many forms."""
    lines = "\n".join(f"t{i} = Tile(w, times{i}) s{i} = ReduceSum(t{i})" for i in range(2, 66))
    total = ", ".join(f"s{i}" for i in range(2, 66))
    model = graph(
        f"(float[1,1] x) => (float[1,1] y) {{ {lines} total = Sum({total}) y = Add(x, total) }}",
        w=draw.positive(16, 16),
        **{f"times{i}": ints(1, i) for i in range(2, 66)},
    )
    return model, [{"x": draw(1, 1)}]


@case("size")
def one_hot_and_eye_that_are_big(draw: Draw):
    """EyeLike and OneHot of constants are 4 MB."""
    model = graph(
        """(float[1024] x) => (float[1024] y) <int64[2] size = {1024,1024}, int64 depth = {1024}, float[2] values = {0,1}> {
            z = ConstantOfShape <value = float[1] {0}> (size)
            eye = EyeLike(z)
            hot = OneHot(index, depth, values)
            p = MatMul(x, eye)
            y = MatMul(p, hot)
        }""",
        index=np.arange(1024)[::-1].copy(),
    )
    return model, [{"x": draw(1024)}]


@case("size")
def transposed_weight_read_both_ways(draw: Draw):
    """Folding the Transpose frees nothing: the weight is still read as it is."""
    model = graph(
        "(float[1,512] x) => (float[1,512] y) { t = Transpose <perm = [1,0]> (w) a = MatMul(x, w) b = Relu(a) y = MatMul(b, t) }",
        w=draw(512, 512),
    )
    return model, [{"x": draw(1, 512)}]


@case("size")
def big_constant_that_is_an_output(draw: Draw):
    """A folded region whose value leaves the graph has to be stored whole."""
    model = graph(
        "(float[1] x) => (float[1] y, float[1000,1000] k) <int64[2] size = {1000,1000}> { y = Relu(x) k = ConstantOfShape <value = float[1] {2}> (size) }"
    )
    return model, [{"x": draw(1)}]


@case()
def constant_output(draw: Draw):
    """An output that depends on no input still has to be one."""
    text = "(float[2] x) => (float[2] y, float[2] k) { k = Add(a, b) y = Relu(x) }"
    return graph(text, a=draw(2), b=draw(2)), [{"x": draw(2)}]


@case()
def initializer_output(draw: Draw):
    """An initializer that is an output, under its own name, beside another use."""
    text = "(float[2] x) => (float[2] y, float[2] a) { y = Add(x, a) }"
    return graph(text, a=draw(2)), [{"x": draw(2)}]


@case()
def equal_initializers_that_are_both_outputs(draw: Draw):
    """Merging equal constants may not take one of the outputs away."""
    same = draw(2)
    text = "(float[2] x) => (float[2] a, float[2] y, float[2] b) { s = Add(x, a) y = Add(s, b) }"
    return graph(text, a=same, b=same.copy()), [{"x": draw(2)}]


@case()
def overridable_initializer(draw: Draw):
    """From IR 4 on an initializer that is an input too is a default, not a constant."""
    text = "(float[2] x, float[2] w) => (float[2] y) { k = Add(w, w) y = Mul(x, k) }"
    return graph(text, ir=8, w=draw(2)), [{"x": draw(2)}, {"x": draw(2), "w": draw(2)}]


@case()
def overridable_shape_and_condition(draw: Draw):
    """A default target and a default condition may be overridden by the caller."""
    model = graph(
        """(float[4,6] x, int64[2] target, bool up) => (float[?,?] y) {
            a = Reshape(x, target)
            y = If (up) <then_branch = t () => (float[?,?] p) { p = Exp(a) }, else_branch = e () => (float[?,?] q) { q = Neg(a) }>
        }""",
        target=ints(8, 3),
        up=scalar(True, bool),
    )
    feeds = {"x": draw(4, 6)}
    return model, [feeds, feeds | {"target": ints(2, 12)}, feeds | {"up": scalar(False, bool)}]


@case()
def overridable_equal_to_a_constant(draw: Draw):
    """A default with the same bytes as a constant may not be merged with it."""
    same = np.float32([0, 0])
    text = "(float[2] x, float[2] w) => (float[2] y) { a = Add(x, w) b = Sub(a, k) y = Exp(b) }"
    return graph(text, w=same, k=same.copy()), [{"x": draw(2)}, {"x": draw(2), "w": draw(2)}]


@case()
def sparse_initializer(draw: Draw):
    """Sparse constants are initializers of another field."""
    model = graph("(float[2,3] x) => (float[2,3] y) { y = Add(x, sp) }")
    values = helper.make_tensor("sp", TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("places", TensorProto.INT64, [2], [1, 5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 3]))
    return model, [{"x": draw(2, 3)}]


@case()
def constants_in_every_attribute(draw: Draw):
    """Constant has seven forms: value, value_float(s), value_int(s), value_string(s)."""
    model = graph(
        """(float[N] x) => (float[N] y) {
            a = Constant <value = float[1] {2.0}> ()
            b = Constant <value_float = 3.0> ()
            c = Constant <value_floats = [4.0]> ()
            d = Constant <value_int = 5> ()
            e = Constant <value_ints = [6]> ()
            s = Constant <value_string = "ab"> ()
            t = Constant <value_strings = ["ab"]> ()
            same = Equal(s, t)
            g = Add(d, e)
            h = Cast <to = 1> (g)
            i = Sum(a, b, c, h)
            j = Where(same, i, a)
            y = Mul(x, j)
        }""",
        opset=19,
    )
    return model, [{"x": draw(3)}]


@case()
def sparse_constant_node(draw: Draw):
    """Constant has an eighth form, sparse_value."""
    model = graph(
        "(float[4] x) => (float[4] y) { k = Constant <value_float = 1.0> () y = Add(x, k) }"
    )
    values = helper.make_tensor("v", TensorProto.FLOAT, [2], [1.5, -2.0])
    places = helper.make_tensor("i", TensorProto.INT64, [2], [0, 3])
    del model.graph.node[0].attribute[:]
    sparse = helper.make_sparse_tensor(values, places, [4])
    model.graph.node[0].attribute.append(helper.make_attribute("sparse_value", sparse))
    return model, [{"x": draw(4)}]


@case()
def constants_in_typed_fields(draw: Draw):
    """Tensors may keep numbers in float_data, int32_data (halves as bits) or uint64_data, not raw."""
    half = np.float16([1.5, -2, 65504]).view(np.uint16)
    model = graph(
        """(float[3] x) => (float[3] y) {
            h = Cast <to = 1> (half)
            u = Cast <to = 1> (wide)
            k = Add(h, u)
            s = Add(k, plain)
            y = Add(x, s)
        }""",
        half=TensorProto(dims=[3], data_type=TensorProto.FLOAT16, int32_data=half.tolist()),
        wide=TensorProto(dims=[3], data_type=TensorProto.UINT64, uint64_data=[1, 2, 3]),
        plain=TensorProto(dims=[3], data_type=TensorProto.FLOAT, float_data=[0.5, 0.25, -0.0]),
    )
    return model, [{"x": draw(3)}]


@case()
def folding_that_would_fail(draw: Draw):
    """A constant division by zero and a bad index sit in a branch never taken: they may not stop us."""
    model = graph(
        """(float[2] x, bool c) => (float[2] y, float[2] z) <int64[1] one = {1}, int64[1] zero = {0}, int64[1] far = {7}> {
            y = If (c) <then_branch = t () => (float[2] p) { i = Gather(k, far) p = Add(x, i) }, else_branch = e () => (float[2] q) { q = Add(x, k) }>
            s = Add(k, k)
            z = Add(x, s)
        }""",
        k=draw(2),
    )
    return model, [{"x": draw(2), "c": scalar(False, bool)}]


@case()
def long_chain_of_constants(draw: Draw):
    """Two hundred constant nodes in a row, one of them read from outside in the middle."""
    steps = "\n".join(f"c{i + 1} = Mul(c{i}, r)" for i in range(200))
    text = (
        f"(float[2] x) => (float[2] y, float[2] z) {{ {steps} y = Add(x, c200) z = Add(x, c100) }}"
    )
    return graph(text, c0=draw(2), r=np.float32([1.01, -0.99])), [{"x": draw(2)}]


@case()
def shared_expression_over_constants_and_inputs(draw: Draw):
    """The same product is written twice with its operands swapped; Sub and Div do not commute."""
    model = graph(
        """(float[N,2] x) => (float[N,2] y, float[N,2] z) {
            a = Mul(x, k)
            b = Mul(k, x)
            c = Sub(x, k)
            d = Sub(k, x)
            y = Add(a, b)
            e = Div(c, d)
            z = Add(e, y)
        }""",
        k=draw(2),
    )
    return model, [{"x": draw.wild(6, 2)}, {"x": draw(1, 2)}]


@case()
def same_node_other_attribute(draw: Draw):
    """Default and written attributes, near numbers and other attributes are not the same node."""
    model = graph(
        """(float[N,4] x) => (float[N,4] y, float[N,1] z, float[N] w, float[N,4] v) {
            a = LeakyRelu(x)
            b = LeakyRelu <alpha = 0.01> (x)
            c = LeakyRelu <alpha = 0.010001> (x)
            p = Sub(a, b)
            y = Sub(p, c)
            z = ReduceMax <keepdims = 1> (x, one)
            w = ReduceMax <keepdims = 0> (x, one)
            q = CumSum(x, axis)
            r = CumSum <reverse = 1> (x, axis)
            v = Sub(q, r)
        }""",
        one=ints(1),
        axis=scalar(1, np.int64),
    )
    return model, [{"x": draw(size, 4) * 100} for size in (3, 1)]
