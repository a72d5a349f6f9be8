"""Cases about If, Loop and Scan, their scopes, and about functions."""

import numpy as np

from hostile.casebook import Draw, case, graph, ints, scalar


@case()
def if_with_a_constant_condition(draw: Draw):
    """Inlining the branch brings its names and its outer values along."""
    model = graph(
        """(float[2,3] x) => (float[2,3] y) <bool c = {0}> {
            r = If (c) <then_branch = t () => (float[?,?] o) { o = Mul(x, w) }, else_branch = e () => (float[?,?] p) { p = Add(x, w) }>
            y = Relu(r)
        }""",
        w=draw(3),
    )
    return model, [{"x": draw(2, 3)}]


@case()
def if_whose_branch_returns_outer_values(draw: Draw):
    """A branch that only names an outer value has to keep a node for it."""
    model = graph(
        """(float[2,3] x, bool c) => (float[2,3] y, float[3] z) <bool yes = {1}> {
            y = If (c) <then_branch = t () => (float[2,3] o) { o = Identity(x) }, else_branch = e () => (float[2,3] p) { p = Neg(x) }>
            z = If (yes) <then_branch = u () => (float[3] q) { q = Identity(w) }, else_branch = v () => (float[3] s) { s = Neg(w) }>
        }""",
        w=draw(3),
    )
    return model, [{"x": draw(2, 3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def if_whose_branches_are_constants(draw: Draw):
    """A branch without a node that reads anything."""
    model = graph(
        """(float[2,3] x) => (float[2,3] y) <float zero = {0}> {
            s = ReduceSum <keepdims = 0> (x)
            c = Greater(s, zero)
            r = If (c) <then_branch = t () => (float[3] o) { o = Constant <value = float[3] {1,2,3}> () }, else_branch = e () => (float[3] p) { p = Identity(w) }>
            y = Add(x, r)
        }""",
        w=draw(3),
    )
    return model, [{"x": np.full((2, 3), value, "f")} for value in (1, -1)]


@case()
def outer_nodes_read_only_inside_branches(draw: Draw):
    """A node whose only readers are in branches is not dead, nor is its initializer."""
    model = graph(
        """(float[2,3] x) => (float[2,3] y) <float zero = {0}> {
            wt = Transpose <perm = [1,0]> (w)
            we = Identity(w)
            h = Relu(x)
            s = ReduceSum <keepdims = 0> (x)
            c = Greater(s, zero)
            y = If (c) <then_branch = t () => (float[?,?] o) { o = MatMul(h, wt) }, else_branch = e () => (float[?,?] p) { p = MatMul(h, we) }>
        }""",
        w=draw(3, 3),
    )
    return model, [{"x": np.full((2, 3), value, "f")} for value in (1, -1)]


@case()
def equal_ifs_with_other_constants_inside(draw: Draw):
    """Two Ifs with the same input differ by what their branches read."""
    model = graph(
        """(float[3] x, bool c) => (float[3] y) {
            a = If (c) <then_branch = t () => (float[3] o) { o = Add(x, k) }, else_branch = e () => (float[3] p) { p = Mul(x, k) }>
            b = If (c) <then_branch = u () => (float[3] q) { q = Add(x, k2) }, else_branch = f () => (float[3] r) { r = Mul(x, k2) }>
            y = Sub(a, b)
        }""",
        k=draw(3),
        k2=draw(3),
    )
    return model, [{"x": draw(3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def shared_expression_in_two_branches(draw: Draw):
    """Exp(x) in both branches and outside: the value of one branch is not seen from the other."""
    model = graph(
        """(float[3] x, bool c) => (float[3] y, float[3] z) {
            y = If (c) <then_branch = t () => (float[3] o) { a = Exp(x) o = Add(a, k) }, else_branch = e () => (float[3] p) { b = Exp(x) p = Sub(b, k) }>
            d = Exp(x)
            z = Add(d, y)
        }""",
        k=draw(3),
    )
    return model, [{"x": draw(3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def branches_that_use_the_same_names(draw: Draw):
    """Sibling branches name different values alike; inlining one may not clash with the outside."""
    model = graph(
        """(float[3] x, bool c) => (float[3] y) <bool yes = {1}> {
            r = If (c) <then_branch = t () => (float[3] o) { a = Exp(x) o = Neg(a) }, else_branch = e () => (float[3] o) { a = Abs(x) o = Sqrt(a) }>
            s = If (yes) <then_branch = t () => (float[3] o) { a = Tanh(r) o = Neg(a) }, else_branch = e () => (float[3] o) { a = Abs(r) o = Sqrt(a) }>
            y = Add(r, s)
        }"""
    )
    return model, [{"x": draw(3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def branches_of_unequal_shape(draw: Draw):
    """The rank of the result depends on the condition: no shape is known after it."""
    model = graph(
        """(float[2,3] x, bool c) => (float[?,?] y) {
            r = If (c) <then_branch = t () => (float[?,?] o) { o = Transpose <perm = [1,0]> (x) }, else_branch = e () => (float[?,?] p) { p = Identity(x) }>
            sizes = Shape(r)
            f = Cast <to = 1> (sizes)
            s = ReduceSum(f)
            y = Add(r, s)
        }"""
    )
    return model, [{"x": draw(2, 3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def nested_ifs_with_one_constant(draw: Draw):
    """The inner condition is constant, the outer is not; the innermost reads two scopes up."""
    model = graph(
        """(float[3] x, bool c) => (float[3] y) <bool no = {0}> {
            h = Exp(x)
            y = If (c) <
                then_branch = t () => (float[3] o) {
                    g = Neg(h)
                    o = If (no) <then_branch = u () => (float[3] q) { q = Sqrt(g) }, else_branch = v () => (float[3] r) { r = Add(g, h) }>
                },
                else_branch = e () => (float[3] p) { p = Mul(h, k) }>
        }""",
        k=draw(3),
    )
    return model, [{"x": draw(3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def loop_without_carried_values(draw: Draw):
    """A Loop that carries nothing and reads all from outside."""
    model = graph(
        """(float[4,3] x) => (float[?,3] y) <int64 four = {4}, bool go = {1}> {
            y = Loop (four, go) <body = b (int64 i, bool c) => (bool d, float[3] o) { row = Gather(x, i) o = Mul(row, w) d = Identity(c) }>
        }""",
        w=draw(3),
    )
    return model, [{"x": draw(4, 3)}]


@case()
def loop_over_constants(draw: Draw):
    """The first iteration's value is not the loop's."""
    model = graph(
        """(float[2] x) => (float[2] y) <int64 five = {5}, bool go = {1}, float[2] one = {1,1}> {
            k = Loop (five, go, v0) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] u) { u = Add(v, one) d = Identity(c) }>
            y = Mul(x, k)
        }""",
        v0=draw(2),
    )
    return model, [{"x": draw(2)}]


@case()
def loop_that_never_or_once_runs(draw: Draw):
    """Zero trips give the start value; one trip may be inlined; a false start condition stops both."""
    model = graph(
        """(float[2] x, int64 trips, bool go) => (float[2] y, float[2] z, float[?,2] w) <int64 zero = {0}, int64 one = {1}, bool yes = {1}> {
            y = Loop (zero, yes, x) <body = a (int64 i, bool c, float[2] v) => (bool d, float[2] u) { u = Exp(v) d = Identity(c) }>
            z = Loop (one, yes, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] u) { u = Neg(v) d = Identity(c) }>
            last, w = Loop (trips, go, x) <body = e (int64 i, bool c, float[2] v) => (bool d, float[2] u, float[2] s) { u = Add(v, x) s = Identity(v) d = Identity(c) }>
        }"""
    )
    return model, [
        {"x": draw(2), "trips": scalar(trips, np.int64), "go": scalar(go, bool)}
        for trips, go in ((3, True), (0, True), (3, False))
    ]


@case()
def loop_that_carries_a_growing_shape(draw: Draw):
    """The carried tensor has another size in each iteration: the start shape is not the body's."""
    model = graph(
        """(float[N,2] x) => (float[?,2] y, int64[?,2] s) <int64 three = {3}, bool go = {1}, int64[1] two = {2}, int64[1] rest = {-1}> {
            y, s = Loop (three, go, x) <body = b (int64 i, bool c, float[?,2] v) => (bool d, float[?,2] u, int64[2] z) {
                target = Concat <axis = 0> (rest, two)
                flat = Reshape(v, target)
                u = Concat <axis = 0> (flat, x)
                z = Shape(v)
                d = Identity(c)
            }>
        }"""
    )
    return model, [{"x": draw(size, 2)} for size in (1, 3, 0)]


@case()
def loop_whose_carried_value_ignores_its_start(draw: Draw):
    """After one trip the carried value is x whatever came in, after none it is the start."""
    model = graph(
        """(float[2] x, int64 trips) => (float[2] y, float[2] z) <bool go = {1}> {
            y, z = Loop (trips, go, k, k) <body = b (int64 i, bool c, float[2] v, float[2] w) => (bool d, float[2] u, float[2] t) { u = Identity(x) t = Identity(v) d = Identity(c) }>
        }""",
        k=draw(2),
    )
    return model, [{"x": draw(2), "trips": scalar(trips, np.int64)} for trips in (0, 1, 2)]


@case()
def loop_that_swaps_what_it_carries(draw: Draw):
    """Carried values change places: both outputs are 'the input unchanged', in turn."""
    model = graph(
        """(float[2] x, float[2] z, int64 trips) => (float[2] y, float[2] w) <bool go = {1}> {
            y, w = Loop (trips, go, x, z) <body = b (int64 i, bool c, float[2] p, float[2] q) => (bool d, float[2] r, float[2] s) { r = Identity(q) s = Identity(p) d = Identity(c) }>
        }"""
    )
    feeds = {"x": draw(2), "z": draw(2)}
    return model, [feeds | {"trips": scalar(trips, np.int64)} for trips in (0, 1, 2, 3)]


@case()
def loop_that_stops_on_data(draw: Draw):
    """The body computes its own condition; without a trip count it runs until then."""
    model = graph(
        """(float x) => (float y, int64[1] n) <bool go = {1}, float limit = {100}> {
            y, all = Loop ("", go, x) <body = b (int64 i, bool c, float v) => (bool d, float u, int64 k) { u = Add(v, v) d = Less(u, limit) k = Identity(i) }>
            n = Shape(all)
        }""".replace('("", go', "( , go")
    )
    return model, [{"x": scalar(value)} for value in (1.0, 60.0)]


@case()
def loop_invariant_inside_the_body(draw: Draw):
    """Exp(x) in the body may move out; with zero trips it must not fail or change anything."""
    model = graph(
        """(float[N,2] x, int64 trips) => (float[?,?,2] y, float[N,2] z) <bool go = {1}, int64[1] axis = {0}> {
            z, y = Loop (trips, go, x) <body = b (int64 i, bool c, float[?,2] v) => (bool d, float[?,2] u, float[?,2] o) {
                e = Exp(x)
                k = Add(w, w)
                m = Mul(e, k)
                u = Sub(v, m)
                o = Identity(m)
                d = Identity(c)
            }>
        }""",
        w=draw(2),
    )
    return model, [{"x": draw(3, 2), "trips": scalar(trips, np.int64)} for trips in (2, 0)]


@case()
def scan_with_a_state(draw: Draw):
    """The scan output is the new state, not the old one."""
    model = graph(
        """(float[T,3] x) => (float[3] last, float[T,3] y) {
            last, y = Scan <num_scan_inputs = 1, body = b (float[3] s, float[3] v) => (float[3] t, float[3] o) { t = Add(s, v) o = Identity(t) }> (s0, x)
        }""",
        s0=draw(3),
    )
    return model, [{"x": draw(size, 3)} for size in (4, 2, 1)]


@case()
def scan_backwards_over_another_axis(draw: Draw):
    """Directions and axes of Scan; a constant is scanned, its rows are not all the same."""
    model = graph(
        """(float[3,T] x) => (float[3] last, float[3,T] y) {
            last, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1], body = b (float[3] s, float[3] v) => (float[3] t, float[3] o) { t = Sub(v, s) o = Mul(t, k) }> (s0, x)
        }""",
        s0=draw(3),
        k=draw(3),
    )
    return model, [{"x": draw(3, size)} for size in (4, 1)]


@case()
def function_with_an_attribute(draw: Draw):
    """One function, called twice with another attribute: the body's constant is not one constant."""
    model = graph(
        "(float[2] x) => (float[2] y) { a = local.Scale <s = 2.0> (x) y = local.Scale <s = 3.0> (a) }",
        functions='<domain: "local", opset_import: ["" : 18]> Scale <s> (v) => (o) { c = Constant <value_float: float = @s> () o = Mul(v, c) }',
    )
    return model, [{"x": draw(2)}]


@case()
def function_with_a_default_attribute_and_shape(draw: Draw):
    """A function's axis comes from the call or from its default; its input has another rank each time."""
    model = graph(
        """(float[N,3] x, float[N,3,2] z) => (float[?,?] y, float[?,?] u, float[?,?,?] w) {
            y = local.Turn(x)
            u = local.Turn <axis = 0> (x)
            w = local.Turn <axis = 2> (z)
        }""",
        functions="""<domain: "local", opset_import: ["" : 18]> Turn <axis: int = 1> (v) => (o) {
            s = Softmax <axis: int = @axis> (v)
            sizes = Shape(s)
            f = Flatten <axis: int = @axis> (s)
            o = Reshape(f, sizes)
        }""",
    )
    return model, [{"x": draw(size, 3), "z": draw(size, 3, 2)} for size in (2, 1)]


@case()
def function_calls_function_with_unused_output(draw: Draw):
    """Nested functions; a formal name equals an outer name; the second output is not read."""
    model = graph(
        "(float[2] x, float[2] a) => (float[2] y) { b, u = local.Outer(a, x) y = Sub(b, x) }",
        functions="""<domain: "local", opset_import: ["" : 18, "local" : 1]> Outer (x, a) => (y, z) { t = local.Inner(x) y = Div(t, a) z = Exp(t) }
        <domain: "local", opset_import: ["" : 18]> Inner (a) => (y) { x = Neg(a) y = Exp(x) }""",
    )
    return model, [{"x": draw(2), "a": draw(2)}]


@case()
def equal_nodes_on_either_side_of_a_branch(draw: Draw):
    """Tanh(h) first appears inside a branch; the outer one comes after and cannot be replaced by it."""
    model = graph(
        """(float[3] x, bool c) => (float[3] y) {
            h = Neg(x)
            r = If (c) <then_branch = t () => (float[3] o) { a = Tanh(h) b = Tanh(h) o = Add(a, b) }, else_branch = e () => (float[3] p) { p = Identity(h) }>
            q = Tanh(h)
            y = Add(q, r)
        }"""
    )
    return model, [{"x": draw(3), "c": scalar(value, bool)} for value in (True, False)]


@case()
def shape_scaffold_inside_a_branch(draw: Draw):
    """Sizes of outer values, computed in the branch and again in a loop in the branch."""
    model = graph(
        """(float[N,6] x, bool c) => (float[?,?] y) <int64 zero = {0}, int64 two = {2}, bool go = {1}> {
            r = Relu(x)
            y = If (c) <
                then_branch = t () => (float[?,?] o) {
                    n = Shape <start = 0, end = 1> (r)
                    target = Concat <axis = 0> (rest, n)
                    a = Reshape(r, target)
                    o = Loop (two, go, a) <body = b (int64 i, bool d, float[?,?] v) => (bool e, float[?,?] u) { u = Transpose <perm = [1,0]> (v) e = Identity(d) }>
                },
                else_branch = f () => (float[?,?] p) { s = Shape(x) p = Expand(k, s) }>
        }""",
        rest=ints(6),
        k=draw(1, 6),
    )
    return model, [
        {"x": draw(size, 6), "c": scalar(value, bool)} for size in (2, 1) for value in (True, False)
    ]
