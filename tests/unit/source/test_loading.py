"""load_source: every form end to end, with its files, and what is refused with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shipway.errors import ModelError, TensorError, UsageError, WeightsError
from shipway.source.loading import SourceRequest, load_source
from shipway.tensors import TensorSpec, parse_spec

CODE = """
from torch import nn
from blocks import Block

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.block = Block(width)
        self.drop = nn.Dropout()

    def forward(self, image):
        return self.drop(self.block(image))
"""
BLOCKS = """
from torch import nn

class Block(nn.Linear):
    def __init__(self, width):
        super().__init__(3, width)
"""


@pytest.fixture
def net(write) -> Path:
    write("blocks.py", BLOCKS)
    return write("net.py", CODE)


@pytest.mark.parametrize("reference", ["net.py:Net", "./net.py:Net", "net:Net"])
def test_python_code_gives_a_module_in_eval_mode(net: Path, reference: str):
    inputs = (parse_spec("image:[n,3]"),)
    source = load_source(SourceRequest(reference, {"width": 5}, inputs=inputs))
    assert source.kind == "module"
    assert source.inputs == inputs
    assert source.files == (net, net.parent / "blocks.py")
    assert source.module(torch.zeros(2, 3)).shape == (2, 5)
    assert not any(part.training for part in source.module.modules())


def test_weights_are_loaded_and_listed(net: Path, project: Path):
    state = {"block.weight": torch.full((4, 3), 2.0), "block.bias": torch.zeros(4)}
    torch.save(state, project / "w.pth")
    source = load_source(SourceRequest("net.py:Net", weights=Path("w.pth")))
    assert source.files[-1] == project / "w.pth"
    assert torch.equal(source.module(torch.ones(1, 3)), torch.full((1, 4), 6.0))


def test_a_module_without_weights_is_the_same_every_time(net: Path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_source(SourceRequest("net.py:Net")).module
    second = load_source(SourceRequest("net.py:Net")).module
    assert torch.equal(first.block.weight, second.block.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_whose_train_forgets_to_return_itself_is_loaded(write):
    write(
        "net.py",
        """
        from torch import nn

        class Net(nn.Dropout):
            def train(self, mode=True):
                super().train(mode)
        """,
    )
    module = load_source(SourceRequest("net.py:Net")).module
    assert not module.training


def test_the_module_can_be_exported_and_the_trace_names_the_users_line(net: Path):
    module = load_source(SourceRequest("net.py:Net")).module
    program = torch.export.export(module, (torch.zeros(2, 3),))
    traces = [node.meta.get("stack_trace", "") for node in program.graph.nodes]
    assert any(f'File "{net}", line' in trace for trace in traces)


def test_a_file_in_a_folder_with_spaces_loads(write, project: Path):
    write("my nets/blocks.py", BLOCKS)
    write("my nets/net 2.py", CODE)
    source = load_source(SourceRequest("my nets/net 2.py:Net"))
    assert [path.name for path in source.files] == ["net 2.py", "blocks.py"]


def test_an_exported_program_carries_its_inputs(project: Path):
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(2, 3),))
    torch.export.save(program, project / "net.pt2")
    source = load_source(SourceRequest("net.pt2"))
    assert source.kind == "exported-program"
    assert source.inputs == (TensorSpec("input", "float32", (2, 3)),)
    assert source.files == (project / "net.pt2",)
    with pytest.raises(TensorError, match="axis 0 is fixed at 2"):
        load_source(SourceRequest("net.pt2", inputs=(parse_spec("5x3"),)))


def test_an_onnx_file_carries_its_inputs_and_takes_sizes(project: Path):
    text = '<ir_version: 8, opset_import: ["" : 17]> main (float[n, 3] x) => (float[n, 3] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), project / "net.onnx")
    source = load_source(SourceRequest("net.onnx", inputs=(parse_spec("x:4x3"),)))
    assert source.kind == "onnx"
    assert source.onnx == project / "net.onnx"
    assert source.inputs == (TensorSpec("x", "float32", (4, 3)),)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_options_that_have_no_meaning_for_a_file_are_refused(project: Path, name: str):
    (project / name).write_bytes(b"x")
    with pytest.raises(UsageError, match="carries its own weights"):
        load_source(SourceRequest(name, weights=Path("w.pth")))
    with pytest.raises(UsageError, match="takes no arguments"):
        load_source(SourceRequest(name, {"width": 1}))


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("absent.py:Net", ModelError, r"^No such file: absent\.py\.$"),
        ("absent.onnx", ModelError, r"^No such file: absent\.onnx\.$"),
        ("absent.pt2", ModelError, r"^No such file: absent\.pt2\.$"),
        ("absent.pth", ModelError, r"^No such file: absent\.pth\.$"),
        ("absent:Net", ModelError, r"^There is no module 'absent' here\.$"),
        ("net.py", UsageError, r"^net\.py needs a name: which model in it\?$"),
        ("net", UsageError, r"^net needs a name: which model in it\?$"),
        ("net.py:Nat", ModelError, r"^There is no 'Nat' in net\.py\.$"),
        ("net.py:Net.py", ModelError, r"^There is no 'py' in net\.py:Net\.$"),
        ("net.txt:", UsageError, r"^'net\.txt:' is not a model"),
    ],
)
def test_each_wrong_reference_has_its_error(net: Path, reference: str, error: type, message: str):
    (net.parent / "net.txt").write_text("x")
    with pytest.raises(error, match=message) as caught:
        load_source(SourceRequest(reference))
    assert type(caught.value) is error


def test_weights_of_another_model_are_an_error_of_their_own(net: Path, project: Path):
    torch.save({"other.weight": torch.zeros(2)}, project / "w.pth")
    with pytest.raises(WeightsError, match="2 missing, 1 unexpected"):
        load_source(SourceRequest("net.py:Net", weights=Path("w.pth")))


def test_an_input_given_twice_is_refused_before_anything_runs(write):
    write("net.py", "raise SystemExit\n")
    twice = (parse_spec("x:1x3"), parse_spec("x:1x3"))
    with pytest.raises(UsageError, match="given 2 times"):
        load_source(SourceRequest("net.py:Net", inputs=twice))


def test_equal_requests_have_equal_keys_and_others_differ():
    base = SourceRequest("net.py:Net", {"b": 1, "a": (1, 2)}, Path("w.pth"), (parse_spec("x:1x3"),))
    same = SourceRequest("net.py:Net", {"a": (1, 2), "b": 1}, Path("w.pth"), (parse_spec("x:1x3"),))
    others = [
        SourceRequest("net.py:Net"),
        SourceRequest("net.py:Net", {"b": 1, "a": [1, 2]}, Path("w.pth"), (parse_spec("x:1x3"),)),
        SourceRequest("net.py:Net", {"b": 1, "a": (1, 2)}, Path("w.pth"), (parse_spec("x:1x4"),)),
    ]
    key = json.dumps(base.to_json(), allow_nan=False)
    assert json.dumps(same.to_json()) == key
    assert all(json.dumps(other.to_json()) != key for other in others)


def test_importing_the_loader_imports_no_torch_and_no_onnx():
    code = (
        "import sys, shipway.source.loading; print({'torch', 'onnx', 'onnx_ir'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_folder_of_the_model_does_not_shadow_what_torch_imports(net: Path, write):
    """A sibling called like a standard module breaks nothing: torch comes in before the folder."""
    write("queue.py", "raise RuntimeError('shadowed')\n")
    write("typing_extensions.py", "raise RuntimeError('shadowed')\n")
    code = (
        "from shipway.source.loading import SourceRequest, load_source\n"
        "print(load_source(SourceRequest('net.py:Net')).kind)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=net.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "module", done.stderr


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("MobileNetV2", "mobilenet_v2_dequant"),
        ("SqueezeNet", "squeezenet1_1"),
        ("MobileNetV1", "mobilenet_v1_025"),
    ],
)
def test_real_classifiers_load_with_their_weights(assets: Path, name: str, weights: str):
    request = SourceRequest(
        f"{assets / 'torch' / 'imagenet_nets.py'}:{name}",
        weights=assets / "torch" / f"{weights}.pth",
    )
    module = load_source(request).module
    with torch.no_grad():
        logits = module(torch.zeros(1, 3, 224, 224)).numpy()
    assert logits.shape == (1, 1000)
    assert np.isfinite(logits).all()


@pytest.mark.assets
def test_weights_of_another_real_classifier_are_refused(assets: Path):
    request = SourceRequest(
        f"{assets / 'torch' / 'imagenet_nets.py'}:SqueezeNet",
        weights=assets / "torch" / "mobilenet_v2_dequant.pth",
    )
    with pytest.raises(WeightsError, match="48 missing, 102 unexpected, 3 of another shape"):
        load_source(request)
