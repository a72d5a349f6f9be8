"""Cases about casts, integers that wrap, and narrow types."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from hostile.casebook import Draw, case, graph, scalar


@case()
def equal_bytes_other_dtype_or_shape(draw: Draw):
    """Zeros of another dtype or shape are other constants."""
    model = graph(
        "(float[2] x) => (float[1,2] y) { f = Cast <to = 1> (i) a = Add(x, f) b = Add(a, row) y = Add(b, matrix) }",
        i=np.zeros(2, np.int32),
        row=np.zeros(2, "f"),
        matrix=np.zeros((1, 2), "f"),
    )
    return model, [{"x": draw(2)}]


@case()
def cast_through_float16(draw: Draw):
    """The way through float16 rounds and overflows."""
    model = graph(
        "(float[3,3] x) => (float[3,3] y) { a = Cast <to = 10> (x) y = Cast <to = 1> (a) }"
    )
    return model, [{"x": draw(3, 3) * 1000}, {"x": np.full((3, 3), 70000, "f")}]


@case()
def cast_through_bfloat16_and_double(draw: Draw):
    """float to double and back is exact, to bfloat16 it is not."""
    model = graph(
        """(float[3,3] x) => (float[3,3] y, float[3,3] z) {
            a = Cast <to = 16> (x)
            y = Cast <to = 1> (a)
            b = Cast <to = 11> (x)
            c = Cast <to = 1> (b)
            z = Neg(c)
        }"""
    )
    return model, [{"x": draw.wild(3, 3)}]


@case()
def cast_through_int32(draw: Draw):
    """The way through int32 cuts the fraction."""
    model = graph(
        "(float[3,3] x) => (float[3,3] y) { a = Cast <to = 6> (x) y = Cast <to = 1> (a) }"
    )
    return model, [{"x": draw(3, 3) * 10}]


@case()
def cast_int64_through_int32(draw: Draw):
    """The way through int32 wraps; so does int64 through float lose digits."""
    model = graph(
        """(int64[3] x) => (int64[3] y, int64[3] z) {
            a = Cast <to = 6> (x)
            y = Cast <to = 7> (a)
            b = Cast <to = 1> (x)
            z = Cast <to = 7> (b)
        }"""
    )
    return model, [
        {"x": np.array([1, 2**33 + 5, -7])},
        {"x": np.array([2**24 + 1, -(2**40) - 1, 0])},
    ]


@case()
def cast_through_bool(draw: Draw):
    """Cast to bool makes ones; -0.0 is false and NaN is true."""
    model = graph("(float[N] x) => (float[N] y) { a = Cast <to = 9> (x) y = Cast <to = 1> (a) }")
    return model, [{"x": np.float32([2, -3, 0, -0.0, 0.25, np.nan])}]


@case()
def cast_like_of_a_free_input(draw: Draw):
    """CastLike takes the dtype of its second input, whose values do not matter."""
    model = graph(
        """(float[N] x, float16[K] like) => (float16[N] y, float[N] z) {
            y = CastLike(x, like)
            z = CastLike(y, x)
        }"""
    )
    return model, [{"x": draw(5) * 1000, "like": np.zeros(3, np.float16)}]


@case()
def integer_division_and_remainder_of_negatives(draw: Draw):
    """Folded Div truncates, Mod floors, fmod truncates; numpy's // floors."""
    model = graph(
        """(int64[4] x) => (int64[4] y) <int64[4] a = {-7,7,-8,5}, int64[4] b = {2,-2,3,-3}> {
            d = Div(a, b)
            m = Mod(a, b)
            f = Mod <fmod = 1> (a, b)
            s = Add(d, m)
            k = Add(s, f)
            y = Add(x, k)
        }"""
    )
    return model, [{"x": np.zeros(4, np.int64)}]


@case()
def folded_int64_wraps(draw: Draw):
    """int64 max + 1 and max * 2 wrap; Python integers do not."""
    model = graph(
        """(int64[2] x) => (int64[2] y, int64[2] z) {
            a = Add(big, one)
            b = Mul(big, big)
            y = Add(x, a)
            z = Sub(x, b)
        }""",
        big=np.array([2**63 - 1, 2**62 + 3]),
        one=np.array([1, 2**62]),
    )
    return model, [{"x": np.array([0, -5])}]


@case()
def folded_int32_wraps(draw: Draw):
    """int32 arithmetic of shapes wraps at 2^31."""
    model = graph(
        """(int32[3] x) => (int32[3] y) {
            a = Mul(big, big)
            b = Add(a, big)
            y = Add(x, b)
        }""",
        big=np.int32([2**31 - 1, 65537, -(2**31)]),
    )
    return model, [{"x": np.int32([1, 2, 3])}]


@case()
def folded_int8_and_uint8_wrap(draw: Draw):
    """int8 and uint8 constants wrap on Add, Mul, Sub and on Cast."""
    model = graph(
        """(int8[3] x, uint8[3] z) => (int8[3] y, uint8[3] w, uint8[3] v) {
            a = Add(signed, signed)
            y = Sub(a, x)
            b = Mul(unsigned, unsigned)
            w = Add(b, z)
            v = Sub(z, unsigned)
        }""",
        signed=np.int8([127, -128, 64]),
        unsigned=np.uint8([255, 16, 200]),
    )
    return model, [{"x": np.int8([1, 2, -128]), "z": np.uint8([0, 250, 3])}]


@case()
def float16_sums_round_each_time(draw: Draw):
    """Folded float16 arithmetic rounds after each step and overflows at 65504."""
    model = graph(
        """(float16[4] x) => (float16[4] y) {
            a = Mul(k, k)
            b = Add(a, k)
            y = Add(x, b)
        }""",
        k=np.float16([0.1, 300, 6e-5, -2049]),
    )
    return model, [{"x": np.float16([0, 1, -1, 2])}]


@case()
def narrow_constants_of_every_kind(draw: Draw):
    """float16, bfloat16 and int4 constants: packed, and unknown to numpy."""
    model = graph(
        """(float[4] x) => (float[4] y) {
            half = Cast <to = 1> (h)
            brain = Cast <to = 1> (b)
            k = Add(half, brain)
            quarter = DequantizeLinear(q, s)
            k2 = Add(k, quarter)
            y = Add(x, k2)
        }""",
        opset=21,
        ir=10,
        h=np.float16([1, 2, 3, 4]),
        s=scalar(0.5),
        b=helper.make_tensor("b", TensorProto.BFLOAT16, [4], [1, 2, 3, 4]),
        q=helper.make_tensor("q", TensorProto.INT4, [4], [1, -2, 3, -4]),
    )
    return model, [{"x": draw(4)}]


@case()
def float8_constants_of_both_kinds(draw: Draw):
    """float8 saturates or not by its kind and has one or many NaNs."""
    wide = np.float32([0.1, 448, -1000, np.nan])
    model = graph(
        """(float[4] x) => (float[4] y, float[4] z, float[4] w) {
            a = Cast <to = 1> (e4m3)
            y = Add(x, a)
            b = Cast <to = 1> (e5m2)
            z = Add(x, b)
            c = Cast <to = 17, saturate = 0> (wide)
            d = Cast <to = 1> (c)
            w = Add(x, d)
        }""",
        opset=19,
        e4m3=helper.make_tensor("a", TensorProto.FLOAT8E4M3FN, [4], [0.1, 448, -1000, 2**-9]),
        e5m2=helper.make_tensor("b", TensorProto.FLOAT8E5M2, [4], [0.1, 57344, -3, 2**-16]),
        wide=wide,
    )
    return model, [{"x": draw(4)}]


@case()
def four_bit_constants_of_odd_length(draw: Draw):
    """Three 4-bit numbers take two bytes; the last nibble is padding."""
    model = graph(
        """(float[3] x) => (float[3] y, float[3] z) {
            a = DequantizeLinear(signed, s)
            y = Add(x, a)
            b = DequantizeLinear(unsigned, s)
            z = Mul(x, b)
        }""",
        opset=21,
        ir=10,
        signed=helper.make_tensor("q", TensorProto.INT4, [3], [-8, 7, -1]),
        unsigned=helper.make_tensor("u", TensorProto.UINT4, [3], [15, 0, 8]),
        s=scalar(0.25),
    )
    return model, [{"x": draw(3)}]


@case()
def bfloat16_constants_cast_both_ways(draw: Draw):
    """bfloat16 rounds to even; a folded cast that cuts is off by one unit."""
    values = np.float32([1.00390625, 1.01171875, 3.3895e38, -1e-40])
    model = graph(
        """(float[4] x) => (float[4] y, float[4] z) {
            a = Cast <to = 16> (wide)
            b = Cast <to = 1> (a)
            y = Add(x, b)
            c = Cast <to = 1> (narrow)
            z = Add(x, c)
        }""",
        wide=values,
        narrow=helper.make_tensor(
            "n", TensorProto.BFLOAT16, [4], values.astype(ml_dtypes.bfloat16).astype("f")
        ),
    )
    return model, [{"x": np.zeros(4, "f")}, {"x": draw(4)}]


@case()
def text_constants(draw: Draw):
    """A string constant is no numpy number and may still be folded or left alone."""
    model = graph(
        '(float[2] x) => (float[2] y) <string[2] s = {"a","b"}, string[2] t = {"a","c"}> { e = Equal(s, t) y = Where(e, x, k) }',
        opset=19,
        k=draw(2),
    )
    return model, [{"x": draw(2)}]
