"""`shipway graph diff` as a process."""

import json

import onnx
import onnx.parser
import pytest

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y) {
  [first] h = LeakyRelu<alpha = 0.25>(x)
  g = Neg(h)
  k = Abs(g)
  m = Exp(k)
  y = Sqrt(m)
}"""


@pytest.fixture
def write(tmp_path):
    def run(name, text):
        path = tmp_path / f"{name} model.onnx"
        proto = onnx.parser.parse_model(text)
        proto.graph.node[0].name = f"/a b/{proto.graph.node[0].name}"
        onnx.save(proto, path)
        return path

    return run


def test_equal_models_exit_with_0(shipway, write):
    done = shipway("graph", "diff", write("a", TEXT), write("b", TEXT))
    assert (done.returncode, done.stdout) == (0, "equal: nodes 5 equal\n")


def test_a_difference_is_shown_with_what_is_around_it(shipway, write):
    other = TEXT.replace("0.25", "0.5").replace("k = Abs(g)", "k = Abs(g)\n  e = Exp(k)")
    other = other.replace("m = Exp(k)", "m = Exp(e)")
    done = shipway("graph", "diff", write("a", TEXT), write("b", other), "--context", "1")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "different: nodes 3 equal, 2 changed, 1 added",
        "",
        "operator  before  after",
        "Exp            1      2",
        "",
        "main graph",
        "@@ node 1 of 6",
        "~ h = LeakyRelu(x) {alpha=0.5}",
        "      alpha: 0.25 -> 0.5",
        "  g = Neg(h)",
        "  k = Abs(g)",
        "+ e = Exp(k)",
        "~ m = Exp(e)",
        "      input 0: k -> e",
        "  y = Sqrt(m)",
    ]


def test_names_are_told_or_left_out(shipway, write):
    paths = write("a", TEXT), write("b", TEXT.replace("first", "second"))
    done = shipway("graph", "diff", *paths)
    assert done.returncode == 1
    assert "  node /a b/first -> /a b/second" in done.stdout.splitlines()
    assert shipway("graph", "diff", *paths, "--computation").returncode == 0
    facts = json.loads(shipway("graph", "diff", *paths, "--json").stdout)
    assert (facts["equal"], facts["nodes"]) == (False, {"equal": 4, "renamed": 1})
    (node,) = facts["graphs"][0]["nodes"]
    assert node["details"][0]["kind"] == "name"


def test_colours_are_for_terminals(shipway, write):
    paths = write("a", TEXT), write("b", TEXT.replace("0.25", "0.5"))
    assert "\x1b" not in shipway("graph", "diff", *paths).stdout
    shown = shipway("graph", "diff", *paths, NO_COLOR="", FORCE_COLOR="1").stdout
    assert "\x1b[33m~ h = LeakyRelu(x) {alpha=0.5}\x1b[0m" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("MODEL", "absent.onnx"), 4, "No such file"),
        (("MODEL", "MODEL", "--context", "-1"), 2, "--context must be 0 or more"),
        (("MODEL",), 2, "requires an argument"),
    ],
)
def test_mistakes_are_named(shipway, write, words, code, message):
    path = write("a", TEXT)
    done = shipway("graph", "diff", *(path if word == "MODEL" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
