"""The user's code is executed beside its siblings, and one project never sees another's modules."""

import json
import pickle
import sys
from pathlib import Path

import pytest

from shipway.errors import ModelError
from shipway.source.imports import Workspace, workspace


def load(path: Path) -> Workspace:
    with workspace(str(path), path.parent) as space:
        space.import_file(path)
    return space


def test_siblings_are_importable_and_listed(write):
    net = write("net.py", "import layers\nfrom sizes import WIDTH\nVALUE = layers.DEPTH + WIDTH\n")
    layers = write("layers.py", "DEPTH = 3\n")
    sizes = write("sizes.py", "WIDTH = 4\n")
    space = load(net)
    assert space.imported.VALUE == 7
    assert space.files == (net, layers, sizes)


def test_the_module_has_the_stem_of_its_file(write):
    space = load(write("net.py", "class Thing: pass\n"))
    assert space.imported.__name__ == "net"
    assert sys.modules["net"] is space.imported


def test_a_thing_of_the_module_survives_pickling(write):
    space = load(write("net.py", "class Thing: size = 3\n"))
    copied = pickle.loads(pickle.dumps(space.imported.Thing()))  # noqa: S301 - our own bytes
    assert copied.size == 3


def test_a_file_named_like_another_module_gets_a_name_of_its_own(write):
    for name in ("json.py", "numpy.py", "wave.py", "my net-2.py"):
        space = load(write(name, "WHERE = __file__\n"))
        assert Path(space.imported.WHERE).name == name
        assert space.imported.__name__.startswith(
            Path(name).stem.replace(" ", "_").replace("-", "_")
        )
    assert sys.modules["json"] is json
    assert "wave" not in sys.modules


def test_two_projects_with_the_same_names_do_not_meet(write):
    first = write(
        "one/net.py",
        "from layers import NAME\n\ndef late():\n    import layers\n    return layers.NAME\n",
    )
    write("one/layers.py", "NAME = 'one'\n")
    second = write("two/net.py", "from layers import NAME\n")
    write("two/layers.py", "NAME = 'two'\n")
    assert [load(first).imported.NAME, load(second).imported.NAME] == ["one", "two"]
    again = load(first)
    assert again.imported.NAME == "one"
    assert again.imported.late() == "one"
    assert {path.parent.name for path in again.files} == {"one"}


def test_modules_of_an_earlier_load_come_back_where_their_name_is_free(write):
    write("one/layers.py", "NAME = 'one'\n")
    write("one/extra.py", "NAME = 'one'\n")
    load(write("one/net.py", "import layers, extra\n"))
    write("two/layers.py", "NAME = 'two'\n")
    load(write("two/other.py", "import layers\n"))
    assert sys.modules["layers"].NAME == "two"
    assert sys.modules["extra"].NAME == "one"


def test_unchanged_code_runs_once(write):
    net = write("net.py", "with open('runs', 'a') as stream:\n    stream.write('x')\n")
    assert load(net).imported is load(net).imported
    assert Path("runs").read_text() == "x"


@pytest.mark.parametrize("changed", ["net.py", "layers.py"])
def test_changed_code_runs_again_whether_it_is_the_file_or_a_sibling(write, changed: str):
    net = write("net.py", "import layers\nVALUE = layers.VALUE\n")
    write("layers.py", "VALUE = 1\n")
    assert load(net).imported.VALUE == 1
    write("layers.py", "VALUE = 1  # the same\n")
    source = (
        "import layers\nVALUE = 20 + layers.VALUE\n"
        if changed == "net.py"
        else "VALUE = 21  # new\n"
    )
    write(changed, source)
    assert load(net).imported.VALUE == 21


def test_code_that_fails_leaves_nothing_behind(write):
    write("layers.py", "VALUE = 1\n")
    net = write("net.py", "import layers\nraise ValueError('no')\n")
    with pytest.raises(ModelError, match=r"net\.py raised ValueError: no, at net\.py:2"):
        load(net)
    assert not {"net", "layers"} & set(sys.modules)
    write("net.py", "VALUE = 'mended'\n")
    assert load(net).imported.VALUE == "mended"


def test_path_and_arguments_are_put_back(write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["shipway", "export", "--opset", "17"])
    before = list(sys.path)
    space = load(write("net.py", "import sys\nARGV = list(sys.argv)\nFIRST = sys.path[0]\n"))
    assert space.imported.ARGV == ["shipway"]
    assert Path(space.imported.FIRST) == space.files[0].parent
    assert sys.argv == ["shipway", "export", "--opset", "17"]
    assert sys.path == before


def test_folders_that_the_code_adds_to_the_path_stay(write, project: Path):
    write("library/extra.py", "NAME = 'extra'\n")
    net = write(
        "net.py",
        "import sys\nsys.path.insert(0, 'library')\n\ndef late():\n    import extra\n    return extra.NAME\n",
    )
    assert load(net).imported.late() == "extra"


def test_printing_goes_to_stderr_so_that_stdout_stays_the_result(write, capsys):
    load(write("net.py", "print('loading')\n"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "loading\n")


def test_relative_imports_work_inside_a_package(write):
    write("pack/__init__.py", "")
    write("pack/inner/__init__.py", "")
    write("pack/layers.py", "NAME = 'layers'\n")
    net = write("pack/inner/net.py", "from ..layers import NAME\n")
    space = load(net)
    assert space.imported.__name__ == "pack.inner.net"
    assert space.imported.NAME == "layers"
    assert {path.name for path in space.files} == {"net.py", "layers.py", "__init__.py"}


def test_the_file_of_a_package_itself_can_be_loaded(write):
    write("pack/layers.py", "NAME = 'layers'\n")
    space = load(write("pack/__init__.py", "from .layers import NAME\n"))
    assert (space.imported.__name__, space.imported.NAME) == ("pack", "layers")


def test_a_file_in_a_package_without_relative_imports_runs_alone(write):
    write("pack/__init__.py", "raise RuntimeError('heavy, and not needed')\n")
    assert load(write("pack/net.py", "NAME = 'net'\n")).imported.NAME == "net"


def test_relative_imports_without_a_package_say_what_to_do(write):
    net = write("net.py", "from .layers import NAME\n")
    with pytest.raises(ModelError, match="relative import") as caught:
        load(net)
    assert "add an __init__.py" in caught.value.hint


def test_a_fallback_from_relative_to_plain_imports_works(write):
    write("layers.py", "NAME = 'layers'\n")
    source = (
        "try:\n    from .layers import NAME\nexcept ImportError:\n    from layers import NAME\n"
    )
    assert load(write("net.py", source)).imported.NAME == "layers"


def test_modules_imported_late_inside_the_block_are_listed(write):
    write("layers.py", "NAME = 'layers'\n")
    net = write(
        "net.py",
        "def make():\n    import importlib\n    return importlib.import_module('lay' + 'ers')\n",
    )
    with workspace(str(net), net.parent) as space:
        space.import_file(net).make()
    assert [path.name for path in space.files] == ["net.py", "layers.py"]


def test_a_syntax_error_names_file_and_line(write):
    net = write("net.py", "import layers\n")
    write("layers.py", "x = 1\ndef broken(:\n")
    with pytest.raises(ModelError, match=r"^layers\.py:2 is not valid Python: invalid syntax\.$"):
        load(net)
    write("net.py", "x = (\n")
    with pytest.raises(
        ModelError, match=r"^net\.py:1 is not valid Python: '\(' was never closed\.$"
    ):
        load(net)


@pytest.mark.parametrize("source", [b"x = '\xff'\n", b"x = 1\x00\n", b"\x80\x02binary"])
def test_a_file_that_is_no_text_is_refused(project: Path, source: bytes):
    (project / "net.py").write_bytes(source)
    with pytest.raises(ModelError, match=r"net\.py"):
        load(project / "net.py")


def test_the_current_folder_is_searched_for_modules(write, project: Path):
    write("pack/__init__.py", "")
    net = write("pack/net.py", "from pack import layers\n")
    layers = write("pack/layers.py", "")
    with workspace("pack.net", project) as space:
        assert space.import_module("pack.net").__name__ == "pack.net"
    assert space.files[0] == net
    assert layers in space.files


def test_an_absent_module_is_told_from_an_absent_dependency(write, project: Path):
    write("net.py", "import dependency_that_is_absent\n")
    with (
        workspace("a", project) as space,
        pytest.raises(ModelError, match="There is no module 'nets' here") as caught,
    ):
        space.import_module("nets.net")
    assert str(project) in caught.value.hint
    with (
        workspace("b", project) as space,
        pytest.raises(
            ModelError, match=r"needs the module 'dependency_that_is_absent'.*at net\.py:1"
        ),
    ):
        space.import_module("net")


def test_a_module_somebody_imported_before_is_left_as_it_is(write, project: Path, monkeypatch):
    monkeypatch.syspath_prepend(project)
    write("net.py", "VALUE = 1\n")
    import net

    with workspace("net", project) as space:
        assert space.import_module("net") is net
    load(write("two/net.py", "VALUE = 2\n"))
    assert sys.modules["net"] is net
