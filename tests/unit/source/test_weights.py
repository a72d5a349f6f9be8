"""State dicts: as people save them, and what is said about each that does not fit."""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shipway.errors import ModelError, WeightsError
from shipway.source.weights import load_weights, read_state_dict


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    "save", [save_zip, save_legacy, save_file], ids=["zip", "legacy", "safetensors"]
)
@pytest.mark.parametrize("name", ["w.pth", "w.bin", "a b", "w.pth.tar"])
def test_each_format_reads_back_whatever_its_name(net, tmp_path: Path, save, name: str):
    path = tmp_path / name
    save(dict(net.state_dict()), path)
    assert equal(read_state_dict(path), net.state_dict())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_large_file_is_mapped_not_read(tmp_path: Path):
    save_zip({"x": torch.arange(1000)}, tmp_path / "w.pth")
    tensor = read_state_dict(tmp_path / "w.pth")["x"]
    assert str(tmp_path / "w.pth") in Path("/proc/self/maps").read_text()
    assert torch.equal(tensor, torch.arange(1000))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_opened(net, tmp_path: Path, key: str):
    checkpoint = {"epoch": 3, "optimizer": {"state": {}}, key: net.state_dict()}
    save_zip(checkpoint, tmp_path / "w.pth")
    assert equal(read_state_dict(tmp_path / "w.pth"), net.state_dict())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_the_prefix_of_a_wrapper_is_taken_off(net, tmp_path: Path, prefix: str):
    wrapped = {prefix + key: value for key, value in net.state_dict().items()}
    save_zip(wrapped, tmp_path / "w.pth")
    assert equal(read_state_dict(tmp_path / "w.pth"), net.state_dict())
    load_weights(net, tmp_path / "w.pth")


def test_weights_saved_by_data_parallel_itself_load(net, tmp_path: Path):
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.head.weight.fill_(5)
    save_zip(nn.DataParallel(other).state_dict(), tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")
    assert equal(net.state_dict(), other.state_dict())


def test_a_model_whose_own_part_is_called_module_keeps_its_keys(tmp_path: Path):
    model = nn.ModuleDict({"module": nn.Linear(2, 2)})
    save_zip(model.state_dict(), tmp_path / "w.pth")
    load_weights(model, tmp_path / "w.pth")


def test_old_weights_without_a_count_of_batches_load_as_torch_loads_them(net, tmp_path: Path):
    state = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    save_zip(state, tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")


def test_a_module_that_adapts_shapes_itself_is_left_to_it(tmp_path: Path):
    class Resized(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *rest):
            state_dict[f"{prefix}weight"] = state_dict[f"{prefix}weight"][:2]
            super()._load_from_state_dict(state_dict, prefix, *rest)

    save_zip({"weight": torch.ones(5, 3), "bias": torch.ones(2)}, tmp_path / "w.pth")
    model = Resized(3, 2)
    load_weights(model, tmp_path / "w.pth")
    assert torch.equal(model.weight, torch.ones(2, 3))


def test_a_module_whose_size_is_not_known_yet_takes_the_files(tmp_path: Path):
    model = nn.LazyLinear(2)
    save_zip(nn.Linear(3, 2).state_dict(), tmp_path / "w.pth")
    load_weights(model, tmp_path / "w.pth")
    assert model.weight.shape == (2, 3)


def test_tied_weights_may_be_in_the_file_once(tmp_path: Path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.head = nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    save_file({"embed.weight": torch.ones(5, 3)}, tmp_path / "w.safetensors")
    model = Tied()
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model.head.weight, torch.ones(5, 3))


def test_a_module_whose_loader_says_nothing_is_checked_all_the_same(tmp_path: Path):
    class Silent(nn.Linear):
        def load_state_dict(self, *arguments, **options):
            super().load_state_dict(*arguments, **options)

    save_zip(nn.Linear(3, 2).state_dict(), tmp_path / "w.pth")
    load_weights(Silent(3, 2), tmp_path / "w.pth")
    save_zip({"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="1 missing, 1 unexpected"):
        load_weights(Silent(3, 2), tmp_path / "w.pth")


def test_weights_of_another_model_are_listed_five_of_each_with_shapes(net, tmp_path: Path):
    state = {f"layer{index}.weight": torch.zeros(index, 3) for index in range(8)}
    state["head.weight"] = torch.zeros(7, 4)
    save_zip(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(net, tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pth'} does not belong to Net; "
        "keys: 7 missing, 8 unexpected, 1 of another shape.\n"
        "  missing: conv.weight [4, 3, 3, 3], conv.bias [4], norm.weight [4], norm.bias [4], "
        "norm.running_mean [4] and 2 more\n"
        "  unexpected: layer0.weight [0, 3], layer1.weight [1, 3], layer2.weight [2, 3], "
        "layer3.weight [3, 3], layer4.weight [4, 3] and 3 more\n"
        "  shape: head.weight [7, 4] in the file, [2, 4] in the model"
    )


def test_only_shapes_that_differ_are_told_as_such(tmp_path: Path):
    save_zip(nn.Linear(3, 2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="0 missing, 0 unexpected, 1 of another shape") as caught:
        load_weights(nn.Linear(4, 2), tmp_path / "w.pth")
    assert "--arg" in caught.value.hint


def test_a_prefix_that_explains_it_all_is_pointed_out(net, tmp_path: Path):
    save_zip({f"model.{key}": value for key, value in net.state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(net, tmp_path / "w.pth")
    assert "without the prefix 'model.'" in caught.value.hint
    save_zip(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(nn.ModuleDict({"backbone": net}), tmp_path / "w.pth")
    assert "under 'backbone.'" in caught.value.hint


def test_an_empty_state_dict_leaves_everything_missing(net, tmp_path: Path):
    save_zip({}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="8 missing, 0 unexpected, 0 of"):
        load_weights(net, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (torch.zeros(3), "a Tensor"),
        ([torch.zeros(3)], "a list"),
        ({"epoch": 3, "best": 0.5}, r"a dict with epoch \(int\), best \(float\)"),
        ({1: torch.zeros(3)}, r"a dict with 1 \(Tensor\)"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(
    tmp_path: Path, value: object, described: str
):
    save_zip(value, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"holds no state dict but {described}"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_a_whole_module_is_refused_without_running_it(net, tmp_path: Path, save):
    save(net, tmp_path / "w.pth")
    with pytest.raises(
        WeightsError, match=r"holds a whole pickled object of class .*Net"
    ) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert "--allow-pickle" in caught.value.hint


def test_pickled_code_beside_tensors_is_refused_without_offering_to_run_it(net, tmp_path: Path):
    checkpoint = {"state_dict": net.state_dict(), "args": argparse.Namespace(lr=1)}
    save_zip(checkpoint, tmp_path / "w.pth")
    with pytest.raises(
        WeightsError, match=r"pickled code besides tensors.*argparse\.Namespace"
    ) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert "--allow-pickle" not in caught.value.hint
    assert "torch.save(checkpoint['state_dict']" in caught.value.hint


class _Marker:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"x": value}])
def test_no_code_in_a_file_ever_runs(tmp_path: Path, save, wrap):
    save(wrap(_Marker(tmp_path / "ran")), tmp_path / "w.pth")
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "save", [save_zip, save_legacy, save_file], ids=["zip", "legacy", "safetensors"]
)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, save):
    path = tmp_path / "w.pth"
    save({"x": torch.arange(300), "y": torch.ones(2, 2)}, path)
    data = path.read_bytes()
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            read_state_dict(path)


@pytest.mark.parametrize("seed", range(5))
def test_garbage_is_refused(tmp_path: Path, seed: int):
    path = tmp_path / "w.pth"
    path.write_bytes(np.random.default_rng(seed).bytes(3000))
    with pytest.raises(WeightsError):
        read_state_dict(path)


def test_other_models_given_as_weights_are_named(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08xxx")
    with pytest.raises(WeightsError, match="is an ONNX model") as caught:
        read_state_dict(tmp_path / "net.onnx")
    assert "as the source" in caught.value.hint


def test_an_absent_file_is_an_error_of_the_model(net, tmp_path: Path):
    with pytest.raises(ModelError, match="No such file"):
        load_weights(net, tmp_path / "w.pth")


@pytest.mark.assets
@pytest.mark.parametrize("name", ["mobilenet_v1_025", "mobilenet_v2_dequant", "squeezenet1_1"])
def test_real_weights_read(assets: Path, name: str):
    state = read_state_dict(assets / "torch" / f"{name}.pth")
    assert state["head.weight"].shape[0] == 1000
