"""Which tensors are asked for."""

import pytest

from shipway.engines.tapping import Tap
from shipway.errors import UsageError
from shipway.trace.filters import select_taps

TAPS = (
    Tap("x", 0, kind="input"),
    Tap("encoder.0/attn out", 1, "MatMul", names=("val_12", "encoder_0_attn")),
    Tap("layers[0].norm", 2, "LayerNormalization"),
    Tap("encoder.1/attn out", 3, "FusedMatMul"),
    Tap("Encoder.head", 4, "aten.addmm.default", "output"),
)


def chosen(names=(), op_types=()) -> list[int]:
    return [tap.order for tap in select_taps(TAPS, names, op_types)]


@pytest.mark.parametrize(
    ("names", "op_types", "orders"),
    [
        ((), (), [0, 1, 2, 3, 4]),
        (("encoder.*",), (), [1, 3]),
        (("val_12", "x"), (), [0, 1]),
        (("encoder.?/attn out",), (), [1, 3]),
        (("layers[0].norm",), (), [2]),
        (("layers[[]0].*",), (), [2]),
        ((), ("matmul",), [1]),
        ((), ("MATMUL", "fusedmatmul"), [1, 3]),
        (("encoder*",), ("FusedMatMul",), [3]),
        ((), ("addmm",), [4]),
        ((), ("aten.addmm",), [4]),
        ((), ("*matmul",), [1, 3]),
    ],
)
def test_patterns(names, op_types, orders: list[int]) -> None:
    assert chosen(names, op_types) == orders


@pytest.mark.parametrize(
    ("names", "op_types", "said", "hint"),
    [
        (("encodr.0/attn out",), (), "--names encodr.0", "encoder.0/attn out"),
        (("*ATTN*",), (), r"--names \*ATTN\* matches none of 5", "encoder.0/attn out"),
        (("x", "nothing*"), (), r"--names nothing\*", "There are"),
        ((), ("LayerNorm",), "--op-type LayerNorm", "LayerNormalization"),
        ((), ("Conv",), "--op-type Conv", "MatMul"),
        ((), ("add",), "--op-type add matches none", "aten.addmm.default"),
        ((), ("",), "--op-type  matches none", "MatMul"),
        (("x",), ("MatMul",), "No tensor matches both", "one of the two"),
    ],
)
def test_what_matches_nothing_is_refused_with_what_there_is(names, op_types, said, hint) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        chosen(names, op_types)
    assert hint in caught.value.hint


def test_an_execution_without_tensors() -> None:
    assert select_taps(()) == ()
    with pytest.raises(UsageError, match="none of 0 tensors") as caught:
        select_taps((), ["x"])
    assert "no tensors" in caught.value.hint
