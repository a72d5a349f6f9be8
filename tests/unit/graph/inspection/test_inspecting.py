"""What an inspection finds of models, valid and not."""

import json

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from shipway.errors import ModelError, UsageError
from shipway.graph.inspecting import inspect_graph, inspect_model

HEAD = '<ir_version: 10, opset_import: ["": 20, "npu": 2], producer_name: "tester"> '


@pytest.fixture
def save(tmp_path):
    """Write a model in text form, unchecked, and return its path."""

    def write(text, weights=None, head=HEAD, external=False):
        proto = onnx.parser.parse_model(head + text)
        for name, array in (weights or {}).items():
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        path = tmp_path / "a model.onnx"
        onnx.save(
            proto, path, save_as_external_data=external, location="weights.bin", size_threshold=0
        )
        return path

    return write


TEXT = """g (float[batch,3,8,8] image, float scale) => (float[batch,4,6,6] y) <float scale = {2.0}>
    { [c] a = Conv(image, w) [o] b = npu.Odd(a, table) y = Mul(b, scale) }"""
WEIGHTS = {
    "w": np.zeros((4, 3, 3, 3), np.float32),
    "table": np.zeros((100, 100), np.float16),
}


def test_a_model_is_described(save) -> None:
    found = inspect_model(save(TEXT, WEIGHTS))
    assert found.problems == ()
    assert found.header["producer"] == "tester"
    assert found.dims == {"batch": ("image axis 0",)}
    image, scale = found.inputs
    assert (image.type, image.shape, image.default) == ("float32", ("batch", 3, 8, 8), False)
    assert scale.default
    assert found.outputs[0].shape == ("batch", 4, 6, 6)
    assert found.outputs[0].inferred is None
    domains = {one.domain: one for one in found.domains}
    assert (domains["ai.onnx"].version, domains["ai.onnx"].kind) == (20, "onnx")
    assert (domains["npu"].kind, domains["npu"].custom) == ("custom", ("Odd",))
    assert found.nodes == 3
    assert found.operators[0].type == "Conv"
    uses = {one.type: one for one in found.operators}
    assert (uses["Conv"].weight_bytes, uses["Odd"].weight_bytes) == (432, 20_000)
    assert (found.weights.count, found.weights.size_bytes) == (3, 20_436)
    assert [one.name for one in found.weights.largest] == ["table", "w", "scale"]
    assert found.weights.largest[0].readers == ("Odd",)
    assert repr(found.counting.macs) == "3888*batch"
    json.dumps(found.to_json(), allow_nan=False)


def test_the_inferred_shape_stands_beside_a_declared_one_that_is_false(save) -> None:
    path = save("g (float[n,3] x) => (float[1,3] y) { y = Relu(x) }")
    assert inspect_model(path).outputs[0].inferred == ("n", 3)


def test_an_unknown_size_is_refused_with_those_there_are(save) -> None:
    with pytest.raises(UsageError, match=r"no dynamic dimension .bach.\. Nearest: batch"):
        inspect_model(save(TEXT, WEIGHTS), sizes={"bach": 3})


def test_subgraphs_functions_and_constants_are_counted_apart() -> None:
    model = ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["": 20, "mine": 1]>
        g (bool c, float[3] x) => (y) {
            [pick] a = If (c) <then_branch = t () => (float[3] a) { a = mine.act(x) },
                    else_branch = e () => (float[3] b) { k = Constant <value = float[3] {1, 2, 3}> ()
                                                         b = Add(x, k) }>
            y = mine.act(a) }
        <domain: "mine", opset_import: ["": 20]>
        act (x) => (y) { y = Relu(x) }""")
    found = inspect_graph(model)
    uses = {one.type: one for one in found.operators}
    assert (uses["act"].nodes, uses["act"].in_subgraphs) == (2, 1)
    assert (uses["Relu"].nodes, uses["Relu"].in_functions) == (1, 1)
    assert (found.functions[0].name, found.functions[0].nodes, found.functions[0].calls) == (
        "mine::act",
        1,
        2,
    )
    assert [(one.owner, one.attribute, one.nodes) for one in found.subgraphs] == [
        ("pick", "then_branch", 1),
        ("pick", "else_branch", 2),
    ]
    assert found.weights.size_bytes == 12
    assert next(one for one in found.domains if one.domain == "mine").kind == "functions"


def test_a_model_in_memory_stays_as_it_is() -> None:
    model = ir.from_onnx_text(
        HEAD + "g (float[?,3] x) => (y) { k = Constant <value_float = 1.0> () y = Add(x, k) }"
    )
    before = ir.to_proto(model).SerializeToString()
    inspect_graph(model, sizes={"x[0]": 4})
    assert ir.to_proto(model).SerializeToString() == before


def test_external_data_is_listed(save) -> None:
    found = inspect_model(save(TEXT, WEIGHTS, external=True))
    (file,) = found.weights.files
    assert (file.path, file.problem) == ("weights.bin", "")
    assert file.used_bytes <= file.size_bytes


def test_a_model_whose_external_data_are_absent_is_described(save) -> None:
    path = save(TEXT, WEIGHTS, external=True)
    whole = inspect_model(path)
    (path.parent / "weights.bin").unlink()
    found = inspect_model(path)
    assert "weights.bin, which is absent" in found.problems[0]
    (file,) = found.weights.files
    assert (file.size_bytes, file.problem) == (None, "the file is absent")
    assert found.weights.size_bytes == whole.weights.size_bytes
    assert found.counting.macs == whole.counting.macs


def test_external_data_that_end_too_early_or_lie_elsewhere_are_named(save) -> None:
    path = save(TEXT, WEIGHTS, external=True)
    (path.parent / "weights.bin").write_bytes(b"short")
    assert "ends before byte" in inspect_model(path).weights.files[0].problem
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(proto.SerializeToString())
    assert "outside the folder" in inspect_model(path).weights.files[0].problem


INVALID = {
    "a cycle": (
        "g (float[3] x) => (y) { [p] a = Add(x, b) [q] b = Relu(a) y = Neg(b) }",
        "cycle: ",
    ),
    "order": ("g (float[3] x) => (y) { [p] y = Neg(a) a = Relu(x) }", "'p' (Neg) reads 'a'"),
    "a value from nowhere": ("g (float[3] x) => (y) { y = Neg(b) }", "which nothing computes"),
    "two values of one name": (
        "g (float[3] x) => (y) { a = Neg(x) [q] a = Exp(x) y = Relu(a) }",
        "'a' is computed twice, again by 'q' (Exp)",
    ),
    "an unknown operator": ("g (float[3] x) => (y) { [p] y = Frobnicate(x) }", "no operator Frob"),
    "an operator of later": (
        "g (float[3] x) => (y) { y = Swish(x) }",
        "no operator Swish in opset 20",
    ),
    "a domain that is not imported": (
        "g (float[3] x) => (y) { [p] y = tpu.Odd(x) }",
        "'p' is tpu::Odd",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_model_is_described_and_its_fault_named(save, name) -> None:
    text, problem = INVALID[name]
    found = inspect_model(save(text))
    assert any(problem in one for one in found.problems)
    assert found.nodes == text.count("= ") - text.count("[3] =")
    assert found.inputs[0].shape == (3,)


def test_the_nodes_of_a_cycle_are_named_in_order(save) -> None:
    found = inspect_model(save(INVALID["a cycle"][0]))
    (problem,) = [one for one in found.problems if "cycle" in one]
    assert (
        "Add 'p' -> Relu 'q' -> Add 'p'" in problem or "Relu 'q' -> Add 'p' -> Relu 'q'" in problem
    )


def test_nodes_out_of_order_are_counted_all_the_same(save) -> None:
    assert inspect_model(save(INVALID["order"][0])).counting.flops == 6


def test_a_model_without_opset_is_taken_as_one_of_the_newest(save) -> None:
    path = save(
        "g (float[2,3] x, float[3,4] w) => (y) { y = MatMul(x, w) }", head="<ir_version: 8> "
    )
    found = inspect_model(path)
    assert "names no opset" in found.problems[0]
    assert found.counting.macs == 24


def test_damaged_numbers_of_a_shape_are_put_aside(save) -> None:
    path = save("g (float[4] x) => (y) { y = Reshape(x, to) }", {"to": np.array([2, 2])})
    proto = onnx.load(path)
    proto.graph.initializer[0].raw_data = b"123"
    path.write_bytes(proto.SerializeToString())
    found = inspect_model(path)
    assert "holds 3 bytes, not 16" in found.problems[0]
    assert found.counting.counted == 1


def test_absurd_sizes_are_shown_and_never_allocated(save) -> None:
    path = save("g (float[9223372036854775807,4] x) => (y) { y = Relu(x) }")
    assert inspect_model(path).counting.flops == 4 * (2**63 - 1)


def spoil_name(proto) -> None:
    proto.graph.node[0].name = "spoil"


def drop_branch(proto) -> None:
    del proto.graph.node[0].attribute[0]


def raise_opset(proto) -> None:
    proto.opset_import[0].version = 2**40


def remove_dtype(proto) -> None:
    proto.graph.initializer[0].data_type = 0


def change_attribute_type(proto) -> None:
    proto.graph.node[1].attribute[0].type = onnx.AttributeProto.INTS


@pytest.mark.parametrize(
    "damage",
    [spoil_name, drop_branch, raise_opset, remove_dtype, change_attribute_type],
)
def test_damage_of_every_kind_is_survived(save, damage) -> None:
    text = """g (bool c, float[3] x) => (y) {
        a = If (c) <then_branch = t () => (float[3] d) { d = Add(x, w) },
                    else_branch = e () => (float[3] f) { f = Exp(x) }>
        k = Constant <value_float = 2.0> () y = Mul(a, k) }"""
    path = save(text, {"w": np.zeros(3, np.float32)})
    proto = onnx.load(path)
    damage(proto)
    path.write_bytes(proto.SerializeToString().replace(b"spoil", b"\xff\xfe\xfd\xfc\xfb"))
    found = inspect_model(path)
    assert {one.type for one in found.operators} >= {"If", "Constant", "Mul"}
    json.dumps(found.to_json(), allow_nan=False)


def test_a_name_that_is_no_text_is_a_problem(save) -> None:
    path = save("g (float[3] x) => (y) { [spoil] y = Relu(x) }")
    path.write_bytes(path.read_bytes().replace(b"spoil", b"\xff\xfe\xfd\xfc\xfb"))
    assert inspect_model(path).problems == (
        "The file is damaged: names or other texts that are no UTF-8: 1.",
    )


@pytest.mark.parametrize("content", [b"", b"hello, this is no model at all", b"\x08"])
def test_what_is_no_model_is_refused(tmp_path, content) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        inspect_model(path)


def test_a_model_with_an_overload_of_text_and_sparse_weights(tmp_path) -> None:
    model = onnx.parser.parse_model(HEAD + "g (float[2] x) => (y) { y = Relu(x) }")
    model.graph.initializer.append(onnx.helper.make_tensor("words", 8, [2], [b"ab", b"cde"]))
    values = onnx.helper.make_tensor("thin", 1, [1], [3.0])
    indices = onnx.helper.make_tensor("thin_indices", 7, [1], [5])
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [10]))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    found = inspect_model(path)
    assert {one.type: one.count for one in found.weights.dtypes} == {"string": 1, "float32": 1}
