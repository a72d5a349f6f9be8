"""Targets: how users write an engine and a precision."""

import pytest

from shipway.engines.target import GOLDEN, Target, parse_target
from shipway.errors import UsageError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("openvino", Target("openvino", "f32")),
        ("openvino:bf16", Target("openvino", "bf16")),
        (" torch ", GOLDEN),
    ],
)
def test_a_target_reads_back_as_written(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "fact"), [("tensorflow", "tensorflow"), ("openvino:f8", "f8"), ("", "''")]
)
def test_what_does_not_exist_is_refused_with_what_does(text: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact) as caught:
        parse_target(text)
    assert "onnxruntime" in caught.value.hint or "bf16" in caught.value.hint
