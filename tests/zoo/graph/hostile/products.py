"""Cases about matrix products, reductions, quantisation and patterns that fusions look for."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case()
def matmul_plus_higher_rank(draw: Draw):
    """The addend has more dims than the product: no Gemm."""
    text = "(float[3,4] x) => (float[?,?,?] y) { a = MatMul(x, w) y = Add(a, k) }"
    return graph(text, w=draw(4, 5), k=draw(2, 3, 5)), [{"x": draw(3, 4)}]


@case()
def matmul_plus_column(draw: Draw):
    """A column [3,1] fits M = 3 and M = 1, where it makes three rows."""
    text = "(float[M,4] x) => (float[?,5] y) { a = MatMul(x, w) y = Add(a, k) }"
    return graph(text, w=draw(4, 5), k=draw(3, 1)), [{"x": draw(3, 4)}, {"x": draw(1, 4)}]


@case()
def matmul_of_vectors_plus_constant(draw: Draw):
    """1-D operands lose a dim, which Gemm does not take."""
    model = graph(
        """(float[4] x, float[N,4] z) => (float[5] y, float[N] u, float v) {
            a = MatMul(x, w)
            y = Add(a, k)
            b = MatMul(z, c)
            u = Add(b, one)
            d = MatMul(x, c)
            v = Add(d, one)
        }""",
        w=draw(4, 5),
        k=draw(5),
        c=draw(4),
        one=scalar(1.0),
    )
    return model, [{"x": draw(4), "z": draw(size, 4)} for size in (3, 1)]


@case()
def batched_matmul_plus_batched_addend(draw: Draw):
    """The addend [1,5] goes with a batched product, [2,1,1] does not go into a Gemm."""
    model = graph(
        """(float[B,M,4] x) => (float[?,?,5] y, float[?,?,5] z) {
            a = MatMul(x, w)
            y = Add(row, a)
            z = Add(a, batch)
        }""",
        w=draw(4, 5),
        row=draw(1, 5),
        batch=draw(2, 1, 1),
    )
    return model, [{"x": draw(*size, 4)} for size in ((2, 3), (1, 3), (2, 1), (1, 1))]


@case()
def matmul_plus_another_product(draw: Draw):
    """Both sides of the Add are products: only one becomes the Gemm, over free sizes."""
    model = graph(
        "(float[M,4] x, float[K,4] z) => (float[?,5] y) { a = MatMul(x, w) b = MatMul(z, w) y = Add(a, b) }",
        w=draw(4, 5),
    )
    sizes = ((3, 3), (3, 1), (1, 3), (1, 1))
    return model, [{"x": draw(a, 4), "z": draw(b, 4)} for a, b in sizes]


@case()
def gemm_plus_higher_rank(draw: Draw):
    """The addend raises the rank; the bias is already taken."""
    text = "(float[3,4] x) => (float[?,?,?] y) { a = Gemm <alpha = 0.5, transB = 1> (x, w, b) y = Add(a, k) }"
    return graph(text, w=draw(5, 4), b=draw(5), k=draw(2, 1, 5)), [{"x": draw(3, 4)}]


@case()
def gemm_times_column(draw: Draw):
    """A factor per row does not go into the weight; beta scales the bias as well."""
    text = "(float[3,4] x) => (float[?,?] y) { a = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, b) y = Mul(a, k) }"
    return graph(text, w=draw(5, 4), b=draw(5), k=draw(3, 1)), [{"x": draw(3, 4)}]


@case()
def gemm_with_beta_plus_row(draw: Draw):
    """Adding to a bias that is multiplied by beta needs a division, by zero here."""
    model = graph(
        """(float[M,4] x) => (float[M,5] y, float[M,5] z) {
            a = Gemm <alpha = 2.0, beta = 0.5> (x, w, b)
            y = Add(a, k)
            c = Gemm <beta = 0.0> (x, w, b)
            z = Add(c, k)
        }""",
        w=draw(4, 5),
        b=draw(5),
        k=draw(5),
    )
    return model, [{"x": draw(size, 4)} for size in (3, 1)]


@case()
def gemm_with_transposed_input_and_no_bias(draw: Draw):
    """transA turns the free dim; without a bias beta means nothing."""
    text = "(float[4,M] x) => (float[M,5] y) { t = Transpose <perm = [1,0]> (w) a = Gemm <transA = 1, transB = 1, beta = 3.0> (x, t) y = Add(a, k) }"
    return graph(text, w=draw(4, 5), k=draw(1, 5)), [{"x": draw(4, size)} for size in (3, 1)]


@case()
def product_read_twice_before_add(draw: Draw):
    """The product is wanted beside the sum."""
    text = "(float[3,4] x) => (float[?,?] y) { a = MatMul(x, w) b = Add(a, k) y = Mul(a, b) }"
    return graph(text, w=draw(4, 5), k=draw(5)), [{"x": draw(3, 4)}]


@case(keeps=("DequantizeLinear",))
def quantised_weights_stay_quantised(draw: Draw):
    """Folding DequantizeLinear makes the weights four times as big."""
    model = graph(
        "(float[3,64] x) => (float[3,32] y) { wide = DequantizeLinear <axis = 0> (w, s, z) y = MatMul(x, wide) }",
        w=draw.integers(-127, 127, 64, 32).astype(np.int8),
        s=draw.positive(64),
        z=np.zeros(64, np.int8),
    )
    return model, [{"x": draw(3, 64)}]


@case(keeps=("QuantizeLinear", "DequantizeLinear"))
def quantise_then_dequantise_activations(draw: Draw):
    """The pair rounds and saturates: no no-op, with equal or with other scales."""
    model = graph(
        """(float[N,8] x) => (float[N,8] y, float[N,8] z) <uint8 zero = {128}> {
            q = QuantizeLinear(x, s, zero)
            y = DequantizeLinear(q, s, zero)
            z = DequantizeLinear(q, s2, zero)
        }""",
        s=scalar(0.02),
        s2=scalar(0.04),
    )
    return model, [{"x": draw(size, 8) * 3} for size in (2, 1, 0)]


@case()
def softmax_of_opset_11(draw: Draw):
    """Before opset 13 Softmax flattens everything after axis 1."""
    text = "(float[2,3,4] x) => (float[?,?,?] y) { a = Softmax(x) b = Transpose <perm = [0,2,1]> (a) y = Transpose <perm = [0,2,1]> (b) }"
    return graph(text, opset=11, ir=6), [{"x": draw(2, 3, 4)}]


@case()
def reduce_over_no_axes(draw: Draw):
    """Empty axes mean nothing or everything by noop_with_empty_axes."""
    model = graph(
        """(float[2,3] x) => (float[?,?] y) {
            a = ReduceSum <noop_with_empty_axes = 1> (x, axes)
            b = ReduceSum <keepdims = 1> (x, axes)
            y = Add(a, b)
        }""",
        axes=np.zeros(0, np.int64),
    )
    return model, [{"x": draw(2, 3)}]


@case()
def reduce_over_a_dim_of_one(draw: Draw):
    """Over a dim of 1 a sum is a no-op, a L2 norm and a variance are not; the dim may be free."""
    model = graph(
        """(float[N,1,3] x) => (float[N,1,3] y, float[N,1,3] z, float[1,1,3] w) <int64[1] one = {1}, int64[1] zero = {0}> {
            s = ReduceSum(x, one)
            y = Neg(s)
            z = ReduceL2(x, one)
            w = ReduceMean(x, zero)
        }"""
    )
    return model, [{"x": draw(size, 1, 3)} for size in (1, 4)]


@case()
def layer_norm_by_hand_over_another_axis(draw: Draw):
    """Mean over axis 1, scale over axis 2: it looks like LayerNormalization and is not."""
    model = graph(
        """(float[N,4,4] x) => (float[N,4,4] y) <int64[1] one = {1}, float two = {2}, float epsilon = {0.00001}> {
            m = ReduceMean(x, one)
            d = Sub(x, m)
            p = Pow(d, two)
            v = ReduceMean(p, one)
            e = Add(v, epsilon)
            r = Sqrt(e)
            n = Div(d, r)
            g = Mul(n, scale)
            y = Add(g, shift)
        }""",
        scale=draw(4),
        shift=draw(4),
    )
    return model, [{"x": draw(size, 4, 4)} for size in (2, 1)]


@case()
def gelu_by_hand_with_another_constant(draw: Draw):
    """x * 0.5 * (1 + erf(x / 1.4)): 1.4 is not the square root of two, and 0.45 is not a half."""
    model = graph(
        """(float[N,4] x) => (float[N,4] y, float[N,4] z) <float root = {1.4}, float true_root = {1.4142135}, float one = {1}, float half = {0.5}, float other = {0.45}> {
            a = Div(x, root)
            b = Erf(a)
            c = Add(b, one)
            d = Mul(x, c)
            y = Mul(d, half)
            e = Div(x, true_root)
            f = Erf(e)
            g = Add(f, one)
            h = Mul(x, g)
            z = Mul(h, other)
        }"""
    )
    return model, [{"x": draw(size, 4) * 3} for size in (2, 1)]


@case()
def attention_by_hand_without_scale(draw: Draw):
    """Softmax over the queries' axis, no scale, a mask that broadcasts from the left: not Attention."""
    model = graph(
        """(float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,4] v, float[S,1] mask) => (float[B,2,?,4] y, float[B,2,?,4] z) {
            kt = Transpose <perm = [0,1,3,2]> (k)
            s = MatMul(q, kt)
            m = Add(s, mask)
            over_queries = Softmax <axis = 2> (m)
            y = MatMul(over_queries, v)
            p = Softmax <axis = -1> (m)
            z = MatMul(p, v)
        }"""
    )
    return model, [
        {"q": draw(b, 2, s, 4), "k": draw(b, 2, t, 4), "v": draw(b, 2, t, 4), "mask": draw(s, 1)}
        for b, s, t in ((2, 3, 5), (1, 1, 1), (1, 4, 4))
    ]
