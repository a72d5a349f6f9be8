"""What a session and an engine refuse, and in which words."""

import subprocess
import sys

import numpy as np
import pytest

from shipway.engines.base import Engine, EngineOptions, Session
from shipway.engines.registry import find_engine
from shipway.errors import EngineError, EngineMissing, TensorError

IMAGES = "images/in put"
LOGITS = "log its/out"
EXPORTED = {"torch", "aotinductor"}
"""Engines that run the exported program, with the limits the exporter proved."""
PACKAGES = {
    "torch": "torch",
    "aotinductor": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


@pytest.mark.parametrize("way", ["run", "submit"])
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda f: f.pop("ids"), "ids"),
        (lambda f: f.update(imagez=f["ids"]), "imagez"),
        (lambda f: f.update(ids=f["ids"].astype(np.int32)), "ids.*int32"),
        (lambda f: f.update({IMAGES: f[IMAGES].astype(np.float64)}), f"{IMAGES}.*float64"),
        (lambda f: f.update({IMAGES: f[IMAGES][:, :2]}), f"{IMAGES}.*axis 1 is 2"),
        (lambda f: f.update({IMAGES: f[IMAGES][0]}), f"{IMAGES}.*3 dimensions"),
        (lambda f: f.update(ids=f["ids"][:1]), "ids.*'batch'"),
        (lambda f: f.update(scale=np.ones(1, np.float32)), "scale.*1 dimensions"),
    ],
    ids=["missing", "unknown", "dtype", "float64", "size", "rank", "batch", "scalar"],
)
def test_wrong_feeds_are_tensor_errors_that_name_the_tensor(
    session: Session, example, change, names, way
):
    """Before the vendor sees them, and the session works on."""
    feeds = example.feeds()
    change(feeds)
    with pytest.raises(TensorError, match=names):
        getattr(session, way)(feeds)
    assert session.run(example.feeds())


def test_a_size_beyond_the_exported_range_is_refused_or_right(engine: Engine, session, example):
    """Exported for at most 1024: AOTInductor's kernels would read past the end of 1025."""
    feeds = example.feeds(batch=1025)
    if engine.name in EXPORTED:
        with pytest.raises(TensorError, match=r"axis 0 is 1025.*0 to 1024"):
            session.run(feeds)
    else:
        actual, golden = session.run(feeds)[LOGITS], example.eager(feeds)[LOGITS]
        np.testing.assert_allclose(actual, golden, rtol=1e-3, atol=1e-5)


def test_a_closed_session_says_so(engine: Engine, open_session, example):
    """run and submit raise; closing twice, or leaving `with` after close, does nothing."""
    with open_session(engine) as opened:
        future = opened.submit(example.feeds())
        opened.close()
        assert future.result()
        for way in (opened.run, opened.submit):
            with pytest.raises(EngineError, match="closed"):
                way(example.feeds())
        opened.close()


def test_sessions_open_and_close_without_end(engine: Engine, open_session, example):
    """Ten in a row, each giving the same answer."""
    feeds = example.feeds()
    answers = set()
    for _ in range(10):
        with open_session(engine) as opened:
            answers.add(opened.run(feeds)["log its/out"].tobytes())
    assert len(answers) == 1


def test_two_sessions_live_side_by_side(engine: Engine, session, open_session, example):
    """Closing one leaves the other alone."""
    with open_session(engine) as other:
        golden = other.run(example.feeds())
    again = session.run(example.feeds())
    assert all(again[name].tobytes() == value.tobytes() for name, value in golden.items())


def test_probe_of_a_present_engine(engine: Engine):
    """Version and devices, and nothing to complain of."""
    available = engine.probe()
    assert available.installed
    assert available.version
    assert "CPU" in {device.name for device in available.devices}
    assert (available.why, available.install) == ("", "")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_engine_missing(name, compile_once, example, tmp_path, monkeypatch):
    """probe says what to type and does not raise; check, compile and load raise with exit code 3."""
    engine = find_engine(name)
    artifact = compile_once(engine)
    for module in [m for m in sys.modules if m.split(".")[0] == PACKAGES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    available = engine.probe()
    assert not available.installed
    assert "pip install" in available.install
    options = EngineOptions(threads=1)
    for attempt in (
        lambda: engine.check(example.portable, options),
        lambda: engine.compile(example.portable, options, tmp_path),
        lambda: engine.load(artifact, options),
    ):
        with pytest.raises(EngineMissing) as caught:
            attempt()
        assert caught.value.exit_code == 3
        assert caught.value.hint == available.install


def test_a_normal_run_writes_nothing_to_the_terminal(engine: Engine, compile_once):
    """Not one byte on stdout or stderr, from Python or from the vendor's native code."""
    artifact = compile_once(engine)
    script = (
        "import sys; from pathlib import Path\n"
        "from shipway.artifact import load_artifact\n"
        "from shipway.engines.base import EngineOptions\n"
        "from shipway.engines.registry import find_engine\n"
        "from shipway.tensors import random_feeds\n"
        "artifact = load_artifact(Path(sys.argv[1]))\n"
        "with find_engine(sys.argv[2]).load(artifact, EngineOptions(threads=1)) as session:\n"
        "    session.run(random_feeds(session.inputs))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, artifact.path, engine.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
