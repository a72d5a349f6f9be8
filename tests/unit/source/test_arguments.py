"""Factory arguments: values as typed become Python values, and a stable key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import UsageError
from shipway.source.arguments import arguments_to_json, parse_arguments

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        ("1e-3", 1e-3),
        ("12", 12),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ("[1,2]", [1, 2]),
        ("(1, 2)", (1, 2)),
        ('{"a": [1]}', {"a": [1]}),
        ("{'a': 1}", {"a": 1}),
        ("'quoted'", "quoted"),
        ("tiny", "tiny"),
        ("", ""),
        ("a=b", "a=b"),
        ("007", "007"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ("{1, 2}", "{1, 2}"),
        ("b'raw'", "b'raw'"),
        ("{1: 2}", "{1: 2}"),
        ("__import__('os')", "__import__('os')"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_a_value_is_plain_data_or_else_its_text(text: str, value: object):
    parsed = parse_arguments([f"x={text}"])["x"]
    assert parsed == value
    assert type(parsed) is type(value)


@given(PLAIN)
def test_any_json_value_reads_back(value: object):
    assert parse_arguments([f"x={json.dumps(value)}"]) == {"x": value}


@given(st.text())
def test_no_text_is_refused_as_a_value_and_each_makes_a_key(text: str):
    parsed = parse_arguments([f"x={text}"])
    json.dumps(arguments_to_json(parsed), allow_nan=False)


@pytest.mark.parametrize("item", ["width", "=1", "two words=1", "1st=1", "", "a-b=1"])
def test_an_item_that_is_no_pair_is_refused_with_the_form(item: str):
    with pytest.raises(UsageError, match="is not an argument of the form name=value") as caught:
        parse_arguments([item])
    assert "--arg width=0.25" in caught.value.hint


def test_a_name_given_twice_is_refused():
    with pytest.raises(UsageError, match="'width' is given twice"):
        parse_arguments(["width=1", "width=2"])


def test_the_key_does_not_depend_on_the_order():
    assert json.dumps(arguments_to_json({"b": {"y": 1, "x": 2}, "a": 1})) == json.dumps(
        arguments_to_json({"a": 1, "b": {"x": 2, "y": 1}})
    )


def test_a_tuple_and_a_list_have_different_keys():
    assert arguments_to_json({"x": (1, 2)}) != arguments_to_json({"x": [1, 2]})


def test_values_that_json_does_not_have_are_written_as_their_repr():
    written = arguments_to_json({"x": float("nan"), "y": {1, 2}, "z": [object]})
    assert written == {
        "x": {"repr": "nan"},
        "y": {"repr": "{1, 2}"},
        "z": [{"repr": "<class 'object'>"}],
    }
