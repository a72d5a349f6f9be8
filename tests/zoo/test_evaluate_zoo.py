"""Evaluation of real trained networks on real photographs, against the same steps by hand."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from shipway.engines.base import BaseSession
from shipway.evaluate.dataset import load_dataset
from shipway.evaluate.preprocess import parse_preprocess
from shipway.evaluate.run import EvaluateOptions, evaluate_session
from shipway.tensors import TensorSpec

pytestmark = pytest.mark.assets

SCALED = "crop 224, scale 1/255"
NETS = {
    "mobilenet_v2_dequant": (f"{SCALED}, mean 0.5, std 0.5", 100, 124),
    "squeezenet1_1": (f"{SCALED}, mean 0.485 0.456 0.406, std 0.229 0.224 0.225", 95, 114),
    "mobilenet_v1_025": (f"{SCALED}, mean 0.5, std 0.5", 88, 113),
}
BATCH = 10


class ModuleSession(BaseSession):
    """A torch module run directly, so that nothing but the evaluation is under test."""

    def __init__(self, module, dtype=torch.float32):
        inputs = (TensorSpec("image", "float32", ("batch", 3, 224, 224)),)
        super().__init__(inputs, (TensorSpec("logits", "float32", ("batch", 1000)),), {})
        self.module, self.dtype = module.to(dtype), dtype

    def _run(self, feeds):
        with torch.inference_mode():
            logits = self.module(torch.from_numpy(feeds["image"]).to(self.dtype))
        return {"logits": logits.float().numpy()}


@pytest.fixture
def nets(assets, monkeypatch):
    monkeypatch.syspath_prepend(str(assets / "torch"))
    import imagenet_nets

    yield lambda name: imagenet_nets.load(name, str(assets / "torch"))
    sys.modules.pop("imagenet_nets")


@pytest.fixture
def photos(assets):
    return assets / "images" / "imagenet_val_130"


def by_hand(module, steps, photos):
    """Return the logits and labels of every photograph: crop, scale, normalise, run."""
    lines = [line.split() for line in (photos / "labels.txt").read_text().splitlines()]
    mean, std = (torch.tensor(steps[key]).view(3, 1, 1) for key in ("mean", "std"))
    logits = []
    for start in range(0, len(lines), BATCH):
        batch = []
        for name, _ in lines[start : start + BATCH]:
            image = Image.open(photos / name).convert("RGB").crop((2, 2, 226, 226))
            tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
            batch.append(tensor.sub(mean).div(std))
        with torch.inference_mode():
            logits.append(module(torch.stack(batch)).numpy())
    return np.concatenate(logits), np.array([int(label) for _, label in lines])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mobilenet_v2_dequant", marks=pytest.mark.slow),
        "mobilenet_v1_025",
        "squeezenet1_1",
    ],
)
def test_counts_on_the_130_photographs_equal_the_same_steps_by_hand(name, nets, photos):
    """227 pixels become 224 by a crop that begins at 1.5, rounded to even: 2."""
    text, top1, top5 = NETS[name]
    module, steps = nets(name)
    logits, labels = by_hand(module, steps, photos)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [int((order[:, :n] == labels[:, None]).any(axis=1).sum()) for n in range(1, 6)]

    dataset = load_dataset(photos, preprocess=parse_preprocess(text))
    options = EvaluateOptions(batch=BATCH)
    evaluation, predictions = evaluate_session(
        ModuleSession(module), dataset, options, engine="torch"
    )

    assert [top.correct for top in evaluation.top] == expected
    assert {top.total for top in evaluation.top} == {130}
    np.testing.assert_array_equal(predictions.top, order[:, :5])
    assert abs(expected[0] - top1) <= 1, "measured with torch 2.13"
    assert abs(expected[4] - top5) <= 1
    assert evaluation.bad == ()
    assert evaluation.notes == ()


def test_flips_of_a_bfloat16_network_are_those_found_by_hand(nets, photos):
    module, _ = nets("mobilenet_v1_025")
    dataset = load_dataset(photos, preprocess=parse_preprocess(NETS["mobilenet_v1_025"][0]))
    options = EvaluateOptions(batch=BATCH)
    _, golden = evaluate_session(ModuleSession(module), dataset, options, engine="torch")
    rough = ModuleSession(nets("mobilenet_v1_025")[0], torch.bfloat16)
    evaluation, actual = evaluate_session(
        rough, dataset, options, engine="torch:bf16", golden=golden
    )
    changed = np.flatnonzero(golden.top[:, 0] != actual.top[:, 0])
    assert [flip.sample for flip in evaluation.flips.flips] == [dataset.ids[i] for i in changed]
    assert 1 <= len(changed) <= 13
    right = [predictions.top[:, 0] == predictions.labels for predictions in (golden, actual)]
    assert evaluation.flips.golden_only == int((right[0] & ~right[1]).sum())
    assert evaluation.flips.actual_only == int((right[1] & ~right[0]).sum())
    assert 0 < evaluation.flips.mcnemar_p <= 1


@pytest.mark.parametrize("name", ["imagenet-bicubic", "imagenet-bilinear"])
def test_native_photographs_are_prepared_as_pillow_and_torch_do(name, assets):
    """Twenty sizes, several of them portrait; one call of Pillow's resize is the reference."""
    preprocess = parse_preprocess(name)
    method = Image.Resampling[name.removeprefix("imagenet-").upper()]
    mean, std = (
        torch.tensor(numbers).view(3, 1, 1) for numbers in (preprocess.mean, preprocess.std)
    )
    files = sorted((assets / "images" / "imagenet_native_20").glob("*.JPEG"))
    assert len(files) == 20
    for path in files:
        image = Image.open(path).convert("RGB")
        short = min(image.size)
        width, height = (int(256 * side / short) for side in image.size)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        small = image.resize((width, height), method).crop((left, top, left + 224, top + 224))
        tensor = torch.from_numpy(np.array(small)).permute(2, 0, 1).float().div(255)
        expected = tensor.sub(mean).div(std).numpy()
        np.testing.assert_array_equal(preprocess.apply(Image.open(path)), expected, str(path))
