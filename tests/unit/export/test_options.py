"""Export options: what they refuse, and that they are plain data."""

from __future__ import annotations

import json

import pytest

from shipway.errors import UsageError
from shipway.export.options import ExportOptions


def test_defaults_are_what_users_expect():
    """Opset 20, torch.export, folded, derived names, no bounds."""
    assert ExportOptions().to_json() == {
        "opset": 20,
        "legacy": False,
        "fold": True,
        "outputs": [],
        "bounds": {},
        "custom_ops": "auto",
        "custom_ops_domain": None,
    }


def test_options_are_json():
    """A deployment's stage key is made of them."""
    options = ExportOptions(opset=11, legacy=True, outputs=("a", "b"), bounds={"n": (1, 8)})
    assert json.loads(json.dumps(options.to_json()))["bounds"] == {"n": [1, 8]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"opset": 8}, "Opset 8"),
        ({"outputs": ("a", "a")}, "different"),
        ({"outputs": ("a", "")}, "not empty"),
        ({"bounds": {"n": (0, 4)}}, r"'n' are 0\.\.4"),
        ({"bounds": {"n": (5, 4)}}, r"'n' are 5\.\.4"),
    ],
)
def test_nonsense_is_refused_at_once(values, message):
    """Before a model is loaded, and with the value in the message."""
    with pytest.raises(UsageError, match=message):
        ExportOptions(**values)
