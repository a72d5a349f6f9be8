"""Which line decides on a size, and whether it does so itself."""

from __future__ import annotations

import logging

import torch
from torch import nn

from shipway.export.guards import watch_decisions


class Asks(nn.Module):
    def forward(self, x):
        if x.shape[0] == 3:
            x = x + 1
        return x


class Adds(nn.Module):
    def forward(self, x, y):
        return x + y


def trace(module, *tensors):
    batch = [torch.export.Dim(f"d{index}", min=1) for index in range(len(tensors))]
    shapes = tuple({0: dim} for dim in batch)
    with watch_decisions() as watch:
        try:
            torch.export.export(module, tensors, dynamic_shapes=shapes)
        except torch._dynamo.exc.UserError:
            pass
        else:
            raise AssertionError("torch accepts what this test is about")
    return watch


def test_an_if_on_a_size_is_a_direct_decision():
    """The line is found while it runs."""
    watch = trace(Asks(), torch.zeros(3, 2))
    decision = next(item for item in watch.decisions if item.guard.startswith("Eq("))
    assert decision.direct
    assert decision.where.code == "if x.shape[0] == 3:"


def test_a_decision_inside_an_operator_is_not_direct_and_still_has_its_line():
    """The addition asks whether both sides are as long."""
    watch = trace(Adds(), torch.zeros(3, 2), torch.zeros(3, 2))
    decision = next(item for item in watch.decisions if item.guard.startswith("Eq("))
    assert not decision.direct
    assert decision.where.code == "return x + y"


def test_symbols_are_named_by_their_size():
    """Sizes of an example differ from one another, so that they identify the dimension."""
    watch = trace(Adds(), torch.zeros(3, 2), torch.zeros(3, 2))
    assert sorted(watch.sizes.values()) == [3, 3]
    assert set(watch.name_symbols({"batch": 3}).values()) == {"batch"}
    assert watch.name_symbols({"batch": 4}) == {}


def test_the_logger_is_put_back_and_nothing_is_shown(capfd):
    """Level, handlers and propagation; torch's log lines stay off the screen."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = (logger.level, list(logger.handlers), logger.propagate)
    trace(Asks(), torch.zeros(3, 2))
    assert (logger.level, list(logger.handlers), logger.propagate) == before
    assert "create_symbol" not in capfd.readouterr().err
