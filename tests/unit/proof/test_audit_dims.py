"""Declared sizes that are formulas."""

import pytest

from shipway.proof.audit_dims import read_formula


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("n", 9),
        ("2*n", 18),
        ("n + m", 13),
        ("(n - 1)//2 + 1", 5),
        ("floor(n/2 + 1/2)", 5),
        ("Max(1, n)", 9),
        ("-n + m", -5),
        ("n/2", None),
        ("n//(m - 4)", None),
        ("ceiling(n/m)", 3),
    ],
)
def test_formulas_are_evaluated(text, size):
    formula = read_formula(text, {"n", "m"})
    assert formula is not None
    assert formula({"n": 9, "m": 4}) == size


@pytest.mark.parametrize(
    "text",
    ["k", "n + k", "3", "n.real", "n[0]", "n if n else m", "n(", "", "__import__('os')", "n**n"],
)
def test_what_is_no_formula_is_a_name(text):
    assert read_formula(text, {"n", "m"}) is None
