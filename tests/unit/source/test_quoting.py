"""Errors of the user's code: type, message, file and line; no traceback."""

import pytest

from shipway.errors import ModelError, TensorError
from shipway.source.quoting import quote_errors, quote_text


def run(source: str, path: str, name: str = "make") -> None:
    code: dict[str, object] = {}
    exec(compile(source, path, "exec"), code)  # noqa: S102 - the test's own text
    with quote_errors(f"net.py:{name}"):
        code[name]()  # type: ignore[operator]


def test_the_last_line_of_the_users_code_is_named(project):
    source = (
        "import json\ndef inner():\n    return json.loads('{')\ndef make():\n    return inner()\n"
    )
    with pytest.raises(ModelError) as caught:
        run(source, str(project / "net.py"))
    text = str(caught.value)
    assert text.startswith("net.py:make raised JSONDecodeError: Expecting property name")
    assert text.endswith("at net.py:3.")


def test_an_error_without_words_is_only_named(project):
    with pytest.raises(ModelError, match=r"^net\.py:make raised AssertionError, at net\.py:2\.$"):
        run("def make():\n    assert False\n", str(project / "net.py"))


def _throw(context, error: Exception) -> None:
    context.__enter__()
    context.__exit__(type(error), error, None)


def test_without_a_line_of_the_users_no_place_is_named():
    error = ValueError("from afar")
    with pytest.raises(ModelError, match=r"^net\.py raised ValueError: from afar\.$"):
        _throw(quote_errors("net.py"), error)


def test_a_long_message_is_put_on_one_line_and_cut():
    text = quote_text("first\n\n   second " + "word " * 1000)
    assert text.startswith("first second word")
    assert text.endswith(" ...")
    assert len(text) <= 600


@pytest.mark.parametrize(
    ("code", "shown"), [("", "None"), ("3", "3"), ("'usage: x'", "'usage: x'")]
)
def test_leaving_the_program_is_caught(project, code: str, shown: str):
    with pytest.raises(ModelError, match=r"ended the program with sys\.exit") as caught:
        run(f"import sys\ndef make():\n    sys.exit({code})\n", str(project / "net.py"))
    assert f"sys.exit({shown}), at net.py:3" in str(caught.value)
    assert "__main__" in caught.value.hint


def test_ctrl_c_is_not_an_error_of_the_model(project):
    with pytest.raises(KeyboardInterrupt):
        run("def make():\n    raise KeyboardInterrupt\n", str(project / "net.py"))


def test_errors_of_shipway_pass_unchanged():
    error = TensorError("as it was", hint="this")
    with pytest.raises(TensorError) as caught, quote_errors("net.py"):
        raise error
    assert caught.value is error


def test_a_syntax_error_in_text_made_at_run_time_names_the_caller(project):
    with pytest.raises(ModelError, match=r"raised SyntaxError: .*, at net\.py:2\.$"):
        run("def make():\n    eval('1 +')\n", str(project / "net.py"))
