import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
ONE, FIRST, TWO = np.array([1]), np.array([0]), np.array([2])
SIZES = (0, 1, 3)
SWAPPED = (
    "  a, b = Split<axis=-1, num_outputs=2>(x)\n  m = Neg(b)\n  r = Concat<axis=-1>(m, a)\n"
    "  p = Mul(x, cc)\n  q = Mul(ss, r)\n  y = Add(p, q)\n"
)
WIDE = "  e = Concat<axis=-1>(f, f)\n  c = Cos(e)\n  s = Sin(e)\n"
UNSQUEEZED = "  cc = Unsqueeze(c, one)\n  ss = Unsqueeze(s, one)\n"


def computed(body, *, batch="1", shape="n,2,t,8", size=4):
    return (
        f"{HEAD}(float[{shape}] x, float[{batch},t,{size}] f) => (float[{shape}] y)"
        f" <int64[1] one> {{\n{body}}}"
    )


def test_halves_are_rotated_by_one_node(simplify):
    found = simplify(
        computed(WIDE + UNSQUEEZED + SWAPPED, batch="n"),
        weights={"one": ONE},
        profile="modern",
        sizes=SIZES,
    )
    assert found.ops == ["Cos", "Sin", "RotaryEmbedding"]


def test_one_row_of_angles_is_repeated_for_each_batch(simplify):
    found = simplify(
        computed(WIDE + UNSQUEEZED + SWAPPED), weights={"one": ONE}, profile="modern", sizes=SIZES
    )
    assert found.ops == ["Shape", "Concat", "Expand", "Cos", "Sin", "RotaryEmbedding"]


def test_parts_that_are_computed_apart_are_rotated_by_one_node(simplify):
    body = (
        "  c = Cos(f)\n  s = Sin(f)\n" + UNSQUEEZED + "  a, b = Split<axis=3, num_outputs=2>(x)\n"
        "  ac = Mul(a, cc)\n  bs = Mul(ss, b)\n  u = Sub(ac, bs)\n"
        "  bc = Mul(cc, b)\n  as = Mul(a, ss)\n  v = Add(as, bc)\n  y = Concat<axis=-1>(u, v)\n"
    )
    found = simplify(computed(body, batch="n"), weights={"one": ONE}, profile="modern", sizes=SIZES)
    assert found.ops == ["Cos", "Sin", "RotaryEmbedding"]


PAIRS = (
    "  xr = Reshape(x, pairs)\n  a = Gather<axis=4>(xr, zero)\n  b = Gather<axis=4>(xr, unit)\n"
    "  ac = Mul(a, cc)\n  bs = Mul(b, ss)\n  u = Sub(ac, bs)\n"
    "  as = Mul(a, ss)\n  bc = Mul(b, cc)\n  v = Add(as, bc)\n"
    "  uu = Unsqueeze(u, last)\n  vv = Unsqueeze(v, last)\n  w = Concat<axis=-1>(uu, vv)\n"
    "  y = Reshape(w, whole)\n"
)


def paired(layout):
    return {
        "one": ONE if layout == 2 else TWO,
        "pairs": np.array([0, 2, 0, 4, 2] if layout == 2 else [0, 0, 2, 4, 2]),
        "whole": np.array([0, 2, 0, 8] if layout == 2 else [0, 0, 2, 8]),
        "zero": np.int64(0),
        "unit": np.int64(1),
        "last": np.array([-1]),
    }


@pytest.mark.parametrize("layout", [2, 1])
def test_neighbours_are_rotated_by_one_node(simplify, layout):
    shape = "n,2,t,8" if layout == 2 else "n,t,2,8"
    names = "<int64[1] one, int64[5] pairs, int64[4] whole, int64 zero, int64 unit, int64[1] last>"
    found = simplify(
        f"{HEAD}(float[{shape}] x, float[n,t,4] f) => (float[{shape}] y) {names} {{\n"
        f"  c = Cos(f)\n  s = Sin(f)\n{UNSQUEEZED}{PAIRS}}}",
        weights=paired(layout),
        profile="modern",
        sizes=SIZES if layout == 2 else (1, 3),
    )
    assert [op for op in found.ops if op != "Reshape"] == ["Cos", "Sin", "RotaryEmbedding"]
    rotary = next(node for node in found.proto.graph.node if node.op_type == "RotaryEmbedding")
    assert next(one.i for one in rotary.attribute if one.name == "interleaved") == 1


def test_neighbours_with_each_angle_twice_are_rotated_by_one_node(simplify):
    body = (
        "  k = Unsqueeze(f, last)\n  kk = Expand(k, twice)\n  e = Reshape(kk, wide)\n"
        "  c = Cos(e)\n  s = Sin(e)\n" + UNSQUEEZED + "  a = Slice(x, zero, far, last, two)\n"
        "  b = Slice(x, one, far, last, two)\n  m = Neg(b)\n  mm = Unsqueeze(m, last)\n"
        "  aa = Unsqueeze(a, last)\n  w = Concat<axis=-1>(mm, aa)\n  r = Reshape(w, whole)\n"
        "  p = Mul(cc, x)\n  q = Mul(r, ss)\n  y = Add(q, p)\n"
    )
    found = simplify(
        f"{HEAD}(float[n,2,t,8] x, float[n,t,4] f) => (float[n,2,t,8] y) <int64[1] one, "
        "int64[1] zero, int64[1] two, int64[1] far, int64[1] last, int64[4] twice, int64[3] wide, "
        f"int64[4] whole> {{\n{body}}}",
        weights={
            "one": ONE,
            "zero": FIRST,
            "two": TWO,
            "far": np.array([2**62]),
            "last": np.array([-1]),
            "twice": np.array([1, 1, 1, 2]),
            "wide": np.array([0, 0, 8]),
            "whole": np.array([0, 2, 0, 8]),
        },
        profile="modern",
    )
    assert found.ops == ["Cos", "Sin", "RotaryEmbedding"]


def test_a_part_of_each_head_is_rotated_in_place(simplify):
    body = (
        WIDE + UNSQUEEZED + "  h, rest = Split<axis=3>(z, sizes)\n  x = Identity(h)\n" + SWAPPED
    ).replace("y = Add", "o = Add") + "  y = Concat<axis=-1>(o, rest)\n"
    found = simplify(
        f"{HEAD}(float[n,2,t,11] z, float[n,t,4] f) => (float[n,2,t,11] y)"
        f" <int64[1] one, int64[2] sizes> {{\n{body}}}",
        weights={"one": ONE, "sizes": np.array([8, 3])},
        profile="modern",
        sizes=SIZES,
    )
    assert found.ops == ["Cos", "Sin", "RotaryEmbedding"]


def tables(rows, width, *, is_wide):
    angles = np.arange(rows * width, dtype=np.float32).reshape(rows, width) / 7
    angles = np.concatenate([angles, angles], -1) if is_wide else angles
    return {"c": np.cos(angles), "s": np.sin(angles)}


def test_constant_tables_are_cut_in_half(simplify):
    found = simplify(
        f"{HEAD}(float[n,2,3,8] x) => (float[n,2,3,8] y) <float[3,8] cc, float[3,8] ss> {{\n{SWAPPED}}}",
        weights={f"{name}{name}": one for name, one in tables(3, 4, is_wide=True).items()},
        profile="modern",
        sizes=SIZES,
    )
    assert found.ops == ["Shape", "Concat", "Expand", "Expand", "RotaryEmbedding"]


def test_tables_that_are_looked_up_by_position_are_cut_in_half(simplify):
    found = simplify(
        f"{HEAD}(float[n,2,t,8] x, int64[n,t] at) => (float[n,2,t,8] y)"
        " <float[9,8] c0, float[9,8] s0, int64[1] one> {\n"
        f"  c = Gather(c0, at)\n  s = Gather(s0, at)\n{UNSQUEEZED}{SWAPPED}}}",
        weights={"one": ONE}
        | {f"{name}0": table for name, table in tables(9, 4, is_wide=True).items()},
        profile="modern",
        sizes=SIZES,
    )
    assert found.ops == ["Gather", "Gather", "RotaryEmbedding"]


def test_parts_with_other_angles_stay(simplify):
    uneven = tables(3, 4, is_wide=True)
    uneven["s"][0, 7] += 0.5
    found = simplify(
        f"{HEAD}(float[n,2,3,8] x) => (float[n,2,3,8] y) <float[3,8] cc, float[3,8] ss> {{\n{SWAPPED}}}",
        weights={f"{name}{name}": one for name, one in uneven.items()},
        profile="modern",
    )
    assert "RotaryEmbedding" not in found.ops


@pytest.mark.parametrize(
    "change",
    [
        ("m = Neg(b)", "m = Neg(a)"),  # the same half twice
        ("Concat<axis=-1>(m, a)", "Concat<axis=-1>(a, m)"),  # turned the other way
        ("p = Mul(x, cc)", "k = Neg(x)\n  p = Mul(k, cc)"),  # two tensors
    ],
)
def test_what_is_no_rotation_stays(simplify, change):
    swapped = SWAPPED.replace(*change)
    if change[1] == "m = Neg(a)":
        swapped = swapped.replace("(m, a)", "(m, b)")
    found = simplify(computed(WIDE + UNSQUEEZED + swapped), weights={"one": ONE}, profile="modern")
    assert "RotaryEmbedding" not in found.ops


def test_angles_of_each_head_stay(simplify):
    found = simplify(
        f"{HEAD}(float[n,2,t,8] x, float[n,2,t,4] f) => (float[n,2,t,8] y) {{\n"
        "  e = Concat<axis=-1>(f, f)\n  cc = Cos(e)\n  ss = Sin(e)\n" + SWAPPED + "}",
        profile="modern",
    )
    assert "RotaryEmbedding" not in found.ops


def test_an_opset_without_it_keeps_the_nodes(simplify):
    model = computed(WIDE + UNSQUEEZED + SWAPPED).replace('"" : 23', '"" : 22')
    found = simplify(model, weights={"one": ONE}, profile="modern")
    assert "RotaryEmbedding" not in found.ops


def test_nodes_of_a_rotation_keep_apart_from_nodes_with_their_names(simplify):
    import onnx.parser

    model = onnx.parser.parse_model(
        computed(WIDE + UNSQUEEZED + SWAPPED.replace("y = Add", "z = Add") + "  y = Relu(z)\n")
    )
    for node in model.graph.node:
        node.name = {"Add": "rotate", "Relu": "rotate_1"}.get(node.op_type, node.output[0])
    found = simplify(model, weights={"one": ONE}, profile="modern")
    names = [node.name for node in found.proto.graph.node]
    assert "RotaryEmbedding" in found.ops
    assert len(set(names)) == len(names)


SHARED = "  cc = Concat<axis=-1>(c, c)\n  ss = Concat<axis=-1>(s, s)\n"
FIRST_OF_TWO = SWAPPED.replace("y = Add", "y1 = Add")


def second_of_two():
    text = SWAPPED.replace("y = Add", "y2 = Add")
    for name in "abmrpq":
        text = text.replace(f"{name} = ", f"{name}2 = ").replace(f"a, {name}2", f"a2, {name}2")
    text = text.replace("a, b2", "a2, b2").replace("(x)", "(z)").replace("(x, ", "(z, ")
    return (
        text.replace("Neg(b)", "Neg(b2)")
        .replace("(m, a)", "(m2, a2)")
        .replace("(ss, r)", "(ss, r2)")
        .replace("(p, q)", "(p2, q2)")
    )


def test_rotations_that_share_their_angles_pay_for_them_together(simplify):
    found = simplify(
        f"{HEAD}(float[n,2,t,8] x, float[n,1,t,8] z, float[1,1,t,4] c, float[1,1,t,4] s)"
        f" => (float[n,2,t,8] y1, float[n,1,t,8] y2) {{\n{SHARED}{FIRST_OF_TWO}{second_of_two()}}}",
        profile="modern",
        sizes=SIZES,
    )
    assert found.ops.count("RotaryEmbedding") == 2
    assert found.ops.count("Expand") == 2
    assert found.result.nodes_after < found.result.nodes_before


def test_a_rotation_that_would_take_more_nodes_stays(simplify):
    """Others read the cosines and sines too: they would be there twice."""
    found = simplify(
        f"{HEAD}(float[n,2,t,8] x, float[1,1,t,4] c, float[1,1,t,4] s)"
        f" => (float[n,2,t,8] y, float[1,1,t,8] cc, float[1,1,t,8] ss) {{\n{SHARED}{SWAPPED}}}",
        profile="modern",
    )
    assert "RotaryEmbedding" not in found.ops
