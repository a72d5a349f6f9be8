"""Bad input: a clear message, the right exit code, no traceback, nothing half-written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SPEC = "image:float32[batch,3,16,16]"


def assert_clean(done: subprocess.CompletedProcess[str], code: int, *facts: str) -> None:
    """The message has every fact in it, there is a hint or none is needed, and no traceback."""
    printed = " ".join(done.stderr.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in printed
    for fact in facts:
        assert fact in printed


def test_no_such_file(shipway, project: Path) -> None:
    done = shipway("export", "nett.py:Net", "--input", SPEC, cwd=project)
    assert_clean(done, 4, "nett.py", "hint:", "net.py")


def test_no_such_class_lists_what_there_is(shipway, project: Path) -> None:
    done = shipway("export", "net.py:Nett", "--input", SPEC, cwd=project)
    assert_clean(done, 4, "Nett", "Net")


def test_a_factory_that_raises_is_quoted_with_its_line(shipway, project: Path) -> None:
    done = shipway("export", "net.py:broken", "--input", SPEC, cwd=project)
    assert_clean(done, 4, "KeyError", "missing", "net.py:21")


def test_wrong_argument_names_the_parameters(shipway, project: Path) -> None:
    done = shipway("export", "net.py:Net", "--arg", "depth=3", "--input", SPEC, cwd=project)
    assert_clean(done, 2, "depth", "width")


def test_weights_of_another_model_are_listed(shipway, project: Path) -> None:
    words = ("--arg", "width=16", "--weights", "net.pth", "--input", SPEC)
    done = shipway("export", "net.py:Net", *words, cwd=project)
    assert_clean(done, 4, "stem.weight", "[16, 3, 3, 3]", "[8, 3, 3, 3]")


def test_wrong_input_shape_of_the_model(shipway, project: Path) -> None:
    done = shipway("export", "net.py:Net", "--input", "image:float32[batch,5,16,16]", cwd=project)
    assert_clean(done, 4, "net.py:16", "hint:")


def test_no_input_spec_shows_how_to_write_one(shipway, project: Path) -> None:
    done = shipway("export", "net.py:Net", cwd=project)
    assert_clean(done, 4, "image", "--input")


@pytest.fixture
def exported(shipway, project: Path) -> Path:
    """The project's model, exported."""
    words = ("--weights", "net.pth", "--input", SPEC, "--no-proof", "--output", "export")
    done = shipway("export", "net.py:Net", *words, cwd=project)
    assert done.returncode == 0, done.stderr
    return project / "export" / "model.onnx"


@pytest.mark.parametrize(
    ("value", "facts"),
    [
        (np.zeros((1, 3, 8, 16), "float32"), ("image", "[1, 3, 8, 16]", "axis 2")),
        (np.zeros((1, 3, 16, 16), "float64"), ("image", "float64", "float32")),
        (np.zeros((3, 16, 16), "float32"), ("image", "3 dimensions")),
    ],
)
def test_wrong_tensor(shipway, exported: Path, value, facts: tuple[str, ...]) -> None:
    np.save(exported.parent / "x.npy", value)
    done = shipway("run", exported, "--input", exported.parent / "x.npy")
    assert_clean(done, 4, *facts)


def test_truncated_npy(shipway, exported: Path) -> None:
    path = exported.parent / "x.npy"
    np.save(path, np.zeros((1, 3, 16, 16), "float32"))
    path.write_bytes(path.read_bytes()[:500])
    assert_clean(shipway("run", exported, "--input", path), 4, "x.npy")


def test_truncated_onnx(shipway, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(exported.read_bytes()[: exported.stat().st_size // 2])
    assert_clean(shipway("run", path), 4, "cut.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x00" * 4096])
def test_onnx_of_garbage(shipway, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(content)
    assert_clean(shipway("run", path), 4, "garbage.onnx")


def test_changed_artifact_is_refused(shipway, exported: Path) -> None:
    with exported.open("ab") as stream:
        stream.write(b"\x00")
    done = shipway("compile", exported, "--engine", "onnxruntime", cwd=exported.parent)
    assert_clean(done, 4, "model.onnx", "SHA-256")


def deploy(shipway, project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return shipway("deploy", "ship.toml", *words, cwd=project)


def test_label_file_with_a_missing_image(shipway, project: Path) -> None:
    with (project / "photos" / "labels.txt").open("a") as stream:
        stream.write("absent one.jpg 1\n")
    assert_clean(deploy(shipway, project), 4, "absent one.jpg")


def test_label_file_with_a_bad_line(shipway, project: Path) -> None:
    with (project / "photos" / "labels.txt").open("a") as stream:
        stream.write("photo without a label\n")
    assert_clean(deploy(shipway, project), 4, "labels.txt:13", "photo without a label")


def test_corrupt_photo_is_counted_and_named_and_fails_the_run(shipway, project: Path) -> None:
    photo = project / "photos" / "photo 3.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    done = deploy(shipway, project)
    assert_clean(done, 4, "photo 3.jpg", "--max-bad")
    assert "shipway evaluate" in done.stderr

    text = (project / "ship.toml").read_text().replace("batch = 4", "batch = 4\nmax_bad = 1")
    (project / "ship.toml").write_text(text)
    allowed = deploy(shipway, project, "--json")
    assert allowed.returncode == 0, allowed.stderr
    assert '"photo 3.jpg"' in allowed.stdout


def test_an_engine_that_is_not_installed(shipway, project: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "openvino.py").write_text("raise ImportError('hidden by the test')")
    words = ("--input", SPEC, "--engine", "openvino")
    done = shipway("deploy", "net.py:Net", *words, cwd=project, PYTHONPATH=str(blocked))
    assert_clean(done, 3, "openvino", "pip install 'shipway[openvino]'")


def test_unknown_engine(shipway, exported: Path) -> None:
    done = shipway("run", exported, "--engine", "tensorflow")
    assert_clean(done, 2, "tensorflow", "onnxruntime")


def test_bf16_is_refused_where_it_would_not_be_honoured(shipway, exported: Path) -> None:
    assert_clean(shipway("run", exported, "--engine", "onnxruntime:bf16"), 5, "bf16")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_full_disk(shipway, project: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"\0" * 160_000)
    done = deploy(shipway, project, "--output", str(small_disk / "run"))
    assert_clean(done, 2, "No space left", str(small_disk), "--output")
    left = [path for path in (small_disk / "run").iterdir() if path.name != ".stages"]
    assert left == []


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk nothing can be written to; file permissions do not stop root."""
    disk = tmp_path / "read-only"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a read-only disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_read_only_output(shipway, project: Path, read_only_disk: Path) -> None:
    done = deploy(shipway, project, "--output", str(read_only_disk / "run"))
    assert_clean(done, 2, "Read-only file system", "--output")


def test_an_error_is_json_too(shipway, project: Path) -> None:
    import json

    done = shipway("export", "nett.py:Net", "--input", SPEC, "--json", cwd=project)
    failure = json.loads(done.stdout)
    assert failure["exit_code"] == done.returncode == 4
    assert "nett.py" in failure["error"]
