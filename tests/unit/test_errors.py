"""The exception tree: as drawn, with exit codes, and able to travel between processes."""

import inspect
import pickle
import re

import pytest

from shipway import errors
from shipway.errors import EngineMissing, ShipwayError

CLASSES = [getattr(errors, name) for name in errors.__all__]


def make(kind: type[ShipwayError]) -> ShipwayError:
    if kind is EngineMissing:
        return EngineMissing("openvino", install="pip install openvino", why="no wheel")
    return kind("what happened", hint="what to do")


def test_every_error_of_the_module_is_public_and_belongs_to_the_tree():
    defined = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and each.__module__ == errors.__name__
    ]
    assert sorted(each.__name__ for each in defined) == sorted(errors.__all__)
    assert all(issubclass(each, ShipwayError) for each in defined)


def test_the_tree_in_the_docstring_is_the_real_one():
    drawn = re.findall(r"^ {2,4}([x+]) (\w+) .*exit (\d+)$", errors.__doc__ or "", re.MULTILINE)
    assert {name for _, name, _ in drawn} == set(errors.__all__) - {"ShipwayError"}
    parent = ShipwayError
    for mark, name, code in drawn:
        kind = getattr(errors, name)
        assert kind.exit_code == int(code)
        assert kind.__base__ is (ShipwayError if mark == "x" else parent)
        parent = kind if mark == "x" else parent


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_the_way_back_from_a_child_process(kind: type[ShipwayError]):
    error = make(kind)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copied) is kind
    assert (str(copied), copied.hint, vars(copied)) == (str(error), error.hint, vars(error))


def test_a_hint_is_optional_and_kept_out_of_the_message():
    assert ShipwayError("only this").hint == ""
    assert str(make(errors.ModelError)) == "what happened"


def test_a_missing_engine_names_itself_the_reason_and_the_command():
    error = make(EngineMissing)
    assert str(error) == "The engine openvino is not installed (no wheel)."
    assert error.hint == "pip install openvino"
    assert str(EngineMissing("x", install="y")) == "The engine x is not installed."
