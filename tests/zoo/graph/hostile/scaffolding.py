"""Cases about shape arithmetic as exporters write it, and about declared shapes that lie."""

import numpy as np
from onnx import TensorProto, helper

from hostile.casebook import Draw, case, graph, ints


@case()
def shape_with_start_and_end(draw: Draw):
    """Shape has start and end since opset 15."""
    model = graph(
        """(float[N,3,4] x) => (float[N,3,4] y) {
            size = Shape <start = -2, end = -1> (x)
            factor = Cast <to = 1> (size)
            y = Mul(x, factor)
        }"""
    )
    return model, [{"x": draw(size, 3, 4)} for size in (2, 1)]


@case()
def shape_start_beyond_the_rank(draw: Draw):
    """start and end are clamped: the result may be empty, not an error."""
    model = graph(
        """(float[N,3] x) => (int64[?] y, int64[?] z) {
            y = Shape <start = 1, end = -5> (x)
            z = Shape <start = -9, end = 9> (x)
        }"""
    )
    return model, [{"x": draw(size, 3)} for size in (2, 0)]


@case()
def declared_intermediate_shape_lies(draw: Draw):
    """value_info says 24 where the input decides: the torch exporter does that."""
    model = graph(
        """(float[N,S,4] x) => (float[?,?] y) <int64 one = {1}, int64[1] axis = {0}, int64[1] rest = {-1}> {
            r = Relu(x)
            sizes = Shape(r)
            size = Gather(sizes, one)
            column = Unsqueeze(size, axis)
            target = Concat <axis = 0> (rest, column)
            y = Reshape(r, target)
        }"""
    )
    lie = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 24, 4])
    model.graph.value_info.append(lie)
    return model, [{"x": draw(2, size, 4)} for size in (24, 6)]


@case()
def declared_output_shape_lies(draw: Draw):
    """The output is declared [N,24]; a Reshape target taken from there fails at other lengths."""
    model = graph(
        """(float[N,S] x) => (float[N,24] y) {
            a = Relu(x)
            sizes = Shape(a)
            b = Neg(a)
            y = Reshape(b, sizes)
        }"""
    )
    return model, [{"x": draw(2, size)} for size in (24, 5)]


@case()
def unnamed_free_dims_are_not_equal(draw: Draw):
    """Two dims without a name are two unknowns."""
    model = graph(
        """(float[?,3] x, float[?,3] z) => (float[?,3] y) <int64[1] three = {3}> {
            size = Shape <start = 0, end = 1> (x)
            target = Concat <axis = 0> (size, three)
            y = Expand(z, target)
        }"""
    )
    return model, [{"x": draw(a, 3), "z": draw(b, 3)} for a, b in ((4, 1), (1, 4), (3, 3))]


@case()
def negative_declared_dim_is_free(draw: Draw):
    """Old exporters write -1 for a free dim."""
    model = graph("(float[N,3] x) => (float[N,3] y) { sizes = Shape(x) y = Reshape(x, sizes) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1
    return model, [{"x": draw(size, 3)} for size in (2, 5)]


@case()
def zero_declared_dim_is_empty(draw: Draw):
    """A declared 0 is a size."""
    text = (
        "(float[0,3] x) => (float[?,3] y) { a = Add(x, k) sizes = Shape(a) y = Expand(k, sizes) }"
    )
    return graph(text, k=draw(1, 3)), [{"x": draw(0, 3)}]


@case()
def expand_scaffold_of_minus_one(draw: Draw):
    """torch's expand(-1, 4): Where(Equal(target, -1), ones, target), at batch 1 and empty too."""
    model = graph(
        """(float[N,1] x) => (float[?,?] y) <int64[2] target = {-1,4}, int64[2] rank = {2,0}, int64[1] two = {2}, int64 minus = {-1}> {
            ones = ConstantOfShape <value = int64[1] {1}> (two)
            scale = Mul(ones, minus)
            free = Equal(target, scale)
            size = Where(free, ones, target)
            y = Expand(x, size)
        }"""
    )
    return model, [{"x": draw(size, 1)} for size in (3, 1, 0)]


@case()
def where_equal_on_a_free_size(draw: Draw):
    """Equal(Shape(x), 1) cannot be decided before the size is known."""
    model = graph(
        """(float[N,M] x) => (float[?,?] y, int64[2] s) <int64[2] ones = {1,1}, int64[2] three = {3,3}> {
            sizes = Shape(x)
            single = Equal(sizes, ones)
            s = Where(single, three, sizes)
            y = Expand(x, s)
        }"""
    )
    return model, [{"x": draw(*size)} for size in ((1, 1), (1, 2), (2, 1), (4, 5))]


@case()
def size_arithmetic_divides_and_rounds(draw: Draw):
    """N/2*2 is not N, and (N+3)/2 is not N/2 + 1."""
    model = graph(
        """(float[N,M] x) => (int64[1] y, int64[1] z, float[?] w) <int64[1] two = {2}, int64[1] three = {3}, int64[1] zero = {0}> {
            n = Shape <start = 0, end = 1> (x)
            half = Div(n, two)
            y = Mul(half, two)
            sum = Add(n, three)
            z = Div(sum, two)
            flat = Reshape(x, rest)
            w = Slice(flat, zero, half, zero)
        }""",
        rest=ints(-1),
    )
    return model, [{"x": draw(*size)} for size in ((5, 3), (4, 2), (1, 1), (0, 2))]


@case()
def size_arithmetic_goes_negative(draw: Draw):
    """(N-4)/3 truncates towards zero in ONNX, floors in Python; Mod has its own sign."""
    model = graph(
        """(float[N] x) => (int64[1] y, int64[1] z, int64[1] w) <int64[1] four = {4}, int64[1] three = {3}> {
            n = Shape(x)
            less = Sub(n, four)
            y = Div(less, three)
            z = Mod(less, three)
            w = Mod <fmod = 1> (less, three)
        }"""
    )
    return model, [{"x": draw(size)} for size in (0, 2, 3, 9)]


@case()
def size_through_float_and_ceil(draw: Draw):
    """Interpolation computes sizes in float: floor(N * 0.5) is no polynomial in N."""
    model = graph(
        """(float[N,4] x) => (float[?,4] y) <float[1] half = {0.5}, int64[1] four = {4}, int64[1] zero = {0}, int64[1] one = {1}> {
            n = Shape <start = 0, end = 1> (x)
            wide = Cast <to = 1> (n)
            scaled = Mul(wide, half)
            up = Ceil(scaled)
            rows = Cast <to = 7> (up)
            y = Slice(x, zero, rows, zero)
        }"""
    )
    return model, [{"x": draw(size, 4)} for size in (5, 4, 1, 0)]


@case()
def size_of_everything(draw: Draw):
    """Size is a product; it is 0 when any dim is."""
    model = graph(
        """(float[N,M,2] x) => (float[?] y, int64 s) <int64[1] axis = {0}> {
            s = Size(x)
            column = Unsqueeze(s, axis)
            y = Reshape <allowzero = 1> (x, column)
        }"""
    )
    return model, [{"x": draw(*size, 2)} for size in ((2, 3), (0, 3), (1, 1))]


@case()
def one_name_two_sizes(draw: Draw):
    """Both inputs say N; ONNX Runtime lets them differ, and Add broadcasts."""
    model = graph(
        """(float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Add(x, z) y = Relu(a) }"""
    )
    return model, [{"x": draw(4, 3), "z": draw(4, 3)}, {"x": draw(1, 3), "z": draw(1, 3)}]


@case()
def range_over_a_free_size(draw: Draw):
    """Range(0, N, 2) has ceil(N/2) elements."""
    model = graph(
        """(float[N,3] x) => (float[?,3] y, int64[1] s) <int64 zero = {0}, int64 two = {2}> {
            sizes = Shape(x)
            n = Gather(sizes, zero)
            every = Range(zero, n, two)
            y = Gather(x, every)
            s = Shape(every)
        }"""
    )
    return model, [{"x": draw(size, 3)} for size in (5, 4, 1, 0)]


@case()
def nonzero_of_a_constant_and_of_data(draw: Draw):
    """NonZero's size depends on data; of a constant it may fold."""
    model = graph(
        """(float[N] x) => (int64[1,?] y, float[?] z) {
            fixed = NonZero(mask)
            y = NonZero(x)
            row = Squeeze(fixed, axis)
            z = Gather(x, row)
        }""",
        mask=np.array([True, False, True]),
        axis=ints(0),
    )
    return model, [{"x": values} for values in (np.float32([0, 1, -0.0]), draw.wild(9))]


@case()
def concat_of_sizes_with_a_tensor_in_between(draw: Draw):
    """A target whose middle part comes from data is only partly known."""
    model = graph(
        """(float[N,12] x, int64[1] columns) => (float[?,?,?] y) {
            n = Shape <start = 0, end = 1> (x)
            target = Concat <axis = 0> (n, columns, rest)
            y = Reshape(x, target)
        }""",
        rest=ints(-1),
    )
    return model, [{"x": draw(2, 12), "columns": ints(size)} for size in (3, 12, 1)]


@case()
def reduce_prod_and_min_of_sizes(draw: Draw):
    """ReduceProd(Shape) and Min of two sizes are not linear."""
    model = graph(
        """(float[N,M] x) => (float[?] y, int64[1] least) <int64[1] axis = {0}> {
            sizes = Shape(x)
            all = ReduceProd(sizes)
            y = Reshape <allowzero = 1> (x, all)
            least = ReduceMin(sizes)
        }"""
    )
    return model, [{"x": draw(*size)} for size in ((2, 3), (7, 1), (0, 2))]
