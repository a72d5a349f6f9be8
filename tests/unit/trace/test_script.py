"""A user's own script, recorded as it is."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from shipway.errors import EngineError, OutputError, UsageError
from shipway.trace.reading import open_trace
from shipway.trace.script import record_script

SCRIPT = """
    import sys
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
            self.head = nn.Linear(4, 2)

        def forward(self, image, *, scale=1.0):
            x = self.stem(image).mean((2, 3))
            if scale > 100:
                raise ValueError("scale")
            return {"logits": self.head(x) * scale, "features": x}

    normalize = nn.Softmax(-1)  # a module without weights is not the model
    torch.manual_seed(0)
    net = Net().eval()
    image = normalize(torch.randn(1, 3, 8, 8))
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with torch.no_grad():
        for turn in range(3):
            out = net(image=image + turn, scale=torch.tensor(scale))
    print("sum", float(out["logits"].sum()))
    sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
"""


@pytest.fixture
def script(tmp_path):
    """Write a script and return the command that runs it."""

    def write(text=SCRIPT, *arguments):
        path = tmp_path / "infer.py"
        path.write_text(textwrap.dedent(text))
        return [sys.executable, str(path), *arguments]

    return write


def test_each_module_of_the_first_pass(script, tmp_path, capfd):
    """By its path, with the line of the script; the script prints and ends as always."""
    command = script()
    header = record_script(command, tmp_path / "trace")
    assert capfd.readouterr().err.startswith("sum ")
    trace = open_trace(tmp_path / "trace")
    assert trace.header == header
    assert header.complete
    assert (header.engine, header.precision, header.model) == ("torch", "f32", "__main__.Net")
    assert header.effective["exit_code"] == "0"
    assert header.effective["command"] == " ".join(command)
    assert [record.name for record in trace.records] == [
        "input.image", "input.scale", "stem.0", "stem.1", "stem", "head", "Net.logits",
        "Net.features",
    ]  # fmt: skip
    assert header.inputs["image"].shape == (1, 3, 8, 8)
    conv = trace.record("stem.0")
    assert (conv.tap.op, conv.tap.module) == ("torch.nn.modules.conv.Conv2d", "stem.0")
    assert conv.tap.source == "infer.py:13"
    assert conv.tap.code == "x = self.stem(image).mean((2, 3))"
    # The first pass, not the last: its input is the normalised image itself.
    np.testing.assert_allclose(trace.read("input.image").sum(-1), 1, rtol=1e-5)
    features, logits = trace.read("Net.features"), trace.read("Net.logits")
    np.testing.assert_array_equal(trace.read("stem").mean((2, 3)).shape, features.shape)
    np.testing.assert_array_equal(trace.read("head") * 2, logits)
    with pytest.raises(OutputError, match="holds a trace"):
        record_script(command, tmp_path / "trace")


@pytest.mark.slow
def test_operators_statistics_patterns_and_a_later_call(script, tmp_path):
    """Eager names; values left away; what was not asked for is counted."""
    header = record_script(
        script(), tmp_path / "trace", level="operator", op_types=["convolution", "aten.addmm.*"],
        stats_only=True, calls=3,
    )  # fmt: skip
    trace = open_trace(tmp_path / "trace")
    assert [record.name for record in trace.records] == [
        "stem.0/aten.convolution.default#1",
        "head/aten.addmm.default#1",
    ]
    conv, linear = trace.records
    assert conv.tap.source == "infer.py:13"
    assert linear.tap.module == "head"
    assert not trace.has_values
    assert linear.statistics.count == 2
    assert header.left_out >= 4
    assert header.effective["call"] == "3"
    # The third image is the first plus two.
    assert header.inputs["image"].crc != 0


@pytest.mark.slow
def test_the_exit_code_and_a_later_crash_are_reported(script, tmp_path, caplog):
    """The pass was recorded before; the trace is whole."""
    header = record_script(script(SCRIPT, "2", "7"), tmp_path / "trace")
    assert header.effective["exit_code"] == "7"
    assert open_trace(tmp_path / "trace").header.effective["exit_code"] == "7"
    assert "exit code 7" in caplog.text


@pytest.mark.slow
def test_a_pass_that_fails_leaves_what_was_computed(script, tmp_path, capfd):
    """Readable, and not complete."""
    with pytest.raises(EngineError, match="The call of Net failed"):
        record_script(script(SCRIPT, "200"), tmp_path / "trace")
    assert "ValueError: scale" in capfd.readouterr().err
    trace = open_trace(tmp_path / "trace")
    assert not trace.header.complete
    assert "stem" in trace
    assert "head" not in trace
    assert trace.read("stem.0").shape == (1, 4, 6, 6)


DIES = """
    import os, torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(2, 2)
        def forward(self, x):
            y = self.first(x)
            {}
    Net()(torch.ones(1, 2))
"""


@pytest.mark.parametrize(
    ("how", "said", "timeout"),
    [
        ("os.kill(os.getpid(), 9)", "ended with exit code -9 in the middle", None),
        ("import time; time.sleep(60)", "took too long in the middle", 30),
    ],
)
@pytest.mark.slow
def test_a_script_that_dies_in_the_pass(script, tmp_path, how, said, timeout):
    """What was computed before can be read."""
    with pytest.raises(EngineError, match=said):
        record_script(script(DIES.format(how)), tmp_path / "trace", timeout_s=timeout)
    assert open_trace(tmp_path / "trace").read("first").shape == (1, 2)


@pytest.mark.slow
def test_a_pattern_that_matches_nothing(script, tmp_path):
    """Is refused with the names there are."""
    with pytest.raises(UsageError, match=r"--names stam\.\* matches none of 8 tensors"):
        record_script(script(), tmp_path / "trace", names=["stam.*"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('hello')", "ran no PyTorch module with weights"),
        (
            "import torch; torch.nn.ReLU()(torch.ones(2))",
            r"no PyTorch module with weights \(only torch.nn.modules.activation.ReLU \(no weights\)\)",
        ),
        (
            "import torch; torch.nn.Linear(2, 2)(torch.ones(2))",
            "after 1 calls of a model; call 2 was",
        ),
    ],
)
def test_a_script_without_the_call_asked_for(script, tmp_path, text, said):
    """Says what was called instead."""
    with pytest.raises(UsageError, match=said):
        record_script(script(text), tmp_path / "trace", calls=2)
    assert not (tmp_path / "trace" / "trace.json").exists()


def test_what_is_no_python_is_refused(script, tmp_path):
    """Not started, started without Python, or Python told to look at nothing."""
    with pytest.raises(UsageError, match=r"Cannot start infer\.py: No such file"):
        record_script(["infer.py"], tmp_path / "trace")
    with pytest.raises(UsageError, match="started no Python that could be recorded"):
        record_script(["true"], tmp_path / "trace")
    python, path = script("print(1)")
    with pytest.raises(UsageError, match="started no Python"):
        record_script([python, "-I", path], tmp_path / "trace")
    with pytest.raises(UsageError, match="no call number 0"):
        record_script([python, path], tmp_path / "trace", calls=0)
    with pytest.raises(UsageError, match="Unknown level 'kernel'"):
        record_script([python, path], tmp_path / "trace", level="kernel")


@pytest.mark.slow
def test_packages_console_scripts_and_shells(script, tmp_path, monkeypatch):
    """`python -m`, a file with a shebang, a shell that starts Python twice."""
    script()
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__main__.py").write_text((tmp_path / "infer.py").read_text())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    console = tmp_path / "infer"
    console.write_text(f"#!{sys.executable}\n{(tmp_path / 'infer.py').read_text()}")
    console.chmod(0o755)
    shell = f"{sys.executable} -c 'print(1)' && {sys.executable} -m pkg"
    commands = [[sys.executable, "-m", "pkg"], [str(console)], ["sh", "-c", shell]]
    for at, command in enumerate(commands):
        record_script(command, tmp_path / f"trace-{at}")
        assert "head" in open_trace(tmp_path / f"trace-{at}")


@pytest.mark.slow
def test_a_model_that_is_exported_or_traced_first(script, tmp_path):
    """What is recorded is the run, not the look that torch takes at the model before."""
    text = """
        import warnings
        import torch
        warnings.simplefilter("ignore")
        net = torch.nn.Linear(2, 3)
        torch.export.export(net, (torch.zeros(1, 2),))
        torch.jit.trace(net, torch.zeros(1, 2), check_trace=False)
        net(torch.full((4, 2), 7.0))
    """
    record_script(script(text), tmp_path / "trace", level="operator")
    trace = open_trace(tmp_path / "trace")
    np.testing.assert_array_equal(trace.read("input.input"), np.full((4, 2), 7))
    assert trace.read("Linear").shape == (4, 3)


@pytest.mark.slow
def test_the_users_own_sitecustomize_still_runs(script, tmp_path, monkeypatch):
    """And a compiled model is recorded as it is in eager mode."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import os; os.environ['MINE'] = '1'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    text = """
        import os, torch
        assert os.environ["MINE"] == "1"
        net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
        torch.compile(net)(torch.ones(1, 2))
    """
    record_script(script(text), tmp_path / "trace")
    names = [record.name for record in open_trace(tmp_path / "trace").records]
    assert {"0", "1"} <= set(names)
    assert not any("_orig_mod" in name for name in names)


def test_the_bootstrap_is_inert_by_itself(tmp_path):
    """Importing it without a recording changes nothing."""
    code = "import sys, shipway.trace.bootstrap.sitecustomize as s; print(len(sys.meta_path))"
    plain = "import sys, shipway.trace.bootstrap; print(len(sys.meta_path))"
    counts = [
        subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True)
        for one in (code, plain)
    ]
    assert counts[0].stdout == counts[1].stdout


@pytest.mark.slow
def test_a_python_without_what_shipway_needs_is_named(script, tmp_path, monkeypatch):
    """The script runs all the same; the error says where to install what."""
    broken = tmp_path / "broken"
    (broken / "psutil").mkdir(parents=True)
    (broken / "psutil" / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    marker = tmp_path / "ran"
    text = f"import torch; torch.nn.Linear(2, 2)(torch.ones(2)); open({str(marker)!r}, 'w').close()"
    with pytest.raises(EngineError, match=r"cannot record in .*: ImportError: not here") as caught:
        record_script(script(text), tmp_path / "trace")
    assert "pip install shipway" in caught.value.hint
    assert marker.exists()


@pytest.mark.slow
def test_a_trace_says_what_it_is_of(script, tmp_path):
    """As JSON, for other tools."""
    record_script(script(), tmp_path / "trace", names=["stem*"])
    data = json.loads((tmp_path / "trace" / "trace.json").read_text())
    assert [item["name"] for item in data["tensors"]] == ["stem.0", "stem.1", "stem"]
    assert data["left_out"] == 5
    assert data["effective"]["provider"] == "eager script"
