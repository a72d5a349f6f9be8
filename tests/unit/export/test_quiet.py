"""What the exporters log: kept off the screen, and kept where it means something."""

from __future__ import annotations

import logging
import warnings

import pytest

from shipway.export.quiet import collect_warnings


def test_real_warnings_are_collected_once(capfd):
    """From logs and from Python, with the place of the latter."""
    with collect_warnings() as found:
        for _ in range(2):
            logging.getLogger("torch.onnx.some.part").warning(
                "a real %s\nwith a long tail", "worry"
            )
            warnings.warn("careful", UserWarning, stacklevel=1)
        print("a model that prints")
    assert found[0] == "a real worry"
    assert found[1].startswith("careful (")
    assert "test_quiet.py:" in found[1]
    assert len(found) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "noise",
    [
        "torchvision is not installed. Skipping torchvision::nms",
        "Symbol u0 did not appear in the graph that was deserialized",
        "The tensor attributes self.lstm._flat_weights[0], self.lstm._flat_weights[1] were assigned during export. Such",
    ],
)
def test_known_noise_is_dropped(noise):
    """It says nothing about the user's model."""
    with collect_warnings() as found:
        logging.getLogger("torch.onnx").warning(noise)
    assert found == []


def test_loggers_are_put_back():
    """Handlers and propagation are as before, also after an error."""
    logger = logging.getLogger("torch.onnx")
    before = (list(logger.handlers), logger.propagate, list(logging.getLogger("torch").handlers))
    with pytest.raises(ValueError, match="stop"), collect_warnings():
        raise ValueError("stop")
    assert (
        list(logger.handlers),
        logger.propagate,
        list(logging.getLogger("torch").handlers),
    ) == before


def test_torch_logs_asked_for_are_left_alone(monkeypatch):
    """A user who sets TORCH_LOGS wants to see them."""
    monkeypatch.setenv("TORCH_LOGS", "+dynamic")
    logger = logging.getLogger("torch")
    before = logger.handlers
    with collect_warnings():
        assert logger.handlers is before


def test_a_deprecation_inside_a_library_is_noise_and_one_in_the_model_is_not():
    """Nobody but the library's authors can act on the first."""
    with collect_warnings() as found:
        warnings.warn_explicit("old", DeprecationWarning, "/x/site-packages/torch/a.py", 1)
        warnings.warn_explicit("mine", DeprecationWarning, "/x/net.py", 1)
    assert found == ["mine (net.py:1)"]
