"""Whole pickled modules: refused unless allowed, and then checked."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from shipway.errors import ModelError, WeightsError
from shipway.source.loading import SourceRequest, load_source
from shipway.source.pickles import load_pickled_module


class Runner:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    torch.save(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), path)
    return path


def test_a_pickled_module_is_refused_and_the_flag_named(path: Path):
    with pytest.raises(ModelError, match=r"holds a whole pickled module .*Sequential") as caught:
        load_pickled_module(path, allow_pickle=False)
    assert "--allow-pickle" in caught.value.hint


def test_nothing_of_it_runs_before_it_is_allowed(tmp_path: Path):
    torch.save(Runner(tmp_path / "ran"), tmp_path / "net.pth")
    with pytest.raises(ModelError):
        load_pickled_module(tmp_path / "net.pth", allow_pickle=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_an_allowed_module_loads_in_eval_mode(tmp_path: Path, *, is_zip: bool):
    torch.save(nn.Dropout(), tmp_path / "net.pt", _use_new_zipfile_serialization=is_zip)
    source = load_source(SourceRequest(str(tmp_path / "net.pt"), allow_pickle=True))
    assert type(source.module) is nn.Dropout
    assert not source.module.training
    assert source.files == (tmp_path / "net.pt",)


def test_an_allowed_pickle_of_something_else_says_what_it_is(tmp_path: Path):
    torch.save(Path("x"), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"holds a \w*Path, not a torch\.nn\.Module"):
        load_pickled_module(tmp_path / "net.pth", allow_pickle=True)


def test_the_users_classes_beside_the_file_are_found_and_listed(write, project: Path):
    code = write("nets.py", "from torch import nn\n\nclass Mine(nn.Linear):\n    pass\n")
    sys.path.insert(0, str(project))
    import nets

    torch.save(nets.Mine(2, 2), project / "net.pth")
    del sys.modules["nets"]
    sys.path.remove(str(project))
    source = load_source(SourceRequest("net.pth", allow_pickle=True))
    assert type(source.module).__name__ == "Mine"
    assert source.files == (project / "net.pth", code)


def test_a_class_that_is_not_here_is_named_with_what_to_do(write, project: Path):
    write("nets.py", "from torch import nn\n\nclass Mine(nn.Linear):\n    pass\n")
    sys.path.insert(0, str(project))
    import nets

    torch.save(nets.Mine(2, 2), project / "net.pth")
    del sys.modules["nets"]
    sys.path.remove(str(project))
    (project / "nets.py").unlink()
    with pytest.raises(ModelError, match=r"needs the class nets\.Mine") as caught:
        load_source(SourceRequest("net.pth", allow_pickle=True))
    assert caught.value.hint == "Run the command in the folder nets is in, or put it on PYTHONPATH."


def test_a_class_of_a_script_cannot_come_back(tmp_path: Path):
    script = "import torch\nclass Mine(torch.nn.Linear): pass\n"
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(script, namespace)  # noqa: S102 - the test's own text
    main = sys.modules["__main__"]
    main.Mine = namespace["Mine"]  # type: ignore[attr-defined]
    try:
        torch.save(main.Mine(1, 1), tmp_path / "net.pth")  # type: ignore[attr-defined]
    finally:
        del main.Mine  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"needs the class __main__\.Mine") as caught:
        load_pickled_module(tmp_path / "net.pth", allow_pickle=True)
    assert "save the state dict there instead" in caught.value.hint


@pytest.mark.parametrize("allow", [True, False])
def test_a_state_dict_is_no_model_and_the_hint_puts_it_in_its_place(tmp_path: Path, *, allow: bool):
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds tensors, not a model") as caught:
        load_pickled_module(tmp_path / "w.pth", allow_pickle=allow)
    assert f"file.py:name --weights {tmp_path / 'w.pth'}" in caught.value.hint


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_not_supported(tmp_path: Path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "net.pt")
    with pytest.raises(ModelError, match="is a TorchScript archive") as caught:
        load_pickled_module(tmp_path / "net.pt", allow_pickle=True)
    assert caught.value.hint.startswith("TorchScript is not supported: give the Python code")


def test_other_files_are_told_apart(path: Path, tmp_path: Path):
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(WeightsError, match="truncated"):
        load_pickled_module(path, allow_pickle=True)
    path.write_bytes(pickle.dumps(Runner(tmp_path / "ran")))
    with pytest.raises(WeightsError, match="plain Python pickle"):
        load_pickled_module(path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()
