"""What models are run on: shapes of the dynamic inputs and numbers that tempt a simplifier to err."""

import json

import numpy as np

__all__ = ["KINDS", "make_feed", "shapes_of"]

KINDS = ("mixed", "negative", "zero")
REAL_MODELS = {
    "espcn_prepost_op18": [{"image": [64]}],
    "fns_candy": [{"inputImage": [batch, 3, 720, 720]} for batch in (1, 2)],
    "fsmn_vad_offline": [{"speech": [1, length, 400]} for length in (50, 33)],
    "magika_v2_1": [{"bytes": [batch, 4096]} for batch in (1, 3)],
    "nnsplit_en": [{"input": shape} for shape in ([1, 100], [3, 57])],
    "oww_embedding": [{"input_1": [batch, 76, 32, 1]} for batch in (1, 3)],
    "oww_melspectrogram": [{"input": shape} for shape in ([1, 16000], [2, 12800])],
    "ppocr_mobile_v2_cls": [{"x": shape} for shape in ([1, 3, 48, 192], [2, 3, 48, 96])],
    "ppocr_mobile_v2_det_prune": [{"x": shape} for shape in ([1, 3, 320, 320], [2, 3, 192, 256])],
    "ppocr_v2_det": [{"x": shape} for shape in ([1, 3, 320, 320], [2, 3, 192, 256])],
    "pt_image_classifier_cifar": [{"modelInput": [batch, 3, 32, 32]} for batch in (1, 3)],
    "silero_vad_half": [{"input": [n, 512], "state": [2, n, 128]} for n in (1, 3)],
    "silero_vad_op18_ifless": [{"input": [n, 512], "state": [2, n, 128]} for n in (1, 3)],
    "yunet_n_dynamic": [{"input": shape} for shape in ([1, 3, 320, 320], [2, 3, 192, 256])],
}
"""Shapes of the inputs with dynamic dimensions, at two sizes, of the models in shared/assets."""


def shapes_of(source):
    """Return the shapes of a model's dynamic inputs, one mapping for each size to run it at."""
    beside = source.with_suffix(".json")
    return json.loads(beside.read_text()) if beside.exists() else REAL_MODELS.get(source.stem, [{}])


def make_feed(inputs, shapes, kind, seed):
    """Return arrays for the inputs of a session: of both signs, all negative, or zero."""
    random = np.random.default_rng(seed)
    return {item.name: fill(item, shapes, kind, random) for item in inputs}


def fill(item, shapes, kind, random):
    shape = shapes.get(item.name, item.shape)
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}.get(item.type)
    if dtype is not None:
        values = random.standard_normal(shape)
        by_kind = {"mixed": values, "negative": -3 * np.abs(values), "zero": np.zeros(shape)}
        return by_kind[kind].astype(dtype)
    dtype = np.dtype(item.type.removeprefix("tensor(").removesuffix(")"))
    return integers(item.name, shape, kind, random).astype(dtype)


def integers(name, shape, kind, random):
    """Return integers a model can take: most are tokens, bytes or pixels."""
    if name == "sr":
        return np.full(shape, 16000)
    if name == "k":
        return np.full(shape, {"mixed": 3, "negative": 2, "zero": 0}[kind])
    if name == "attention_mask":
        mask = np.ones(shape)
        if kind != "zero":
            mask[-1, shape[-1] // 2 :] = 0
        return mask
    return np.zeros(shape) if kind == "zero" else random.integers(0, 256, shape)
