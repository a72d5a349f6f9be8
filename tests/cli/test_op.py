"""`shipway op`, as a user types it."""

import json
import shutil

import pytest

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++: the kernel is compiled"
)
ALPHA = "const W alpha = W(attributes[0].f);"


def _project(shipway, folder, change=""):
    made = shipway("op", "new", "my_add", cwd=folder)
    assert made.returncode == 0, made.stderr
    kernel = folder / "my_add" / "src" / "my_add" / "my_add.cpp"
    text = kernel.read_text()
    assert ALPHA in text
    kernel.write_text(text.replace(ALPHA, ALPHA + change))
    return folder / "my_add" / "src" / "my_add" / "operator.py"


def _verify(shipway, definition, cache, *flags, **variables):
    command = ("op", "verify", "my_add", "--ops", definition, *flags)
    return shipway(*command, SHIPWAY_CACHE=str(cache), **variables)


@needs_compiler
def test_a_new_project_passes_as_it_is(shipway, tmp_path):
    """The native kernel runs, in every dtype, and agrees with the reference."""
    done = _verify(
        shipway,
        _project(shipway, tmp_path),
        tmp_path / "cache",
        "--engines",
        "onnxruntime",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    checks = [one for one in json.loads(done.stdout)["checks"] if one["what"] == "onnxruntime"]
    assert [one["runs"] for one in checks] == ["native kernel"] * 4
    assert {one["verdict"] for one in checks} == {"pass"}


def test_without_a_compiler_it_passes_through_its_body(shipway, tmp_path):
    """And says so."""
    done = _verify(
        shipway,
        _project(shipway, tmp_path),
        tmp_path,
        "--engines",
        "onnxruntime",
        CXX="no-compiler",
    )
    assert done.returncode == 0, done.stderr
    assert "portable body" in done.stdout
    assert "without its native kernel" in done.stderr


@needs_compiler
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (" *reinterpret_cast<volatile int*>(8) = 1;", "SIGSEGV"),
        (" for (volatile int k = 0; k < 1;) {}", "has not returned for"),
        (' int wrong = "text";', "compiler refuses my_add.cpp"),
    ],
    ids=["crash", "endless loop", "does not compile"],
)
def test_a_bad_kernel_is_an_error_and_no_more(shipway, tmp_path, change, words):
    """Exit code 5, one message, no traceback; Shipway itself lives on to say it."""
    definition = _project(shipway, tmp_path, change)
    done = _verify(
        shipway, definition, tmp_path / "cache", "--engines", "torch", SHIPWAY_KERNEL_TIMEOUT="2"
    )
    assert done.returncode == 5, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_names_are_refused(shipway, tmp_path):
    """With what to type instead."""
    done = shipway("op", "new", "My-Add", cwd=tmp_path)
    assert done.returncode == 2
    assert "hint:" in done.stderr
    assert not list(tmp_path.iterdir())
    assert shipway("op", "verify", "nothing").returncode == 2
