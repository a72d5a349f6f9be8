"""Finding the user's own line in traces, errors and running code."""

from __future__ import annotations

from shipway.source.locations import (
    CodeLocation,
    current_location,
    error_location,
    shorten_trace,
    trace_location,
)

TRACE = """File "/home/me/project/net.py", line 18, in forward
    x = self.stem(image)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/conv.py", line 565, in forward
    return self._conv_forward(input, self.weight, self.bias)"""


def test_the_innermost_line_of_the_user_is_found():
    """Below it lie only frames of torch."""
    assert trace_location(TRACE) == CodeLocation("net.py", 18, "x = self.stem(image)")


def test_a_model_from_a_package_keeps_its_place_in_it():
    """A file name alone would not say which of many `layers.py` is meant."""
    trace = 'File "/venv/lib/python3.11/site-packages/timm/layers/mlp.py", line 3, in forward\n    y = 1'
    assert str(trace_location(trace)) == "timm/layers/mlp.py:3"


def test_a_project_package_keeps_its_folders(tmp_path):
    """From the topmost folder that is a package."""
    file = tmp_path / "zoo" / "nets" / "small.py"
    file.parent.mkdir(parents=True)
    for folder in (file.parent, file.parent.parent):
        (folder / "__init__.py").touch()
    file.write_text("")
    assert str(trace_location(f'File "{file}", line 2, in forward')) == "zoo/nets/small.py:2"


def test_a_trace_of_torch_alone_gives_its_outermost_line():
    """A model made of torch's own modules has no line of the user's."""
    assert str(trace_location(TRACE.split("\n  ", 1)[1])) == "torch/nn/modules/conv.py:565"


def test_bookkeeping_and_nothing_give_nothing():
    """torch marks nodes of its own with a made-up trace."""
    made_up = (
        'File "torch/fx/passes/runtime_assert.py", line 24, in insert_deferred_runtime_asserts'
    )
    assert trace_location(made_up) is None
    assert trace_location("") is None


def test_shortened_traces_name_no_folder_of_this_machine():
    """So that two machines write the same bytes."""
    short = shorten_trace(TRACE)
    assert "/home" not in short
    assert "/venv" not in short
    assert 'File "net.py", line 18' in short
    assert 'File "torch/nn/modules/conv.py", line 565' in short


def test_an_error_leads_to_the_line_that_raised_it():
    """Even when torch raises it, the line that called torch is the user's."""
    import torch

    try:
        torch.zeros(2) @ torch.zeros(3)
    except RuntimeError as error:
        where = error_location(error)
    assert where is not None
    assert where.file.endswith("test_locations.py")
    assert where.code == "torch.zeros(2) @ torch.zeros(3)"


def test_running_code_is_found_and_known_to_be_direct():
    """Called from here, with nothing in between."""
    where, direct = current_location()
    assert where is not None
    assert where.code == "where, direct = current_location()"
    assert direct
