"""Cases about Slice, Split, Concat, Gather and Tile."""

import numpy as np

from hostile.casebook import Draw, case, graph, ints

FAR = 2**63 - 1


@case()
def slice_negative_step(draw: Draw):
    """A reversing Slice looks like a full one: start -1, end far below."""
    text = "(float[2,5] x) => (float[2,5] y) <int64[1] axis = {1}, int64[1] step = {-1}> { y = Slice(x, start, end, axis, step) }"
    return graph(text, start=ints(-1), end=ints(-(2**62))), [{"x": draw.wild(2, 5)}]


@case()
def slice_to_int64_max_on_free_dim(draw: Draw):
    """An end of int64 max keeps the free dim whole; adding to it overflows."""
    model = graph(
        """(float[N,5] x) => (float[N,2] y) <int64[1] zero = {0}, int64[1] one = {1}, int64[1] three = {3}, int64[1] last = {-1}> {
            whole = Slice(x, zero, far, zero)
            y = Slice(whole, one, three, last)
        }""",
        far=ints(FAR),
    )
    return model, [{"x": draw.wild(size, 5)} for size in (2, 7, 0)]


@case()
def slice_chain_on_one_axis(draw: Draw):
    """Merged Slices have to add starts and count negative ends from the middle length."""
    model = graph(
        """(float[N,9] x) => (float[?,?] y) <int64[1] one = {1}, int64[1] eight = {8}, int64[1] two = {2}, int64[1] back = {-1}, int64[1] zero = {0}, int64[1] three = {3}> {
            first = Slice(x, one, eight, one)
            second = Slice(first, two, back, one)
            y = Slice(second, zero, three, zero)
        }"""
    )
    return model, [{"x": draw(size, 9)} for size in (2, 5, 1, 0)]


@case()
def slice_chain_with_steps(draw: Draw):
    """Merged Slices multiply steps, and the second end counts in steps of the first."""
    model = graph(
        """(float[1,20] x) => (float[?,?] y) <int64[1] one = {1}, int64[1] end = {19}, int64[1] three = {3}, int64[1] six = {6}, int64[1] two = {2}> {
            first = Slice(x, one, end, one, three)
            y = Slice(first, one, six, one, two)
        }"""
    )
    return model, [{"x": draw(1, 20)}]


@case()
def slice_chain_reversed_twice(draw: Draw):
    """Two reversals are the identity only over the whole axis."""
    model = graph(
        """(float[N,6] x) => (float[?,?] y) <int64[1] axis = {1}, int64[1] back = {-1}, int64[1] start = {4}, int64[1] last = {0}> {
            first = Slice(x, start, last, axis, back)
            y = Slice(first, back, low, axis, back)
        }""",
        low=ints(-FAR - 1),
    )
    return model, [{"x": draw(size, 6)} for size in (1, 3)]


@case()
def slice_backwards_to_int_max(draw: Draw):
    """ONNX clamps the end and takes nothing; ONNX Runtime reads INT_MAX as no end and takes all."""
    model = graph(
        """(float[N,3] x) => (float[?,3] y, int64[?] z) <int64[1] zero = {0}, int64[1] back = {-1}> {
            y = Slice(x, back, far, zero, back)
            sizes = Shape(x)
            z = Slice(sizes, back, near, zero, back)
        }""",
        far=ints(FAR),
        near=ints(2**31 - 1),
    )
    return model, [{"x": draw(size, 3)} for size in (4, 1)]


@case()
def slice_beyond_a_free_dim(draw: Draw):
    """Bounds of 3 and -5 on a free dim give 3, fewer, or nothing, by its size."""
    model = graph(
        """(float[N] x) => (float[?] y, float[?] z) <int64[1] zero = {0}, int64[1] three = {3}, int64[1] five = {-5}, int64[1] two = {-2}> {
            y = Slice(x, zero, three, zero)
            z = Slice(x, five, two, zero)
        }"""
    )
    return model, [{"x": draw(size)} for size in (8, 3, 1, 0)]


@case()
def slice_of_shape_vector_reversed(draw: Draw):
    """Shape()[::-1] and Shape()[-1:] are sizes in another order."""
    model = graph(
        """(float[A,B] x) => (float[?,?] y) <int64[1] back = {-1}, int64[1] zero = {0}> {
            sizes = Shape(x)
            turned = Slice(sizes, back, low, zero, back)
            y = Reshape(x, turned)
        }""",
        low=ints(-FAR - 1),
    )
    return model, [{"x": draw(*size)} for size in ((2, 3), (5, 1), (1, 4))]


@case()
def concat_sliced_back(draw: Draw):
    """A Slice of 3 columns takes the first input back only if that has 3 columns."""
    model = graph(
        """(float[N,A] x, float[N,B] z) => (float[N,?] y) <int64[1] zero = {0}, int64[1] three = {3}, int64[1] one = {1}> {
            c = Concat <axis = 1> (x, z)
            y = Slice(c, zero, three, one)
        }"""
    )
    return model, [{"x": draw(2, a), "z": draw(2, 4)} for a in (3, 2, 0)]


@case()
def concat_with_nothing(draw: Draw):
    """An empty constant may leave the Concat; a free dim may be empty but has to stay."""
    model = graph(
        """(float[N,3] x, float[K,3] z) => (float[?,3] y, float[?,3] w) {
            y = Concat <axis = 0> (nothing, x, z)
            w = Concat <axis = 0> (nothing, x)
        }""",
        nothing=np.zeros((0, 3), np.float32),
    )
    return model, [{"x": draw(a, 3), "z": draw(b, 3)} for a, b in ((2, 3), (2, 0), (0, 0))]


@case()
def split_uneven_and_rejoined(draw: Draw):
    """Split with num_outputs gives a smaller last part; rejoined in another order it is no no-op."""
    model = graph(
        """(float[N,7] x) => (float[N,7] y, float[N,7] z) {
            a, b, c = Split <axis = 1, num_outputs = 3> (x)
            y = Concat <axis = 1> (a, c, b)
            same = Concat <axis = 1> (a, b, c)
            z = Neg(same)
        }"""
    )
    return model, [{"x": draw.wild(size, 7)} for size in (2, 0)]


@case()
def gather_negative_index_of_shape(draw: Draw):
    """Gather(Shape, -1) is the last size."""
    model = graph(
        """(float[N,3,K] x) => (float[?,?] y) <int64[1] last = {-1}, int64[1] rest = {-1}> {
            sizes = Shape(x)
            size = Gather(sizes, last)
            target = Concat <axis = 0> (rest, size)
            y = Reshape(x, target)
        }"""
    )
    return model, [{"x": draw(2, 3, size)} for size in (4, 7, 1)]


@case()
def tile_by_one_and_by_zero(draw: Draw):
    """Tile by ones is a no-op, by zero it is not; by a free repeat it is unknown."""
    model = graph(
        """(float[N,3] x, int64[2] times) => (float[?,?] y, float[?,?] z, float[?,?] w) <int64[2] ones = {1,1}, int64[2] none = {0,1}> {
            a = Tile(x, ones)
            y = Neg(a)
            z = Tile(x, none)
            w = Tile(x, times)
        }"""
    )
    return model, [{"x": draw(2, 3), "times": ints(*times)} for times in ((1, 1), (2, 3), (0, 1))]
