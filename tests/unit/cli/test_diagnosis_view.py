from dataclasses import replace

from shipway.cli.diagnosis_view import diagnosis_lines, show_diagnosis


def lines(diagnosis, **options):
    return [text for text, _ in diagnosis_lines(diagnosis, **options)]


def test_the_first_line_is_the_verdict_and_the_last_ones_the_coverage(diagnoses, capsys):
    show_diagnosis(diagnoses.make_diagnosis())
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("FAULT in layers.3.norm2, aten.layer_norm.default 'norm2' (net.py")
    assert shown[2] == "1. approximation in layers.3.norm2, aten.layer_norm.default 'norm2'"
    assert [line.split("  ")[0] for line in shown[-5:]] == [
        "compared", "not compared", "not shown", "reading", "local errors",
    ]  # fmt: skip


def test_there_is_one_line_a_tensor_with_its_columns_aligned(diagnoses):
    shown = lines(diagnoses.make_diagnosis(), limit=None)
    start = next(i for i, line in enumerate(shown) if line.startswith("order"))
    table = shown[start : start + 25]
    assert table[1 + 9].split()[:3] == ["9", "FAULT", "aten.layer_norm.default"]
    columns = {line.index("float32[1,4,8]") for line in table[1:]}
    assert columns == {table[0].index("type")}


def test_a_name_longer_than_any_column_moves_its_own_line_only(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    long = replace(diagnosis.tensors[8], golden="/" + "block/" * 30)
    tensors = (*diagnosis.tensors[:8], long, *diagnosis.tensors[9:])
    shown = lines(replace(diagnosis, tensors=tensors))
    rows = [line for line in shown if " float32[1,4,8] " in line]
    places = [row.index(" float32[1,4,8] ") for row in rows]
    assert len(set(places)) == 2
    assert max(len(line) for line in rows if "block" not in line) < 260


def test_different_inputs_are_the_first_thing_said(diagnoses):
    shown = lines(
        diagnoses.make_diagnosis(
            input_problems=("x: shape [1] is not [2]", "y: absent"), culprits=()
        )
    )
    assert shown[0].startswith("DIFFERENT INPUTS: x: shape [1] is not [2] (and 1 more).")
    assert shown[1] == "  and y: absent"


def test_many_faults_are_cut_short_unless_all_are_asked_for(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    many = replace(diagnosis, culprits=diagnosis.culprits * 30)
    headings = [line for line in lines(many) if ". approximation" in line]
    assert len(headings) == 8
    assert "and 22 more faults; --all shows them" in lines(many)
    assert len([line for line in lines(many, limit=None) if ". approximation" in line]) == 30


def test_what_a_terminal_obeys_is_shown_and_not_obeyed(diagnoses):
    diagnosis = diagnoses.make_diagnosis(golden="\x1b[31mred\nline")
    evil = replace(diagnosis.tensors[9], golden="a\x1b]0;title\x07b\nc", code="x\t= 1\r")
    culprit = replace(diagnosis.culprits[0], tensor=evil)
    tensors = (*diagnosis.tensors[:9], evil, *diagnosis.tensors[10:])
    shown = lines(replace(diagnosis, tensors=tensors, culprits=(culprit,)))
    assert all(line.isprintable() for line in shown)
    assert any("a\\x1b]0;title\\x07b\\nc" in line for line in shown)
