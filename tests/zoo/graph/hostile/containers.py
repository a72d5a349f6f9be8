"""Cases about sequences and optionals."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case()
def sequence_split_and_joined(draw: Draw):
    """Splitting into a sequence and joining it again is the identity, taking one of it is not."""
    model = graph(
        """(float[N,3] x) => (float[?,3] y) <int64 one = {1}, int64 zero = {0}> {
            s = SplitToSequence <axis = 0> (x, one)
            a = SequenceAt(s, zero)
            c = ConcatFromSequence <axis = 0> (s)
            y = Add(c, a)
        }"""
    )
    return model, [{"x": draw(size, 3)} for size in (2, 4, 1)]


@case()
def sequence_edited_before_it_is_read(draw: Draw):
    """Insert and erase shift positions; SequenceAt(-1) counts from the end of the edited one."""
    model = graph(
        """(float[2] a, float[2] b, float[2] c) => (float[2] y, float[2] z, float[?] w, int64 n) <int64 zero = {0}, int64 one = {1}, int64 last = {-1}> {
            s = SequenceConstruct(a, b)
            t = SequenceInsert(s, c, zero)
            u = SequenceErase(t, one)
            y = SequenceAt(u, last)
            z = SequenceAt(t, zero)
            w = ConcatFromSequence <axis = 0> (u)
            n = SequenceLength(t)
        }"""
    )
    return model, [{"a": draw(2), "b": draw(2), "c": draw(2)}]


@case()
def sequence_of_unequal_parts_split_without_keepdims(draw: Draw):
    """keepdims = 0 drops the axis; a chunk size leaves a smaller last part."""
    model = graph(
        """(float[N,3] x) => (float[3] y, float[?,3] z) <int64 zero = {0}, int64 last = {-1}, int64 two = {2}> {
            s = SplitToSequence <axis = 0, keepdims = 0> (x)
            y = SequenceAt(s, zero)
            t = SplitToSequence <axis = 0> (x, two)
            z = SequenceAt(t, last)
        }"""
    )
    return model, [{"x": draw(size, 3)} for size in (3, 4, 1)]


@case()
def sequence_grown_in_a_loop(draw: Draw):
    """A sequence is carried by a Loop and joined at the end."""
    model = graph(
        """(float[2,3] x, int64 trips) => (float[?,3] y) <bool go = {1}> {
            empty = SequenceConstruct(x)
            s = Loop (trips, go, empty) <body = b (int64 i, bool c, seq(float[?,3]) v) => (bool d, seq(float[?,3]) u) {
                e = Add(x, x)
                u = SequenceInsert(v, e)
                d = Identity(c)
            }>
            y = ConcatFromSequence <axis = 0> (s)
        }"""
    )
    return model, [{"x": draw(2, 3), "trips": scalar(trips, np.int64)} for trips in (0, 1, 3)]


@case()
def sequence_as_input_and_output(draw: Draw):
    """The signature has a sequence; its elements differ in shape."""
    model = graph(
        """(seq(float[?]) s, float[2] x) => (seq(float[?]) t, int64 n) {
            u = SequenceInsert(s, x)
            t = Identity(u)
            n = SequenceLength(s)
        }"""
    )
    return model, [{"s": [draw(2), draw(3)], "x": draw(2)}, {"s": [draw(1)], "x": draw(2)}]


@case()
def stacked_with_new_axis(draw: Draw):
    """new_axis stacks, without it the parts are joined."""
    model = graph(
        """(float[2] a, float[2] b) => (float[?,?] y, float[?] z) {
            s = SequenceConstruct(a, b)
            y = ConcatFromSequence <axis = 1, new_axis = 1> (s)
            z = ConcatFromSequence <axis = 0> (s)
        }"""
    )
    return model, [{"a": draw(2), "b": draw(2)}]


@case()
def optional_around_a_tensor(draw: Draw):
    """Optional and OptionalGetElement change the type and not the value."""
    model = graph(
        """(float[3] x) => (float[3] y) {
            a = Relu(x)
            o = Optional(a)
            b = OptionalGetElement(o)
            k = Add(k1, k2)
            y = Add(b, k)
        }""",
        k1=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(3)}]


@case()
def optional_that_may_be_missing(draw: Draw):
    """OptionalHasElement of an input is decided by the caller."""
    model = graph(
        """(optional(float[3]) o, float[3] x) => (float[3] y) {
            has = OptionalHasElement(o)
            y = If (has) <then_branch = t () => (float[3] p) { v = OptionalGetElement(o) p = Add(v, x) }, else_branch = e () => (float[3] q) { q = Neg(x) }>
        }"""
    )
    return model, [{"o": draw(3), "x": draw(3)}, {"o": None, "x": draw(3)}]
