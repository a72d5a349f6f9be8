"""A module's path stands for the tensor that it returns, and for no other."""

from __future__ import annotations

import numpy as np

from shipway.compare.matching import Candidate, match_tensors
from shipway.compare.module_names import module_names
from shipway.engines.tapping import Tap
from shipway.trace.statistics import summarize


def _taps(*modules: str) -> list[Tap]:
    return [Tap(f"t{order}", order, module=module) for order, module in enumerate(modules)]


def test_the_last_tensor_of_a_module_is_its_own():
    assert list(module_names(_taps("", "a.conv", "a.norm", "a.norm", ""))) == [
        ("a.conv", "t1"),
        ("a.norm", "t3"),
    ]


def test_a_module_with_modules_inside_has_no_tensor_of_its_own():
    assert list(module_names(_taps("block", "block.attn.proj", "block"))) == [
        ("block.attn.proj", "t1")
    ]


def test_calls_of_one_module_are_counted():
    assert list(module_names(_taps("fc", "", "fc", "act", "fc"))) == [
        ("fc", "t0"),
        ("fc#2", "t2"),
        ("act", "t3"),
        ("fc#3", "t4"),
    ]


def test_nothing_is_known_of_tensors_without_modules():
    assert list(module_names(_taps("", ""))) == []
    assert list(module_names([])) == []


def test_a_trace_of_module_hooks_is_matched_by_them():
    """Also where the numbers differ, as they do behind a fault; and a real name goes first."""
    values = [np.arange(24, dtype=np.float32).reshape(2, 12) * number for number in (1, 2, 3)]
    golden = [
        Candidate(Tap(name, order, module=module), value.shape, summarize(value))
        for order, (name, module, value) in enumerate(zip(("linear", "relu", "fc2"), ("fc1", "act", "fc2"), values, strict=True))
    ]  # fmt: skip
    shape = values[0].shape
    wrong = summarize(np.ones(shape, np.float32))
    actual = [
        Candidate(Tap("root.fc1", 0, names=("fc1",)), shape, wrong),
        Candidate(Tap("root.act", 1, names=("act",)), shape, wrong),
        Candidate(Tap("root.fc2", 2, names=("fc2",)), shape, wrong),
    ]
    pairs = match_tensors(golden, actual).pairs
    assert {name: one for name, (one, _) in pairs.items()} == {
        "root.fc1": "linear",
        "root.act": "relu",
        "root.fc2": "fc2",
    }
