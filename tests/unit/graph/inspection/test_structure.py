"""What takes the bytes of a file, by its protobuf fields."""

import onnx
import onnx.parser
import pytest

from shipway.errors import ModelError
from shipway.graph.inspection.structure import scan_structure

TEXT = """<ir_version: 10, opset_import: ["": 20], producer_name: "tester">
    g (float[2,3] x) => (y) <float[3] w = {1, 2, 3}> { [one] a = Add(x, w) [two] y = Relu(a) }"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), found)
    return found


def by_name(fields):
    return {one.name: one for one in fields}


def test_every_byte_is_in_a_field(path) -> None:
    found = scan_structure(path, depth=64)

    def check(fields, whole) -> None:
        assert sum(one.size_bytes for one in fields) <= whole
        for one in fields:
            check(one.fields, one.size_bytes)

    assert sum(one.size_bytes for one in found.fields) == found.size_bytes == path.stat().st_size
    check(found.fields, found.size_bytes)


def test_fields_have_their_names_tags_types_and_first_content(path) -> None:
    fields = by_name(scan_structure(path).fields)
    version, producer, graph = fields["ir_version"], fields["producer_name"], fields["graph"]
    assert (version.number, version.wire_type, version.type) == (1, "varint", "int64")
    assert version.example == "10"
    assert producer.example == "tester"
    assert (graph.number, graph.type, graph.count) == (7, "GraphProto", 1)
    nodes = by_name(graph.fields)["node"]
    assert (nodes.count, nodes.type) == (2, "NodeProto")
    assert by_name(nodes.fields)["op_type"].example == "Add"
    assert by_name(by_name(graph.fields)["initializer"].fields)["data_type"].example in {
        "1",
        "1 (FLOAT)",
    }


def test_no_more_levels_are_opened_than_asked_for(path) -> None:
    assert all(not one.fields for one in scan_structure(path, depth=1).fields)


def test_a_field_of_a_newer_onnx_has_no_name(path) -> None:
    path.write_bytes(path.read_bytes() + b"\xf8\x3f\x07")  # tag 1023, varint 7
    field = by_name(scan_structure(path).fields)["?"]
    assert (field.number, field.type, field.size_bytes) == (1023, "unknown", 3)


def test_a_truncated_file_is_shown_up_to_where_it_ends(path) -> None:
    whole = path.read_bytes()
    # the graph is one field that ends too late: what stands before it is shown
    path.write_bytes(whole[: len(whole) // 2])
    found = scan_structure(path)
    assert "ir_version" in by_name(found.fields)
    assert "truncated" in found.problems[0]


def test_what_does_not_begin_like_a_protobuf_is_refused(tmp_path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"\x0f\xff\xff\xff")
    with pytest.raises(ModelError, match="no protobuf"):
        scan_structure(path)
