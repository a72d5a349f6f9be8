"""Clean engines are clean, tensor by tensor, and every tensor of ONNX Runtime's graph is compared."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from shipway.compare.diagnose import Diagnoser
from shipway.compare.execution import read_session
from shipway.compare.options import DiagnoseOptions
from shipway.engines.base import EngineOptions
from shipway.engines.opening import compile_target, portable_model
from shipway.engines.registry import find_engine
from shipway.engines.target import Target, parse_target
from shipway.errors import EngineError
from shipway.source.loading import SourceRequest
from shipway.tensors import random_feeds
from shipway.trace.goldens import open_golden
from shipway.trace.shelf import Shelf

QUICK = ["mnist_winml", "yunet_n_640"]
OTHERS = [
    "agllnet_256",
    "dtln_model_1",
    "fastestdet",
    "fsmn_vad_offline",
    "gtcrn_simple",
    "mj_go1_policy",
    "nnsplit_en",
    "oww_alexa",
    "oww_embedding",
    "person_detector",
    "ppocr_mobile_v2_cls",
    "ppocr_mobile_v2_det_prune",
    "ppocr_v2_det",
    "pt_image_classifier_cifar",
    "sci_240x320",
    "squeezenet_fp16",
    "ultraface_rfb_320",
    "ultraface_slim_320_simplified",
    "yunet_120x160_pinto",
    "yunet_n_dynamic",
]
MODELS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
STEPS_OF_A_FUNCTION = "_inlfunc_"
"""ONNX Runtime writes some operators out as the steps of their definition; the model has none of those."""

pytestmark = pytest.mark.assets


def like_images(feeds):
    """Return floats in [0, 1): normal ones drive a power or a logarithm where nothing can be told."""
    rng = np.random.default_rng(0)
    return {
        name: rng.random(value.shape).astype(value.dtype) if value.dtype.kind == "f" else value
        for name, value in feeds.items()
    }


def diagnose_clean(path, text, tmp_path):
    """Compare an engine with the model's own graph; return the result and the dtypes it read."""
    target, options = parse_target(text), EngineOptions(threads=2)
    model = portable_model(SourceRequest(str(path)), tmp_path / "export")
    sizes = {
        name: 1 if "batch" in name.lower() or name == "N" else 64
        for spec in model.inputs
        for name in spec.dynamic_dims
    }
    feeds = like_images(random_feeds(model.inputs, seed=0, sizes=sizes))
    engine = find_engine(target.engine)
    asked = EngineOptions(precision=target.precision, threads=2)
    with contextlib.ExitStack() as stack:
        golden = stack.enter_context(open_golden(model, options, from_onnx=True))
        shelf = stack.enter_context(Shelf(1 << 30))
        diagnoser = Diagnoser(golden, feeds)
        clean = compile_target(model, Target(target.engine), options, tmp_path / "clean")
        diagnoser.learn(stack.enter_context(engine.open_taps(clean, options)))
        artifact = compile_target(model, target, options, tmp_path / "engine")
        session = stack.enter_context(engine.open_taps(artifact, asked))
        execution = read_session(session, feeds, shelf, text)
        found = diagnoser.diagnose(execution, DiagnoseOptions(precision=target.precision))
    return found, execution.dtypes


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_a_clean_onnx_runtime_is_compared_and_right(name, assets, tmp_path) -> None:
    found, dtypes = diagnose_clean(assets / "models" / f"{name}.onnx", "onnxruntime", tmp_path)
    assert [culprit.tensor.golden for culprit in found.culprits] == []
    assert found.identical
    left = [
        f"{one}: {why}"
        for one, why in found.unmatched.items()
        if "float" in dtypes.get(one, "float") and not one.startswith(STEPS_OF_A_FUNCTION)
    ]
    assert left == []


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_clean_openvino_is_right(name, precision, assets, tmp_path) -> None:
    path = assets / "models" / f"{name}.onnx"
    try:
        found, _ = diagnose_clean(path, f"openvino:{precision}", tmp_path)
    except EngineError as error:
        if "granted" not in str(error):
            raise
        pytest.skip(str(error))
    assert [culprit.tensor.golden for culprit in found.culprits] == []
    assert found.tensors
