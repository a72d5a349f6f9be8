"""Inspection of real models, against figures that others published."""

import onnx
import onnx_ir as ir
from onnx import helper

from shipway.graph.inspecting import inspect_graph, inspect_model
from shipway.graph.weights import WeightFile


def resnet50():
    """Return ResNet-50 as its paper and torchvision have it (stride in the 3x3), without numbers."""
    inputs, nodes = [helper.make_tensor_value_info("image", 1, ["n", 3, 224, 224])], []

    def conv(source, name, cin, cout, kernel, stride):
        inputs.append(helper.make_tensor_value_info(f"{name}.w", 1, [cout, cin, kernel, kernel]))
        pads = [kernel // 2] * 4
        node = helper.make_node(
            "Conv", [source, f"{name}.w"], [name], strides=[stride] * 2, pads=pads
        )
        nodes.append(node)
        return name

    last = conv("image", "stem", 3, 64, 7, 2)
    nodes.append(
        helper.make_node(
            "MaxPool", [last], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        )
    )
    last, width = "pool", 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            main = conv(last, f"{name}.a", width, inner, 1, 1)
            main = conv(main, f"{name}.b", inner, inner, 3, stride)
            main = conv(main, f"{name}.c", inner, 4 * inner, 1, 1)
            if not block:
                last = conv(last, f"{name}.d", width, 4 * inner, 1, stride)
            nodes.append(helper.make_node("Add", [main, last], [f"{name}.sum"]))
            last, width = f"{name}.sum", 4 * inner
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    inputs.append(helper.make_tensor_value_info("fc.w", 1, [1000, 2048]))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w"], ["y"], transB=1))
    output = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "resnet50", inputs, [output])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_resnet50_has_the_4_089_gmacs_that_torchvision_publishes() -> None:
    found = inspect_graph(resnet50(), sizes={"n": 1})
    assert found.counting.counted == found.counting.nodes
    assert found.counting.macs == 4_089_184_256


def test_squeezenet_1_1_has_the_0_349_gmacs_that_torchvision_publishes(assets) -> None:
    counting = inspect_model(assets / "models" / "squeezenet_fp16.onnx").counting
    assert counting.counted == counting.nodes
    assert counting.macs == 349_151_936


def test_a_dynamic_export_counts_like_the_static_one_at_its_sizes(assets) -> None:
    static = inspect_model(assets / "models" / "yunet_n_640.onnx").counting
    sizes = {"batch": 1, "height": 640, "width": 640}
    dynamic = inspect_model(assets / "models" / "yunet_n_dynamic.onnx", sizes=sizes).counting
    assert dynamic.counted == dynamic.nodes
    assert (dynamic.macs, dynamic.flops) == (static.macs, static.flops)


def test_every_model_is_described_without_reading_its_weights(assets, monkeypatch) -> None:
    read = WeightFile.read

    def read_little(self, offset, size_bytes):
        assert size_bytes <= 8192
        return read(self, offset, size_bytes)

    monkeypatch.setattr(WeightFile, "read", read_little)
    for path in sorted((assets / "models").glob("*.onnx")):
        found = inspect_model(path)
        proto = onnx.load(path, load_external_data=False)
        assert found.nodes >= len(proto.graph.node)
        assert found.counting.counted + sum(gap.count for gap in found.counting.gaps) == (
            found.counting.nodes
        )
        assert all(problem.startswith("ONNX has no operator") for problem in found.problems)
        found.to_json()


def test_external_data_of_gigabytes_are_never_read(tmp_path, monkeypatch) -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[25_000, 25_000], data_location=1)
    size_bytes = 25_000 * 25_000 * 4
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(size_bytes))):
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "big",
        [helper.make_tensor_value_info("x", 1, ["n", 25_000])],
        [helper.make_tensor_value_info("y", 1, None)],
        [tensor],
    )
    path = tmp_path / "big.onnx"
    path.write_bytes(
        helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
        ).SerializeToString()
    )
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size_bytes)  # a hole: takes no room on disk

    def refuse(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(WeightFile, "read", refuse)
    found = inspect_model(path)
    assert found.problems == ()
    assert found.weights.files[0].used_bytes == size_bytes
    assert repr(found.counting.macs) == "625000000*n"
