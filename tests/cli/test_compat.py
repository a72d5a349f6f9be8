"""Scripts written for MagicONNX and auto_optimizer, run unmodified as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import compat_models as models
import numpy as np
import onnx
import onnxruntime
import pytest

from shipway.proof.graph import prove_graphs

SCRIPTS = Path(__file__).parents[1] / "compat_scripts"


def run_script(name: str | Path, *arguments: str | Path, code: int = 0):
    done = subprocess.run(
        [sys.executable, "-m", "shipway.compat", str(SCRIPTS / name), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def compute(path: Path, **feeds) -> list[np.ndarray]:
    """Run a model in ONNX Runtime as the file stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def operators(path: Path) -> list[str]:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=not any(one.domain for one in model.opset_import))
    return [node.op_type for node in model.graph.node]


@pytest.fixture
def edited(tmp_path: Path):
    """Write a model, run a script on it and return both files."""

    def edit(text: str, script: str, *, flags: bool = False) -> tuple[Path, Path]:
        before = models.write(text, tmp_path / "before.onnx")
        after = tmp_path / "after.onnx"
        words = ("--input_model", before, "--output_model", after) if flags else (before, after)
        done = run_script(script, *words)
        assert done.stderr.count("shipway.compat: ") == 1, done.stderr
        assert f"{script} ran on Shipway's drop-in for" in done.stderr
        assert "unsupported calls: none" in done.stderr
        return before, after

    return edit


def test_int64_becomes_int32(edited) -> None:
    before, after = edited(models.INDICES, "int64_to_int32.py")
    feeds = {"x": numbers(5, 8), "ids": np.array([4, 0, 2])}
    for old, new in zip(compute(before, **feeds), compute(after, **feeds), strict=True):
        np.testing.assert_array_equal(old, new)
    model = onnx.load(after)
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.INT32}
    assert operators(after).count("Cast") == 3
    assert [node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"] == [6] * 3


def test_consecutive_slices_are_merged(edited) -> None:
    before, after = edited(models.SLICES, "merge_slices.py")
    x = numbers(2, 8, 8)
    np.testing.assert_array_equal(compute(before, x=x)[0], compute(after, x=x)[0])
    assert operators(after) == ["Slice", "Relu"]


def test_transposes_are_rotated_out(edited) -> None:
    before, after = edited(models.TRANSPOSES, "rotate_transposes.py", flags=True)
    x = numbers(2, 3, 4, 5)
    np.testing.assert_array_equal(compute(before, x=x)[0], compute(after, x=x)[0])
    assert operators(after) == ["Relu"]


def test_gathers_become_a_split(edited) -> None:
    before, after = edited(models.GATHERS, "gather_to_split.py")
    x = numbers(2, 3, 4)
    np.testing.assert_array_equal(compute(before, x=x)[0], compute(after, x=x)[0])
    assert sorted(operators(after)) == ["Mul", "Split", "Squeeze", "Squeeze", "Squeeze", "Sub"]


def test_constants_are_clamped_and_domains_emptied(edited) -> None:
    _, after = edited(models.LARGE, "clamp_fp16.py")
    x = np.array([1, 2, 3, 4], "f")
    expected = np.maximum(x * np.array([-65504, 1, 65504, 0.5]) - [1e9, 0, 0, 0], 0)
    np.testing.assert_allclose(compute(after, x=x)[0], expected)
    assert [(one.domain, one.version) for one in onnx.load(after).opset_import] == [("", 13)]


def test_resize_takes_the_nearest(edited) -> None:
    """The published edit changes numbers; the drop-in does what the script says, and no more."""
    before, after = edited(models.RESIZE, "resize_to_nearest.py")
    x = numbers(1, 2, 4, 4)
    np.testing.assert_array_equal(compute(after, x=x)[0], x.repeat(2, axis=2).repeat(2, axis=3))
    assert not np.allclose(compute(before, x=x)[0], compute(after, x=x)[0], atol=0.1)


def test_a_custom_operator_is_inserted(edited) -> None:
    before, after = edited(models.GELU, "insert_custom_op.py")
    x = numbers(3, 16)
    np.testing.assert_allclose(compute(before, x=x)[0], compute(after, x=x)[0], atol=1e-6)
    assert operators(after) == ["Relu", "Neg", "Gelu", "Neg"]
    assert {one.domain for one in onnx.load(after).opset_import} == {"", "com.microsoft"}


def test_gemm_becomes_matmul(tmp_path: Path) -> None:
    before, after = models.write_gemm(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    run_script("gemm_to_matmul.py", before, after)
    x = numbers(2, 5, 8)
    np.testing.assert_allclose(compute(before, x=x)[0], compute(after, x=x)[0], atol=1e-6)
    assert operators(after) == ["Relu", "MatMul", "Add"]


def test_layernorm_gets_its_pattern_back(edited) -> None:
    before, after = edited(models.LAYERNORM, "repair_layernorm.py")
    x = numbers(3, 16)
    np.testing.assert_allclose(compute(before, x=x)[0], compute(after, x=x)[0], atol=1e-6)
    expected = ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div"]
    assert operators(after) == expected


def test_conv1d_becomes_conv2d(tmp_path: Path) -> None:
    before, after = models.write_conv1d(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    run_script("conv1d_to_conv2d.py", before, after)
    x = numbers(2, 4, 16)
    np.testing.assert_allclose(compute(before, x=x)[0], compute(after, x=x)[0], atol=1e-6)
    row = ["Unsqueeze", "Conv", "Squeeze"]
    assert operators(after) == [*row, "Relu", *row]


def test_the_default_domain_is_kept(tmp_path: Path) -> None:
    """Its opset stays although another was listed first; branches and functions follow.

    ONNX Runtime knows no functions of the default domain, so they are moved out again to compute.
    """
    before = models.write(models.DOMAINS, tmp_path / "before.onnx")
    feeds = {"x": numbers(4), "yes": np.array(True)}
    expected = compute(before, **feeds)[0]
    done = run_script("keep_default_domain.py", before, tmp_path / "after.onnx")
    assert "Shipway's drop-in for MagicONNX" in done.stderr
    model = onnx.load(tmp_path / "after.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    assert {function.domain for function in model.functions} == {""}
    assert b"npu" not in model.SerializeToString()
    back = onnx.helper.make_opsetid("npu", 3)
    branches = [a.g.node for node in model.graph.node for a in node.attribute if a.HasField("g")]
    for function in model.functions:
        function.domain = back.domain
    for part in (model, *model.functions):
        part.opset_import.append(back)
    for nodes in (model.graph.node, *branches, *(one.node for one in model.functions)):
        for node in nodes:
            node.domain = back.domain if node.op_type in {"Twice", "Same"} else ""
    onnx.save(model, tmp_path / "back.onnx")
    np.testing.assert_array_equal(compute(tmp_path / "back.onnx", **feeds)[0], expected)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of 197 tokens, and what two scripts made of it."""
    folder = tmp_path_factory.mktemp("vit")
    models.write_vit(folder / "vit.onnx")
    done = run_script("pad_tokens.py", folder / "vit.onnx", folder / "padded.onnx")
    assert "tokens 197 -> 208" in done.stdout
    run_script("pad_tokens_masked.py", folder / "vit.onnx", folder / "masked.onnx")
    return folder


def test_padding_without_a_mask_is_per_cents_off(vit: Path) -> None:
    image = numbers(1, 3, 224, 224)
    files = ("vit.onnx", "padded.onnx", "masked.onnx")
    golden, padded, masked = (compute(vit / name, image=image)[0] for name in files)
    norm = np.linalg.norm(golden)
    assert 0.005 < np.linalg.norm(padded - golden) / norm < 0.5
    assert np.linalg.norm(masked - golden) / norm < 1e-6


def test_the_proof_refuses_the_padding_and_takes_the_repair(vit: Path) -> None:
    refused = prove_graphs(vit / "vit.onnx", vit / "padded.onnx")
    assert not refused.passed
    assert prove_graphs(vit / "vit.onnx", vit / "masked.onnx").passed


def test_a_script_runs_as_if_started_by_itself(tmp_path: Path) -> None:
    """Its own arguments, name and neighbours; what it prints is untouched, and its exit code kept."""
    (tmp_path / "neighbour.py").write_text("VALUE = 7\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom neighbour import VALUE\nprint(sys.argv, __name__, VALUE, __file__)\n"
        "sys.exit(VALUE)\n"
    )
    done = run_script(script, "a", "--b", code=7)
    assert done.stdout == f"{[str(script), 'a', '--b']} __main__ 7 {script}\n"
    assert done.stderr == (
        "shipway.compat: script.py ran on Shipway's drop-in for no tool Shipway stands in for; "
        "unsupported calls: none.\n"
    )


def test_an_error_of_the_script_keeps_its_traceback(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def work(x):\n    return x['absent']\n\n\nwork({})\n")
    done = run_script(script, code=1)
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{script}", line 5, in <module>',
    ]
    assert lines[-2] == "KeyError: 'absent'"


def test_an_error_of_the_drop_in_says_what_to_do(tmp_path: Path) -> None:
    """An absent node, a dangling output and a call that is not there: named, with a hint."""
    model = models.write(models.TRANSPOSES, tmp_path / "model.onnx")
    begin = f"from auto_optimizer import OnnxGraph\ng = OnnxGraph.parse({str(model)!r})\n"
    cases = (
        (4, "g['Concat_24']", "named 'Concat_24'", "look the name up"),
        (4, "g.remove('relu', {})\ng.save('no.onnx')", "Nothing computes 'b'", "leave a reader"),
        (2, "g.frobnicate()", "no auto_optimizer OnnxGraph.frobnicate", "calls: auto_optimizer On"),
        (
            2,
            "from auto_optimizer import GraphOptimizer",
            "no auto_optimizer.GraphOpt",
            "graph edit",
        ),
        (2, "import auto_optimizer.pattern", "no module auto_optimizer.pattern", "graph edit"),
    )
    for code, text, *parts in cases:
        script = tmp_path / "script.py"
        script.write_text(begin + text)
        done = run_script(script, code=code)
        assert all(part in done.stderr for part in parts), done.stderr
    assert not Path("no.onnx").exists()


def test_what_the_user_gets_wrong_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shipway.compat"]
    for words, message in (([], "Usage: "), ([str(tmp_path / "no.py")], "No such script")):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
