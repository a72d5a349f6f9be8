"""The export as a whole: what is written, in which order, and what happens when it cannot be."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shipway.artifact import load_artifact
from shipway.errors import ExportError, ModelError, OutputError, UsageError
from shipway.export import model as export_module
from shipway.export.model import export_model, load_portable
from shipway.export.name_map import read_name_map
from shipway.export.options import ExportOptions
from shipway.tensors import random_feeds


@pytest.fixture(scope="module")
def digits(nets, build, as_source):
    return as_source(build(nets.Digits), "image:f32[batch,1,8,8]")


def made(model):
    return load_artifact(model.onnx).made


def test_everything_is_written_and_read_back(digits, tmp_path):
    """Model, program, map and side-cars; reading takes no torch."""
    model = export_model(digits, tmp_path / "new" / "folder", name="digits")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "digits.map.json",
        "digits.onnx",
        "digits.onnx.shipway.json",
        "digits.pt2",
        "digits.pt2.shipway.json",
    ]
    assert load_portable(folder, "digits") == model
    onnx_artifact, program = load_artifact(model.onnx), load_artifact(model.program)
    assert (onnx_artifact.kind, onnx_artifact.engine) == ("onnx", "")
    assert (program.kind, program.engine) == ("exported-program", "")
    assert onnx_artifact.companions == ("digits.map.json",)
    assert [str(spec) for spec in model.inputs] == ["image:float32[batch,1,8,8]"]
    assert [str(spec) for spec in model.outputs] == ["output:float32[batch,10]"]
    facts = onnx_artifact.made
    assert facts["opset"] == 20
    assert facts["parameters"] == sum(p.numel() for p in digits.module.parameters())
    assert facts["onnx_nodes"] == len(onnx.load(model.onnx).graph.node)
    assert facts["name_map_coverage"] == 1.0
    assert facts["example_sizes"] == {"batch": 3}
    assert facts["inputs_matched"] == "by name: image to image"
    assert facts["warnings"] == []
    assert onnx_artifact.versions["torch"] == torch.__version__


def test_model_program_and_module_agree(digits, run_onnx, relative_l2, tmp_path):
    """At a batch size the export never saw; the module is as it was."""
    model = export_model(digits, tmp_path)
    feeds = random_feeds(model.inputs, seed=4, sizes={"batch": 7})
    image = torch.from_numpy(feeds["image"])
    with torch.no_grad():
        golden = digits.module(image)
        (program,) = torch.export.load(model.program).module()(image)
    assert torch.equal(program, golden)
    assert relative_l2(run_onnx(model.onnx, feeds)["output"], golden.numpy()) < 1e-6


def test_several_inputs_and_outputs_are_named(nets, build, as_source, run_onnx, tmp_path):
    """In the order of the signature and of the returned dict; what is no tensor is listed."""
    source = as_source(build(nets.Several), "bias:f32[n,4]", "y:f32[m]", "x:f32[n,8]")
    model = export_model(source, tmp_path)
    assert [spec.name for spec in model.inputs] == ["x", "y", "bias"]
    names = ["z", "same", "y_out", "top_0", "top_1", "offset"]
    assert [spec.name for spec in model.outputs] == names
    assert made(model)["left_out_outputs"] == {"count": "int", "mask": "None"}
    outputs = run_onnx(model.onnx, random_feeds(model.inputs, sizes={"n": 3, "m": 2}))
    assert list(outputs) == names
    assert np.array_equal(outputs["z"], outputs["same"])
    assert [str(spec) for spec in model.outputs][3:5] == ["top_0:float32[n,2]", "top_1:int64[n,2]"]


def test_the_user_names_inputs_and_outputs(digits, as_source, run_onnx, tmp_path):
    """Also names that no Python identifier could be, and that inner values have."""
    source = as_source(digits.module, "my image/0:f32[n,1,8,8]")
    model = export_model(source, tmp_path, options=ExportOptions(outputs=("relu",)))
    outputs = run_onnx(model.onnx, random_feeds(model.inputs))
    assert list(outputs) == ["relu"]
    assert outputs["relu"].shape == (1, 10)
    assert made(model)["inputs_matched"] == "by position: my image/0 to image"
    entries = {entry.fx: entry.onnx for entry in read_name_map(model.name_map).tensors}
    assert entries["relu"] == "relu_inner"


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 23])
def test_the_opset_asked_for_is_in_the_file(opset, as_source, tmp_path):
    """And the file passes ONNX's checker."""
    source = as_source(nn.Sequential(nn.Linear(4, 3), nn.GELU()).eval(), "input:f32[n,4]")
    model = export_model(source, tmp_path, options=ExportOptions(opset=opset))
    (version,) = [item.version for item in onnx.load(model.onnx).opset_import if not item.domain]
    assert version == opset


@pytest.mark.parametrize(
    ("opset", "message"),
    [
        (11, "writes opset 18 and newer; 11"),
        (99, "Opset 99 was asked for and the exporter wrote 18"),
    ],
)
def test_an_opset_out_of_reach_is_refused_and_nothing_is_written(opset, message, digits, tmp_path):
    """torch itself delivers 18 for both, with only a log line."""
    with pytest.raises(ExportError, match=message) as caught:
        export_model(digits, tmp_path, options=ExportOptions(opset=opset))
    assert "--legacy" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_an_operator_without_translation_is_named(as_source, tmp_path):
    """Not by a page of torch's. Without a Python function there is nothing to trace in its place."""
    library = torch.library.Library("shipway_test", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")

    class Net(nn.Module):
        def forward(self, x):
            return torch.ops.shipway_test.twice(x)

    options = ExportOptions(opset=13, legacy=True)
    with pytest.raises(ExportError, match=r"no ONNX translation .* shipway_test(\.|::)twice"):
        export_model(as_source(Net(), "x:f32[n,3]"), tmp_path, options=options)


def test_weights_go_beside_the_model_from_the_threshold_on(digits, run_onnx, tmp_path, monkeypatch):
    """Small ones stay inside; a smaller export later leaves no old weights behind."""
    monkeypatch.setattr(export_module, "EXTERNAL_THRESHOLD_BYTES", 1)
    model = export_model(digits, tmp_path)
    assert load_artifact(model.onnx).companions == ("model.onnx.data", "model.map.json")
    first = run_onnx(onnx.load(model.onnx), random_feeds(model.inputs))
    monkeypatch.undo()
    model = export_model(digits, tmp_path)
    assert not (tmp_path / "model.onnx.data").exists()
    assert np.array_equal(
        run_onnx(model.onnx, random_feeds(model.inputs))["output"], first["output"]
    )


def test_an_exported_program_is_taken_as_it_is(
    nets, build, as_source, run_onnx, relative_l2, tmp_path
):
    """Its dynamic dimensions get the user's names, or names of their own; it is saved again."""
    module = build(nets.Digits)
    shapes = ({0: torch.export.Dim("b", min=1, max=64)},)
    program = torch.export.export(module, (torch.zeros(3, 1, 8, 8),), dynamic_shapes=shapes)
    model = export_model(as_source(program, "image:f32[batch,1,8,8]"), tmp_path)
    assert str(model.outputs[0]) == "output:float32[batch,10]"
    assert made(model)["bounds"] == {"batch": [1, 64]}
    assert read_name_map(model.name_map).coverage == 1.0
    feeds = random_feeds(model.inputs, seed=4, sizes={"batch": 7})
    with torch.no_grad():
        golden = torch.export.load(model.program).module()(torch.from_numpy(feeds["image"]))
    assert relative_l2(run_onnx(model.onnx, feeds)["output"], golden.numpy()) < 1e-6
    assert (
        str(export_model(as_source(program), tmp_path).inputs[0])
        == "image:float32[image_dim0,1,8,8]"
    )


def test_what_cannot_be_done_with_a_program_is_refused(as_source, tmp_path):
    """The old tracer, another size than it was made for, a number among its outputs."""

    class Counts(nn.Module):
        def forward(self, x):
            return x + 1, 3

    program = torch.export.export(Counts(), (torch.zeros(3),))
    with pytest.raises(ExportError, match="needs the module"):
        export_model(as_source(program), tmp_path, options=ExportOptions(legacy=True))
    with pytest.raises(ExportError, match="Output 1 of the program is 3, not a tensor"):
        export_model(as_source(program), tmp_path)
    program = torch.export.export(nn.ReLU(), (torch.zeros(3),))
    with pytest.raises(ExportError, match=r"'n' .* fixes it to 3"):
        export_model(as_source(program, "x:f32[n]"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_onnx_source_is_checked_and_copied(digits, as_source, tmp_path, monkeypatch):
    """With its external weights; it has no program, and its map has no torch names."""
    monkeypatch.setattr(export_module, "EXTERNAL_THRESHOLD_BYTES", 1)
    first = export_model(digits, tmp_path / "one", name="first")
    model = export_model(as_source(first.onnx), tmp_path / "two", name="second")
    assert model.program is None
    assert load_artifact(model.onnx).companions == ("first.onnx.data", "second.map.json")
    assert made(model)["opset"] == 20
    assert model.inputs == first.inputs
    name_map = read_name_map(model.name_map)
    assert (name_map.route, name_map.tensors, name_map.coverage) == ("onnx", (), None)
    assert {entry.onnx for entry in name_map.values} >= {"output", "norm.weight"}
    assert load_portable(tmp_path / "two", "second") == model


def test_an_onnx_source_that_is_none_is_refused(as_source, tmp_path):
    """And leaves nothing behind."""
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"bad\.onnx is not a valid ONNX model"):
        export_model(as_source(bad), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (ExportOptions(legacy=True), "--legacy"),
        (ExportOptions(opset=13), "--opset"),
        (ExportOptions(outputs=("a",)), "--output-name"),
        (ExportOptions(bounds={"n": (1, 2)}), "--bound"),
    ],
)
def test_what_a_copy_cannot_give_is_refused(options, flag, digits, as_source, tmp_path):
    """An ONNX source is not converted, and not pretended to be."""
    first = export_model(digits, tmp_path / "one")
    with pytest.raises(ExportError, match=flag):
        export_model(as_source(first.onnx), tmp_path / "two", options=options)
    assert not list((tmp_path / "two").iterdir())


def test_a_model_in_training_mode_is_refused(as_source, tmp_path):
    """Its dropout would be exported as well."""
    source = as_source(nn.Linear(2, 2), "input:f32[n,2]")
    source.module.train()
    with pytest.raises(ExportError, match="training mode"):
        export_model(source, tmp_path)


def test_torchscript_is_refused(as_source, tmp_path):
    """torch.export does not take it."""
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(nn.Linear(2, 2).eval())
    with pytest.raises(ExportError, match="is TorchScript"):
        export_model(as_source(scripted, "input:f32[n,2]"), tmp_path)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\0b"])
def test_a_name_that_is_no_file_name_is_refused(name, digits, tmp_path):
    """Before anything is loaded or written."""
    with pytest.raises(UsageError, match="cannot be a file name"):
        export_model(digits, tmp_path, name=name)


def test_a_file_that_changed_is_noticed_on_reading(digits, tmp_path):
    """Nobody should deploy what was edited by hand."""
    model = export_model(digits, tmp_path)
    with model.name_map.open("a") as stream:
        stream.write(" ")
    with pytest.raises(ModelError, match=r"model\.map\.json changed"):
        load_portable(tmp_path)
    assert load_portable(tmp_path, verify=False) == model
    with pytest.raises(ModelError, match=r"No such model file: .*other\.onnx"):
        load_portable(tmp_path, "other")


def test_a_failed_export_leaves_the_last_one_alone(digits, as_source, tmp_path):
    """Files are replaced together, when all are there."""
    model = export_model(digits, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExportError):
        export_model(digits, tmp_path, options=ExportOptions(opset=99))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_portable(tmp_path) == model


def test_a_file_in_place_of_the_folder_is_an_output_error(digits, tmp_path):
    """Not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        export_model(digits, tmp_path / "file")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of its own that a model does not fit on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.skip("cannot mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(opset=13, legacy=True)])
@pytest.mark.parametrize("width", [400, 500, 700])
def test_a_full_disk_is_an_output_error_and_leaves_nothing(width, options, as_source, tiny_disk):
    """Whichever file it is that does not fit: the .onnx has 0.6, 1.0 or 2.0 MB, the .pt2 as much."""
    source = as_source(nn.Linear(width, width).eval(), f"input:f32[n,{width}]")
    with pytest.raises(OutputError, match="No space left"):
        export_model(source, tiny_disk, options=options)
    assert not list(tiny_disk.iterdir())


SCRIPT = """
import sys, torch
from pathlib import Path
from shipway.export.model import export_model
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec
torch.manual_seed(0)
net = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
source = LoadedSource("module", "x", (parse_spec("src:f32[batch,time,8]"),), (), module=net)
export_model(source, Path(sys.argv[1]))
"""


def test_exporting_twice_writes_the_same_bytes_and_prints_nothing(digits, tmp_path, capfd):
    """Model, map and program: nothing in them tells when or how often."""
    digests = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        model = export_model(digits, folder)
        paths = (model.onnx, model.name_map, model.program)
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_and_print_nothing(tmp_path):
    """Whatever the order of their sets and dicts."""
    digests = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, folder],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
        files = [folder / "model.onnx", folder / "model.map.json", folder / "model.pt2"]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]


def test_reading_an_export_imports_no_torch(digits, tmp_path):
    """A deployment that resumes does it often."""
    export_model(digits, tmp_path)
    code = (
        "import sys; from pathlib import Path; from shipway.export.model import load_portable;"
        f"load_portable(Path({str(tmp_path)!r})); print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]


def test_progress_is_told_of_every_step(digits, as_source, tmp_path):
    """As many steps as were announced, on each route."""

    class Counter:
        def __init__(self):
            self.total = self.done = 0

        def start(self, task, total=None):
            self.total += total if task else 0

        def advance(self, steps=1):
            self.done += steps

    program = torch.export.export(nn.Linear(4, 2), (torch.zeros(3, 4),))
    model = export_model(digits, tmp_path)
    for source, options in (
        (digits, ExportOptions()),
        (digits, ExportOptions(opset=13, legacy=True)),
        (as_source(program), ExportOptions()),
        (as_source(model.onnx), ExportOptions()),
    ):
        counter = Counter()
        export_model(source, tmp_path / "again", options=options, progress=counter)
        assert counter.done == counter.total == 5


class Large(nn.Module):
    """More than 2 GB in a few weights."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40_000, 8192)
        self.up = nn.Linear(8192, 16_384)
        self.down = nn.Linear(16_384, 8192)

    def forward(self, ids):
        return self.down(torch.relu(self.up(self.table(ids)))).mean((1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(opset=13, legacy=True)])
def test_a_model_past_the_limit_of_protobuf_is_exported_checked_and_runs(
    options, as_source, tmp_path
):
    """2.4 GB of weights, in a file of their own."""
    import onnxruntime

    try:
        with torch.no_grad():
            module = Large().eval()
        model = export_model(
            as_source(module, "ids:i64[batch,5]{0..39999}"), tmp_path, options=options
        )
        data = tmp_path / "model.onnx.data"
        assert data.stat().st_size > 2**31
        assert model.onnx.stat().st_size < 1 << 20
        ids = random_feeds(model.inputs, seed=1, sizes={"batch": 2})["ids"]
        with torch.no_grad():
            golden = module(torch.from_numpy(ids)).numpy()
        del module
        session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
        (actual,) = session.run(None, {"ids": ids})
        assert np.linalg.norm(actual - golden) < 1e-4 * np.linalg.norm(golden)
    finally:
        shutil.rmtree(tmp_path)
