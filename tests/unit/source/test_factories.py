"""From a name to a module: instances, classes and factories; what is none of them is explained."""

import pytest
import torch
from torch import nn

from shipway.errors import ModelError, UsageError
from shipway.source.factories import make_module
from shipway.source.imports import workspace

HEADER = "import torch\nfrom torch import nn\n\n"


@pytest.fixture
def make(write):
    """Write net.py and make the module a name in it stands for."""

    def make_from(source: str, name: str, **arguments: object):
        path = write("net.py", HEADER + source)
        with workspace(str(path), path.parent) as space:
            space.import_file(path)
            return make_module(space, "net.py", name, arguments)

    return make_from


CODE = """class Net(nn.Module):
    def __init__(self, width: int = 4, *, bias=True):
        super().__init__()
        self.head = nn.Linear(width, 2, bias=bias)

    @classmethod
    def tiny(cls, width=1):
        return cls(width)

class Zoo:
    class Inner:
        make = staticmethod(lambda: Net(7))

def make_net(width, depth=1):
    return Net(width)

shared = Net(3)
_private = Net(9)
SIZES = {"a": 1}
"""


@pytest.mark.parametrize(
    ("name", "arguments", "width"),
    [
        ("Net", {}, 4),
        ("Net", {"width": 8, "bias": False}, 8),
        ("Net.tiny", {}, 1),
        ("Net.tiny", {"width": 5}, 5),
        ("Zoo.Inner.make", {}, 7),
        ("make_net", {"width": 6}, 6),
        ("shared", {}, 3),
        ("_private", {}, 9),
    ],
)
def test_each_kind_of_name_gives_a_module(
    make, name: str, arguments: dict[str, object], width: int
):
    assert make(CODE, name, **arguments).head.in_features == width


def test_an_instance_is_copied(make):
    first, second = make(CODE, "shared"), make(CODE, "shared")
    with torch.no_grad():
        first.head.weight.zero_()
    assert first is not second
    assert second.head.weight.abs().sum() > 0


def test_an_instance_that_cannot_be_copied_is_made_anew_by_the_next_load(make):
    source = (
        "class Net(nn.Linear):\n"
        "    def __deepcopy__(self, memo):\n"
        "        raise RuntimeError('no copies')\n\n"
        "shared = Net(2, 2)\n"
    )
    first, second = make(source, "shared"), make(source, "shared")
    assert first is not second


def test_without_a_name_the_candidates_are_listed_models_first(make):
    with pytest.raises(UsageError, match=r"^net\.py needs a name") as caught:
        make(CODE + "def _hidden(): pass\nfrom os.path import join\n", "")
    assert caught.value.hint == (
        "Give net.py:NAME with NAME one of: shared (module), Net (class), make_net (function)."
    )


def test_a_long_list_of_candidates_is_cut(make):
    source = "".join(f"def make{index}(): pass\n" for index in range(11))
    with pytest.raises(UsageError) as caught:
        make(source, "")
    assert caught.value.hint.endswith("make7 (function) and 3 more.")


def test_a_file_without_candidates_says_so(make):
    with pytest.raises(UsageError) as caught:
        make("", "")
    assert caught.value.hint.startswith("net.py has no module, module class or function")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("Nett", "There is no 'Nett' in net.py.", "Did you mean net.py:Net?"),
        ("Net.tinny", "There is no 'tinny' in net.py:Net.", "Did you mean net.py:Net.tiny"),
        (
            "Zoo.Inner.mak",
            "There is no 'mak' in net.py:Zoo.Inner.",
            "Did you mean net.py:Zoo.Inner.make?",
        ),
        (
            "Net.Net",
            "There is no 'Net' in net.py:Net.",
            "Give net.py:NAME with NAME one of: shared",
        ),
        ("zzz", "There is no 'zzz' in net.py.", "Give net.py:NAME with NAME one of: shared"),
    ],
)
def test_a_name_that_does_not_exist_lists_near_ones(make, name: str, message: str, hint: str):
    with pytest.raises(ModelError) as caught:
        make(CODE, name)
    assert str(caught.value) == message
    assert caught.value.hint.startswith(hint)


def test_a_value_that_is_no_model_is_refused(make):
    with pytest.raises(ModelError, match=r"^net\.py:SIZES is a dict, not a module"):
        make(CODE, "SIZES")


def test_an_instance_takes_no_arguments(make):
    with pytest.raises(UsageError, match="is a module already; it takes no arguments") as caught:
        make(CODE, "shared", width=3)
    assert "--arg width=..." in caught.value.hint


@pytest.mark.parametrize(
    ("name", "arguments", "message", "takes", "hint"),
    [
        (
            "Net",
            {"widht": 1},
            "with widht: got an unexpected keyword argument 'widht'",
            "(width: int = 4, *, bias=True)",
            "Did you mean --arg width=...?",
        ),
        (
            "make_net",
            {},
            "with no arguments: missing a required argument: 'width'",
            "(width, depth=1)",
            "Give --arg width=VALUE.",
        ),
        (
            "make_net",
            {"zzz": 1, "width": 1},
            "with zzz, width: got an unexpected keyword argument 'zzz'",
            "(width, depth=1)",
            "",
        ),
    ],
)
def test_wrong_arguments_say_which_there_are(
    make, name, arguments, message: str, takes: str, hint: str
):
    with pytest.raises(UsageError) as caught:
        make(CODE, name, **arguments)
    assert str(caught.value) == f"net.py:{name} cannot be called {message}. It takes {takes}."
    assert caught.value.hint == hint


def test_a_type_error_inside_the_factory_is_an_error_of_the_model(make):
    with pytest.raises(ModelError, match=r"^net\.py:make raised TypeError: .*, at net\.py:5\.$"):
        make("def make():\n    return len(3)\n", "make")


def test_a_factory_that_raises_is_quoted_with_its_line(make):
    source = "def make():\n    raise ValueError('width must be even')\n"
    with pytest.raises(
        ModelError, match=r"^net\.py:make raised ValueError: width must be even, at net\.py:5\.$"
    ):
        make(source, "make")


@pytest.mark.parametrize(
    ("returned", "described", "hint"),
    [
        ("None", "returned None", "Is a return missing at its end?"),
        ("nn.Linear(1, 1), {}", r"returned a tuple \(Linear, dict\)", "returns the module alone"),
        ("[1, 'a']", r"returned a list \(int, str\)", "builds the module"),
        ("nn.Linear", "returned the class Linear", "return Linear()"),
        ("{}", "returned a dict", "builds the module"),
        ("lambda x: x", "returned a function", "builds the module"),
    ],
)
def test_a_factory_that_returns_something_else_says_what(
    make, returned: str, described: str, hint: str
):
    with pytest.raises(ModelError, match=described) as caught:
        make(f"def make():\n    return {returned}\n", "make")
    assert hint in caught.value.hint


def test_a_compiled_module_and_a_parallel_one_are_taken_out_of_their_wrapper(make):
    source = (
        "def make():\n    return torch.compile(nn.DataParallel(nn.Linear(2, 2)), backend='eager')\n"
    )
    assert type(make(source, "make")) is nn.Linear


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_what_to_do(make):
    source = "def make():\n    return torch.jit.script(nn.Linear(2, 2))\n"
    with pytest.raises(ModelError, match="a TorchScript module") as caught:
        make(source, "make")
    assert "torch.export.save" in caught.value.hint
