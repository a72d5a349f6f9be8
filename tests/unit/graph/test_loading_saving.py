"""Load and save: nothing of a model is lost, and no large weight passes through the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipway.errors import ModelError, OutputError
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.weights import SparseTensor, StoredTensor

LARGE = np.arange(4096, dtype=np.float32).reshape(64, 64)


def make_model():
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "small"], ["then"])],
        "then",
        [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["a"], then_branch=inner, else_branch=inner)
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'fc']")
    node.doc_string = "a node"
    graph = helper.make_graph(
        [
            node,
            helper.make_node("MatMul", ["a", "large"], ["b"], name="with space/and slash"),
            helper.make_node("Mul", ["b", "sparse"], ["d"]),
            helper.make_node("Twice", ["d"], ["y"], domain="mine"),
        ],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.float32(3), "small"),
            numpy_helper.from_array(LARGE, "large"),
            numpy_helper.from_array(LARGE.astype(np.int8), "unused"),
        ],
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 64])],
        sparse_initializer=[
            helper.make_sparse_tensor(
                numpy_helper.from_array(np.array([2, 3], np.float32), "sparse"),
                numpy_helper.from_array(np.array([1, 5], np.int64), "places"),
                [64],
            )
        ],
    )
    twice = helper.make_function(
        "mine",
        "Twice",
        ["i"],
        ["o"],
        [helper.make_node("Add", ["i", "i"], ["o"])],
        [helper.make_opsetid("", 20)],
    )
    model = helper.make_model(
        graph,
        functions=[twice],
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)],
        ir_version=10,
        producer_name="somebody",
        doc_string="a model",
    )
    model.metadata_props.add(key="author", value="me")
    model.training_info.add().algorithm.name = "adam"
    # Field 2000 of the model, 2001 of the graph, 2002 of a node: what a newer ONNX may add.
    model.MergeFromString(b"\x82\x7d\x03new")
    model.graph.MergeFromString(b"\x8a\x7d\x03new")
    model.graph.node[1].MergeFromString(b"\x92\x7d\x03new")
    return model


def canonical(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        entry.domain = entry.domain
    for part in (copy.graph.initializer, copy.graph.value_info, copy.opset_import):
        ordered = sorted(part, key=lambda one: one.SerializeToString())
        del part[:]
        part.extend(ordered)
    for tensor in copy.graph.initializer:
        if tensor.HasField("data_location") and tensor.data_location == TensorProto.DEFAULT:
            tensor.ClearField("data_location")
    return copy


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model with space.onnx"
    onnx.save(make_model(), path)
    return path


def test_everything_a_file_holds_comes_back(saved, tmp_path):
    target = tmp_path / "again.onnx"
    assert save_graph(load_graph(saved), target) == ()
    again = onnx.load(target)
    assert canonical(again) == canonical(onnx.load(saved))


def test_large_weights_stay_in_the_file_and_read_right(saved):
    model = load_graph(saved)
    weight = model.graph.initializers["large"].const_value
    assert isinstance(weight, StoredTensor)
    np.testing.assert_array_equal(weight.numpy(), LARGE)
    sparse = model.graph.initializers["sparse"].const_value
    assert isinstance(sparse, SparseTensor)
    assert sparse.numpy()[[1, 5]].tolist() == [2, 3]
    assert sparse.numpy().sum() == 5


def test_a_model_is_saved_over_itself(saved):
    model = load_graph(saved)
    save_graph(model, saved)
    save_graph(model, saved)
    np.testing.assert_array_equal(load_graph(saved).graph.initializers["large"].const_value, LARGE)


def test_external_data_goes_out_and_comes_in(saved, tmp_path):
    target = tmp_path / "out" / "m.onnx"
    assert save_graph(load_graph(saved), target, external_bytes=1) == ("m.onnx.data",)
    proto = onnx.load(target)
    np.testing.assert_array_equal(
        numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "large")), LARGE
    )
    back = tmp_path / "back.onnx"
    assert save_graph(load_graph(target), back) == ()
    assert canonical(onnx.load(back)) == canonical(onnx.load(saved))


@pytest.mark.parametrize("dtype", ["INT4", "UINT4", "BFLOAT16", "FLOAT8E4M3FN", "COMPLEX64"])
def test_every_dtype_keeps_its_bytes(dtype, tmp_path):
    kind = ir.DataType[dtype]
    raw = np.random.default_rng(0).integers(0, 100, int(4096 * kind.itemsize), np.uint8).tobytes()
    tensor = TensorProto(name="w", data_type=int(kind), dims=[4096], raw_data=raw)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", int(kind), [4096])],
        [tensor],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), path)
    model = load_graph(path)
    stored = model.graph.initializers["w"].const_value
    assert stored.tobytes() == raw
    expected = ir.serde.deserialize_tensor(tensor).numpy()
    np.testing.assert_array_equal(stored.numpy().view(np.uint8), expected.view(np.uint8))
    save_graph(model, tmp_path / "n.onnx")
    assert onnx.load(tmp_path / "n.onnx").graph.initializer[0].raw_data == raw


@pytest.mark.parametrize("end", [0, 1, 7, 100, 3000, -1, -20])
def test_a_truncated_file_is_an_error_that_names_it(saved, end):
    saved.write_bytes(saved.read_bytes()[:end])
    with pytest.raises(ModelError, match="model with space"):
        load_graph(saved)


def test_a_missing_data_file_is_named(saved, tmp_path):
    target = tmp_path / "m.onnx"
    save_graph(load_graph(saved), target, external_bytes=1)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"m\.onnx\.data.*absent"):
        load_graph(target)


def test_a_data_file_outside_the_folder_is_refused(saved, tmp_path):
    target = tmp_path / "m.onnx"
    save_graph(load_graph(saved), target, external_bytes=1)
    proto = onnx.load(target, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    onnx.save(proto, target)
    with pytest.raises(ModelError, match="outside the folder"):
        load_graph(target)


def test_unknown_fields_that_would_be_lost_are_refused(saved):
    proto = make_model()
    proto.graph.node[0].attribute[0].MergeFromString(b"\x92\x7d\x03new")
    onnx.save(proto, saved)
    with pytest.raises(ModelError, match="newer ONNX"):
        load_graph(saved)


def test_a_folder_that_cannot_be_written_leaves_nothing(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_graph(load_graph(saved), tmp_path / "file" / "m.onnx")


@pytest.mark.slow
def test_a_model_over_two_gigabytes_passes_through_a_small_process(tmp_path):
    data = tmp_path / "big.data"
    with data.open("wb") as stream:
        os.truncate(stream.fileno(), 9 * (256 << 20))
    names = [f"w{i}" for i in range(9)]
    tensors = []
    for i, name in enumerate(names):
        tensor = TensorProto(name=name, data_type=1, dims=[8192, 8192], data_location=1)
        for key, value in (("location", data.name), ("offset", i << 28), ("length", 256 << 20)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    graph = helper.make_graph(
        [helper.make_node("Sum", names, ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", 1, [8192, 8192])],
        tensors,
    )
    path = tmp_path / "big.onnx"
    onnx.save(helper.make_model(graph), path)
    code = (
        "import sys, pathlib\n"
        "from shipway.graph.loading import load_graph\n"
        "from shipway.graph.saving import save_graph\n"
        "save_graph(load_graph(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))\n"
        "print([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1])\n"
    )
    target = tmp_path / "copy" / "big.onnx"
    done = subprocess.run(
        [sys.executable, "-c", code, path, target], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 400_000
    assert Path(f"{target}.data").stat().st_size == 9 * (256 << 20)
