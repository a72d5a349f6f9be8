import json

import pytest

from shipway.errors import OutputError, UsageError
from shipway.report.diagnosis_files import write_diagnosis

NAMES = [
    "diagnosis.json",
    "diagnosis.csv",
    "diagnosis.html",
    "model-explorer.json",
    "netron.json",
]


def test_every_form_is_written_and_nothing_else(diagnoses, tmp_path):
    paths = write_diagnosis(diagnoses.make_diagnosis(), tmp_path / "out")
    assert [path.name for path in paths] == NAMES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)


def test_the_json_holds_the_diagnosis(diagnoses, tmp_path):
    diagnosis = diagnoses.make_diagnosis(local_reason="none")
    path = write_diagnosis(diagnosis, tmp_path)[0]
    assert json.loads(path.read_text()) == json.loads(json.dumps(diagnosis.to_json()))
    tensor = json.loads(path.read_text())["tensors"][9]
    assert tensor["channel_errors"] == [1e-3, 2e-3, 6e-3, 5e-4]


def test_nodes_reach_both_viewers(diagnoses, tmp_path):
    nodes = {"norm2": "node_norm2"}
    paths = write_diagnosis(diagnoses.make_diagnosis(), tmp_path, nodes=nodes)
    assert "node_norm2" in json.loads(paths[3].read_text())["results"]
    assert any(e["kind"] == "node" for e in json.loads(paths[4].read_text())["metrics"])


def test_a_file_in_the_place_of_the_folder_is_an_output_error(diagnoses, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError):
        write_diagnosis(diagnoses.make_diagnosis(), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_nothing_is_written_where_the_page_cannot_be_made(diagnoses, tmp_path):
    with pytest.raises(UsageError):
        write_diagnosis(diagnoses.make_diagnosis(precision="int8"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_utf8_can_be_written(diagnoses, tmp_path):
    paths = write_diagnosis(diagnoses.make_diagnosis(golden="torch (\udcff.pt2)"), tmp_path)
    assert json.loads(paths[0].read_text())["golden"] == "torch (\udcff.pt2)"
    assert all("udcff" in path.read_text() for path in paths if path.suffix == ".html")
