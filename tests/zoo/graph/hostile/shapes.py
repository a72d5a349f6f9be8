"""Cases about Reshape, Squeeze, Expand and Transpose."""

from hostile.casebook import Draw, case, graph, ints

FAR = 2**63 - 1


@case()
def reshape_zero_after_flatten(draw: Draw):
    """0 in the second target means the first target's dim, not the input's."""
    model = graph(
        """(float[N,4,6] x) => (float[?,?,?] y) <int64[2] flat = {0,-1}, int64[3] back = {0,6,4}> {
            a = Reshape(x, flat)
            y = Reshape(a, back)
        }"""
    )
    return model, [{"x": draw(size, 4, 6)} for size in (2, 5, 1)]


@case()
def reshape_zero_of_merged_dim(draw: Draw):
    """0 stands for 6, which the original input does not have."""
    model = graph(
        """(float[2,3,4] x) => (float[?,?,?] y) <int64[2] merge = {6,4}, int64[3] split = {0,2,2}> {
            a = Reshape(x, merge)
            y = Reshape(a, split)
        }"""
    )
    return model, [{"x": draw(2, 3, 4)}]


@case()
def reshape_chain_zero_moves(draw: Draw):
    """In a chain 0 copies another position each time; -1 has to be worked out at the end."""
    model = graph(
        """(float[N,M,4] x) => (float[?,?,?] y) <int64[3] one = {-1,0,2}, int64[3] two = {0,-1,8}, int64[3] three = {-1,0,8}> {
            a = Reshape(x, one)
            b = Reshape(a, two)
            y = Reshape(b, three)
        }"""
    )
    return model, [{"x": draw(*size, 4)} for size in ((4, 4), (2, 8), (8, 12))]


@case()
def reshape_allowzero_of_nothing(draw: Draw):
    """With allowzero a 0 is a size, not a copy."""
    text = "(float[N,4] x) => (float[?,?,?] y) <int64[3] target = {0,7,3}> { y = Reshape <allowzero = 1> (x, target) }"
    return graph(text), [{"x": draw(0, 4)}]


@case()
def reshape_chain_allowzero_then_not(draw: Draw):
    """Merging two Reshapes may not take allowzero from the wrong one."""
    model = graph(
        """(float[N,4] x) => (float[?,?] y) <int64[3] one = {0,4,5}, int64[2] two = {0,20}> {
            a = Reshape <allowzero = 1> (x, one)
            y = Reshape(a, two)
        }"""
    )
    return model, [{"x": draw(0, 4)}]


@case()
def reshape_computed_with_empty_batch(draw: Draw):
    """The batch is copied by name; -1 in its place is ambiguous when the batch is empty."""
    model = graph(
        """(float[N,3,4] x) => (float[N,12] y) <int64 zero = {0}, int64[1] axis = {0}, int64[1] twelve = {12}> {
            sizes = Shape(x)
            batch = Gather(sizes, zero)
            column = Unsqueeze(batch, axis)
            target = Concat <axis = 0> (column, twelve)
            y = Reshape(x, target)
        }"""
    )
    return model, [{"x": draw(size, 3, 4)} for size in (2, 1, 0)]


@case()
def reshape_to_a_computed_size_that_is_zero(draw: Draw):
    """A computed 0 copies the input's dim too: [-1, 3N] is [1, 3N], but [0, 1] where N is 0."""
    model = graph(
        """(float[N,1,3] x) => (float[?,?] y) <int64[1] axis = {0}> {
            size = Size(x)
            column = Unsqueeze(size, axis)
            target = Concat <axis = 0> (rest, column)
            y = Reshape(x, target)
        }""",
        rest=ints(-1),
    )
    return model, [{"x": draw(size, 1, 3)} for size in (2, 1, 0)]


@case()
def reshape_of_nothing_to_any_size(draw: Draw):
    """Sizes before and after multiply to the same, which says nothing about any one where that is 0."""
    model = graph(
        """(float[N,M] x) => (float[?,?,1] y, int64[3] s) <int64[1] two = {2}, int64[1] zero = {0}, int64[1] one = {1}> {
            part = Slice(x, two, far, one)
            n = Shape <start = 0, end = 1> (x)
            half = Div(n, two)
            target = Concat <axis = 0> (half, zero, one)
            y = Reshape(part, target)
            s = Shape(y)
        }""",
        far=ints(2**63 - 1),
    )
    return model, [{"x": draw(3, 2)}, {"x": draw(4, 1)}]


@case()
def reshape_minus_one_with_empty_other_dim(draw: Draw):
    """[N, 0-size] to [-1, 3]: 0 rows, and the inverse needs N again."""
    model = graph(
        """(float[N,M] x) => (float[?,?] y) <int64[2] wide = {-1,3}> {
            sizes = Shape(x)
            a = Reshape(x, wide)
            y = Reshape <allowzero = 1> (a, sizes)
        }"""
    )
    return model, [{"x": draw(*size)} for size in ((2, 3), (2, 0), (0, 3), (1, 6))]


@case()
def squeeze_of_unsqueeze_negative_axes(draw: Draw):
    """Negative axes count in the output for Unsqueeze, in the input for Squeeze."""
    model = graph(
        """(float[N,1,3] x) => (float[?,?,?,?] y) <int64[1] last = {-1}, int64[1] first = {0}, int64[1] two = {2}> {
            a = Unsqueeze(x, last)
            b = Unsqueeze(a, first)
            y = Squeeze(b, two)
        }"""
    )
    return model, [{"x": draw(size, 1, 3)} for size in (2, 1)]


@case()
def unsqueeze_chain_shuffled_axes(draw: Draw):
    """Unsorted negative axes over three nodes do not cancel the way they read."""
    model = graph(
        """(float[N,1,M] x) => (float[?,?,?,?] y) <int64[2] one = {-1,-4}, int64[1] two = {-3}, int64[2] three = {-1,1}> {
            a = Unsqueeze(x, one)
            b = Unsqueeze(a, two)
            y = Squeeze(b, three)
        }"""
    )
    return model, [{"x": draw(size, 1, 1)} for size in (2, 1)]


@case()
def squeeze_without_axes_on_free_dim(draw: Draw):
    """Squeeze without axes drops the free dim too when it happens to be 1."""
    model = graph("(float[N,1,3] x) => (float[?,?] y) { a = Squeeze(x) y = Relu(a) }")
    return model, [{"x": draw(2, 1, 3)}, {"x": draw(5, 1, 3)}]


@case()
def expand_that_may_do_nothing(draw: Draw):
    """Expand to [4,1] is a no-op at N=4 and a broadcast at N=1."""
    model = graph(
        "(float[N,3] x) => (float[?,3] y) <int64[2] size = {4,1}> { a = Expand(x, size) y = Relu(a) }"
    )
    return model, [{"x": draw(4, 3)}, {"x": draw(1, 3)}]


@case()
def expand_before_lower_rank_add(draw: Draw):
    """Without the Expand, the Add does not make four rows."""
    model = graph(
        "(float[1,3] x) => (float[?,?] y) <int64[2] size = {4,3}> { a = Expand(x, size) y = Add(a, k) }",
        k=draw(3),
    )
    return model, [{"x": draw(1, 3)}]


@case()
def expand_to_the_other_operand(draw: Draw):
    """Expand of [1,3] to Shape(z) may go before Add(z), not when z itself is the broadcast one."""
    model = graph(
        """(float[K,3] x, float[N,3] z) => (float[?,3] y) {
            sizes = Shape(z)
            a = Expand(x, sizes)
            y = Add(a, z)
        }"""
    )
    sizes = ((1, 4), (4, 4), (4, 1), (1, 1), (1, 0))
    return model, [{"x": draw(left, 3), "z": draw(right, 3)} for left, right in sizes]


@case()
def expand_kept_alive_by_shape(draw: Draw):
    """The Expand is absorbed by the Add, but Shape still needs its size."""
    model = graph(
        """(float[1,3] x, int64[2] size) => (float[?,?] y, int64[2] s) {
            a = Expand(x, size)
            y = Add(a, x)
            s = Shape(a)
        }"""
    )
    return model, [{"x": draw(1, 3), "size": ints(*size)} for size in ((4, 3), (1, 1), (0, 3))]


@case()
def add_then_expand_to_one_input(draw: Draw):
    """Shape(x)[0] is not Shape(x + z)[0]: either may be the broadcast one."""
    model = graph(
        """(float[N,3] x, float[K,3] z) => (float[?,3] y) {
            a = Add(x, z)
            sizes = Shape(x)
            y = Expand(a, sizes)
        }"""
    )
    return model, [{"x": draw(a, 3), "z": draw(b, 3)} for a, b in ((1, 4), (4, 1), (4, 4))]


@case()
def broadcast_of_two_free_dims(draw: Draw):
    """max(N, K) is wrong for a broadcast: 1 against 0 is 0."""
    model = graph(
        """(float[N,1] x, float[1,K] z) => (float[?,?] y, int64[2] s) {
            a = Add(x, z)
            b = Add(a, x)
            s = Shape(b)
            y = Reshape <allowzero = 1> (b, s)
        }"""
    )
    return model, [{"x": draw(a, 1), "z": draw(1, b)} for a, b in ((3, 4), (1, 4), (1, 0), (0, 1))]


@case()
def transpose_chain_around_reshape(draw: Draw):
    """Merged perms go in the right order, and none crosses the Reshape."""
    model = graph(
        """(float[2,3,4] x) => (float[?,?] y) <int64[2] flat = {12,2}> {
            a = Transpose <perm = [2,0,1]> (x)
            b = Transpose <perm = [2,0,1]> (a)
            c = Reshape(b, flat)
            y = Transpose <perm = [1,0]> (c)
        }"""
    )
    return model, [{"x": draw(2, 3, 4)}]


@case()
def transpose_without_perm(draw: Draw):
    """No perm means reversed, not identity; twice it is the identity."""
    model = graph(
        """(float[N,3,4] x) => (float[4,3,N] y, float[N,3,4] z) {
            y = Transpose(x)
            a = Transpose(x)
            b = Transpose(a)
            z = Neg(b)
        }"""
    )
    return model, [{"x": draw.wild(size, 3, 4)} for size in (2, 1, 0)]


@case()
def transpose_that_only_moves_ones(draw: Draw):
    """Moving a free dim that may be 1 is not a Reshape at other sizes."""
    model = graph(
        """(float[N,1,M] x) => (float[?,?,?] y) <int64[3] target = {1,-1,2}> {
            a = Transpose <perm = [1,2,0]> (x)
            y = Reshape(a, target)
        }"""
    )
    return model, [{"x": draw(a, 1, b)} for a, b in ((1, 4), (4, 1), (2, 3))]


@case()
def flatten_axis_at_the_ends(draw: Draw):
    """Flatten at 0, at the rank and at a negative axis differ."""
    model = graph(
        """(float[N,3,2] x) => (float[?,?] y, float[?,?] z, float[?,?] w) {
            y = Flatten <axis = 0> (x)
            z = Flatten <axis = 3> (x)
            w = Flatten <axis = -1> (x)
        }"""
    )
    return model, [{"x": draw(size, 3, 2)} for size in (2, 1, 0)]
