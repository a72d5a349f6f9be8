"""What every engine computes: the same as PyTorch, whatever the feeds look like."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shipway.engines.base import Engine, Session
from shipway.errors import EngineError

LOGITS = "log its/out"
IMAGES = "images/in put"


def relative_l2(actual: np.ndarray, golden: np.ndarray) -> float:
    return float(np.linalg.norm(actual - golden) / np.linalg.norm(golden))


def assert_like_eager(outputs, golden, limit=1e-5):
    assert list(outputs) == list(golden)
    for name, value in golden.items():
        assert outputs[name].dtype == value.dtype
        assert outputs[name].shape == value.shape
        if value.dtype == np.float32:
            assert relative_l2(outputs[name], value) <= limit, name
        else:
            np.testing.assert_array_equal(outputs[name], value)


@pytest.mark.parametrize("batch", [1, 2, 3, 16, 65])
def test_equals_eager_pytorch_at_every_batch_size(session: Session, example, batch):
    """All outputs, in order, by name: floats within 1e-5 relative L2, integers and booleans exactly."""
    feeds = example.feeds(batch, seed=batch)
    assert_like_eager(session.run(feeds), example.eager(feeds))


def test_an_empty_batch_gives_empty_outputs(session: Session, example):
    """Batch 0 is legal in every engine here: outputs are empty, the scalar is computed."""
    feeds = example.feeds(batch=0)
    outputs = session.run(feeds)
    assert outputs[LOGITS].shape == (0, 5)
    assert outputs["same_ids"].shape == (0,)
    np.testing.assert_allclose(outputs["doubled"], feeds["scale"] * 2, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_reach_their_own_sample_and_no_other(session: Session, example, value):
    """A NaN or infinity in sample 1 shows in the outputs of sample 1, as in PyTorch, and only there."""
    feeds = example.feeds(batch=3)
    feeds[IMAGES][1, 0, 2, 2] = value
    actual, golden = session.run(feeds)[LOGITS], example.eager(feeds)[LOGITS]
    assert not np.isfinite(golden[1]).any()
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(golden))
    np.testing.assert_array_equal(np.isposinf(actual), np.isposinf(golden))
    assert relative_l2(actual[[0, 2]], golden[[0, 2]]) <= 1e-5


@pytest.mark.parametrize("kind", ["every second", "reversed", "fortran", "read-only", "subclass"])
def test_any_memory_layout_is_a_feed(session: Session, example, kind):
    """Views, reversed, Fortran-ordered and read-only arrays give what a plain copy gives."""
    feeds = example.feeds(batch=4)
    layouts = {
        "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
        "fortran": np.asfortranarray,
        "read-only": np.copy,
        "subclass": lambda a: a.copy().view(np.memmap),
    }
    strange = {k: layouts[kind](v) if v.ndim else v for k, v in feeds.items()}
    if kind == "read-only":
        for value in strange.values():
            value.flags.writeable = False
    plain, actual = session.run(feeds), session.run(strange)
    for name, value in plain.items():
        np.testing.assert_array_equal(actual[name], value)


def test_feeds_are_not_written_to(session: Session, example):
    """The caller's arrays are the same after a run."""
    feeds = example.feeds()
    before = {name: value.copy() for name, value in feeds.items()}
    session.run(feeds)
    for name, value in before.items():
        np.testing.assert_array_equal(feeds[name], value)


def test_outputs_belong_to_the_caller(session: Session, example):
    """A later run changes no earlier output, and writing to an output changes no feed."""
    feeds = example.feeds(seed=1)
    first = session.run(feeds)
    kept = {name: value.copy() for name, value in first.items()}
    session.run(example.feeds(seed=2))
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
    ids = feeds["ids"].copy()
    first["same_ids"][...] = -1
    np.testing.assert_array_equal(feeds["ids"], ids)
    np.testing.assert_array_equal(session.run(feeds)["same_ids"], ids)


def test_the_same_feeds_give_the_same_bits(session: Session, example):
    """Run to run, not one bit differs."""
    feeds = example.feeds(batch=16)
    first = session.run(feeds)
    for _ in range(5):
        again = session.run(feeds)
        assert all(again[name].tobytes() == value.tobytes() for name, value in first.items())


def test_several_runs_in_flight_keep_their_answers_apart(session: Session, example):
    """Futures of different batch sizes, submitted at once, each give their own result."""
    feeds = [example.feeds(batch, seed=batch) for batch in (1, 5, 2, 9, 3, 7, 4, 8)]
    futures = [session.submit(feed) for feed in feeds]
    for feed, future in zip(feeds, futures, strict=True):
        assert_like_eager(future.result(timeout=60), example.eager(feed))


def test_a_session_runs_from_several_threads_at_once(session: Session, example):
    """Threads that call run() side by side each get their own result."""
    feeds = [example.feeds(batch, seed=batch) for batch in (1, 6, 2, 9)] * 5
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(session.run, feeds))
    for feed, result in zip(feeds, results, strict=True):
        assert_like_eager(result, example.eager(feed))


def computes_bfloat16(engine: Engine) -> bool:
    """Whether the engine must honour bf16 here: OpenVINO does where the CPU does."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return engine.name == "aotinductor" or (
        engine.name == "openvino" and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    )


def test_bfloat16_is_honoured_or_refused(engine: Engine, session: Session, open_session, example):
    """Where effective says bf16 the numbers show it: not those of float32, but within 5e-2."""
    if not computes_bfloat16(engine):
        with pytest.raises(EngineError, match="bf16"):
            open_session(engine, "bf16")
        return
    feeds = example.feeds(batch=16)
    wide = session.run(feeds)
    with open_session(engine, "bf16") as opened:
        assert opened.effective["precision"] == "bf16"
        narrow = opened.run(feeds)
    assert_like_eager(narrow, example.eager(feeds), limit=5e-2)
    assert 1e-5 < relative_l2(narrow[LOGITS], wide[LOGITS]) < 5e-2
