HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
ONES = "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4}, int64[1] last = {-1}"


def cut(simplify, body, outputs="float[a,b] y", size="[6,n]"):
    return simplify(
        HEAD + f"(float{size} x) => ({outputs}) <{ONES}> {{ {body} }}", sizes=(0, 1, 3, 6)
    )


def test_two_axes_are_cut_at_once(simplify):
    found = cut(simplify, "a = Slice(x, one, four, zero, two)  y = Slice(a, zero, two, last)")
    assert found.ops == ["Slice"]
    assert found.rules["merge_slices"] == 1


def test_all_that_read_the_first_one_read_past_it(simplify):
    found = cut(
        simplify,
        "a = Slice(x, one, four, zero, two)  y = Slice(a, zero, last, one, two)  z = Slice(a, one, last, one, two)",
        "float[a,b] y, float[c,d] z",
    )
    assert found.ops == ["Slice", "Slice"]


def test_one_that_others_read_stays(simplify):
    found = cut(
        simplify,
        "a = Slice(x, one, four, zero)  y = Slice(a, zero, two, one)  z = Neg(a)",
        "float[a,b] y, float[c,d] z",
    )
    assert found.ops == ["Slice", "Slice", "Neg"]


def test_the_same_axis_twice_stays(simplify):
    found = cut(simplify, "a = Slice(x, one, four, zero)  y = Slice(a, zero, two, zero)")
    assert found.ops == ["Slice", "Slice"]
