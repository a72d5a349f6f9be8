import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
FLOAT, INT8, INT32, INT64, FLOAT16, DOUBLE = 1, 3, 6, 7, 10, 11


def casts(source, first, last, result):
    return (
        f"{HEAD}({source}[n,4] x) => ({result}[n,4] y) {{\n"
        f"  a = Cast<to={first}>(x)\n  b = Cast<to={last}>(a)\n  y = Abs(b)\n}}"
    )


@pytest.mark.parametrize(
    "text",
    [
        casts("float16", FLOAT, FLOAT16, "float16"),
        casts("float", DOUBLE, FLOAT, "float"),
        casts("int32", INT64, INT32, "int32"),
        casts("int32", DOUBLE, INT32, "int32"),
    ],
)
def test_there_and_back_is_nothing(simplify, text):
    assert simplify(text, sizes=(0, 1, 3)).ops == ["Abs"]


@pytest.mark.parametrize(
    "text",
    [
        casts("float16", FLOAT, DOUBLE, "double"),
        casts("int32", INT64, DOUBLE, "double"),
    ],
)
def test_two_in_a_row_are_one(simplify, text):
    assert simplify(text, sizes=(0, 1, 3)).ops == ["Cast", "Abs"]


def test_integers_that_wrap_at_last_wrap_at_once(simplify):
    found = simplify(
        f"{HEAD}(int32[n,4] x) => (int32[n,4] y) {{\n  a = Cast<to={INT64}>(x)\n"
        f"  b = Cast<to={INT8}>(a)\n  c = Cast<to={INT32}>(b)\n  y = Abs(c)\n}}"
    )
    assert found.ops == ["Cast", "Cast", "Abs"]


@pytest.mark.parametrize(
    "text",
    [
        casts("float", FLOAT16, FLOAT, "float"),  # rounds
        casts("int64", INT32, INT64, "int64"),  # wraps
        casts("float", INT32, FLOAT, "float"),  # cuts the fraction off
        casts("float16", FLOAT, INT32, "int32"),  # engines differ in what does not fit
    ],
)
def test_casts_that_lose_something_stay(simplify, text):
    assert simplify(text).ops.count("Cast") == 2


def test_a_first_cast_that_others_read_stays_for_them(simplify):
    found = simplify(
        HEAD + "(float16[n,4] x) => (float16[n,4] y, float[n,4] z) {\n"
        f"  a = Cast<to={FLOAT}>(x)\n  b = Cast<to={FLOAT16}>(a)\n  y = Abs(b)\n  z = Abs(a)\n}}"
    )
    assert sorted(found.ops) == ["Abs", "Abs", "Cast"]
