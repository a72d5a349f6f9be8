"""Ascend dumps, written to the contract, come back exactly; what is damaged is named."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.ascend import detect_ascend, read_ascend
from shipway.trace.importing.registry import detect_format, import_dump


def _bits(value: np.ndarray) -> bytes:
    return np.ascontiguousarray(value).tobytes()


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64",
     "uint32", "uint64", "bool"],
)  # fmt: skip
def test_every_type_comes_back_bit_for_bit(ascend, dumped, random_values, dtype):
    value = random_values((2, 3, 4), dtype)
    ascend.add("Mul", "mul_1", dumped(value, original=value.shape))
    trace = import_dump(ascend.folder, None)
    found = trace.read("mul_1:output:0")
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert _bits(found) == _bits(value)


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn"])
def test_8_bit_floats_come_back_as_the_float32_they_are(ascend, dumped, random_values, dtype):
    value = random_values((5, 7), dtype)
    ascend.add("Cast", "cast", dumped(value, original=value.shape))
    found = import_dump(ascend.folder, None).read("cast:output:0")
    assert found.dtype == np.float32
    assert np.array_equal(found, value.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("format_name", "shape"),
    [
        ("NC1HWC0", (2, 20, 3, 5)),
        ("NC1HWC0", (1, 16, 1, 1)),
        ("FRACTAL_NZ", (3, 17, 33)),
        ("FRACTAL_NZ", (10,)),
        ("FRACTAL_Z", (18, 5, 3, 3)),
        ("FRACTAL_Z_3D", (4, 18, 2, 3, 1)),
        ("NDC1HWC0", (1, 20, 2, 3, 4)),
        ("NHWC", (1, 3, 4, 5)),
    ],
)
def test_layouts_come_back_as_the_model_has_them(
    ascend, dumped, pack, random_values, format_name, shape
):
    value = random_values(shape, "float16")
    ascend.add("Conv2D", "conv1", dumped(pack(value, format_name), format_name, original=shape))
    trace = import_dump(ascend.folder, None)
    assert _bits(trace.read("conv1:output:0")) == _bits(value)
    assert trace.record("conv1:output:0").tap.layout == format_name
    assert trace.header.precision == "f16"


def test_a_whole_run(ascend, dumped, pack, random_values):
    """Inputs, outputs, buffers and the order of time; what one operator read, another one wrote."""
    x, weight = random_values((1, 3, 4, 4), "float32", 1), random_values((8, 3, 3, 3), "float32", 2)
    conv, relu = (
        random_values((1, 8, 4, 4), "float32", 3),
        random_values((1, 8, 4, 4), "float32", 4),
    )
    ascend.add("Data", "x", dumped(x, "NCHW", x.shape))
    packed = dumped(pack(conv, "NC1HWC0", 8), "NC1HWC0", conv.shape)
    ascend.add(
        "Conv2D", "conv1", packed,
        inputs=[dumped(x, "NCHW", x.shape), dumped(pack(weight, "FRACTAL_Z", 8), "FRACTAL_Z", weight.shape)],
        buffers=[b"b" * 13],
    )  # fmt: skip
    ascend.add("Relu", "relu", dumped(relu, "NCHW", relu.shape), inputs=[packed])
    trace = import_dump(ascend.folder, None)
    names = [record.name for record in trace.records]
    assert names == ["x:output:0", "conv1:input:1", "conv1:output:0", "relu:output:0"]
    assert trace.header.left_out == 2
    assert not trace.header.untapped
    for name, value in zip(names, [x, weight, conv, relu], strict=True):
        assert _bits(trace.read(name)) == _bits(value)
    assert trace.record("conv1:output:0").tap.op == "Conv2D"
    assert trace.record("x:output:0").tap.kind == "input"
    assert list(trace.header.inputs) == ["x"]
    assert trace.header.complete


def test_names_of_the_model_are_kept_in_both_forms(ascend, dumped):
    value = np.ones((1, 2), np.float32)
    ascend.add(
        "Relu",
        "_layer1_layer1_0_relu_Relu",
        dumped(value),
        header_name="/layer1/layer1.0/relu/Relu",
    )
    ascend.add("Conv2D", "conv1conv2", dumped(value, origin="/conv2/Conv", origin_index=1))
    first, second = import_dump(ascend.folder, None).records
    assert first.name == "/layer1/layer1.0/relu/Relu:output:0"
    assert {"/layer1/layer1.0/relu/Relu", "_layer1_layer1_0_relu_Relu"} <= set(first.tap.names)
    assert second.tap.names[0] == "/conv2/Conv:1"


def test_scalars_and_empty_tensors(ascend, dumped):
    ascend.add("ReduceMean", "mean", dumped(np.float32(2.5).reshape(())))
    ascend.add("NonZero", "nonzero", dumped(np.zeros((0, 4), np.int64), original=(0, 4)))
    trace = import_dump(ascend.folder, None)
    assert trace.read("mean:output:0") == 2.5
    assert trace.read("nonzero:output:0").shape == (0, 4)


def test_a_name_too_long_for_a_file(ascend, dumped):
    value = np.arange(6, dtype=np.float32)
    long_name = "layer_" * 60
    path = ascend.add("Relu", "short", dumped(value))
    digits = str(int(hashlib.sha256(long_name.encode()).hexdigest(), 16) % 10**18)
    path.rename(path.with_name(digits))
    ascend.write("mapping.csv", f"{digits},Relu.{long_name}.3.7.1700000000000001\n")
    trace = import_dump(ascend.folder, None)
    assert np.array_equal(trace.read(f"{long_name}:output:0"), value)


def test_digits_without_a_mapping_are_a_problem(ascend, dumped):
    ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    ascend.write("123456789012345678", b"x" * 50)
    assert "mapping.csv" in import_dump(ascend.folder, None).header.untapped["123456789012345678"]


def test_files_named_with_a_task_type(ascend, dumped):
    value = np.ones(3, np.float32)
    path = ascend.add("Relu", "relu", dumped(value))
    path.rename(path.with_name("Relu.relu.3.7.1700000000000001.4.12.0"))
    (ascend.folder / "Relu.old.5.1700000000000002").write_bytes(
        (ascend.folder / "Relu.relu.3.7.1700000000000001.4.12.0").read_bytes()
    )
    names = [record.name for record in import_dump(ascend.folder, None).records]
    assert names == ["relu:output:0", "old:output:0"]


def test_what_is_damaged_does_not_stop_the_rest(ascend, dumped, pack):
    """Half of the dump is cut short, of another kind or unknown: the reasons are listed."""
    good = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    ascend.add("Relu", "good", dumped(good, "NCHW", good.shape))
    tail = ascend.add("Relu", "tail", dumped(good, "NCHW"), dumped(good + 1, "NCHW"))
    tail.write_bytes(tail.read_bytes()[:-10])
    head = ascend.add("Relu", "head", dumped(good))
    head.write_bytes(head.read_bytes()[:20])
    ascend.add("Relu", "empty", dumped(good)).write_bytes(b"")
    ascend.write(
        "Relu.text.9.7.1700000000009999",
        b"\x20" + b"\0" * 7 + b"this is not protobuf at all, is it?",
    )
    ascend.add("Rnn", "lstm", dumped(good, "FRACTAL_ZN_LSTM", good.shape))
    ascend.add("Fft", "fft", dumped(good.astype(np.complex64)))
    grouped = dumped(
        pack(np.ones((16, 4, 3, 3), np.float32), "FRACTAL_Z"), "FRACTAL_Z", (16, 4, 3, 3), groups=4
    )
    ascend.add("Conv2D", "depthwise", grouped)
    ascend.write("Opdebug.Node_OpDebug.1.7.1700000000000500", b"overflow")
    ascend.write("readme.txt", "hello")
    trace = import_dump(ascend.folder, None)
    assert [record.name for record in trace.records] == ["good:output:0", "tail:output:0"]
    assert np.array_equal(trace.read("tail:output:0"), good)
    why = trace.header.untapped
    assert len(why) == 9
    assert "last 10 bytes" in why["tail:output:1"]
    assert "truncated" in why[head.name]
    assert "FRACTAL_ZN_LSTM" in why["lstm:output:0"]
    assert "complex64" in why["fft:output:0"]
    assert "4 groups" in why["depthwise:output:0"]
    assert "overflow" in why["Opdebug.Node_OpDebug.1.7.1700000000000500"]
    assert "readme.txt" in why


def test_a_dump_with_nothing_that_can_be_read(ascend, dumped):
    path = ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TensorError, match=r"relu:output:0: .* its last 1 bytes"):
        import_dump(ascend.folder, None)


def test_a_size_that_does_not_hold_the_shape(ascend, dumped):
    value = np.ones((2, 2), np.float32)
    ascend.add("Relu", "small", dumped(value, dtype="float64"))
    ascend.add("Relu", "good", dumped(value))
    trace = import_dump(ascend.folder, None)
    assert "needs 32 bytes, and 16 are dumped" in trace.header.untapped["small:output:0"]


def test_the_folder_above_one_run_and_above_several(ascend, dumped, tmp_path):
    ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    assert detect_format(tmp_path) == "ascend"
    assert len(import_dump(tmp_path / "dump", None).records) == 1
    other = ascend.folder.parent / "1"
    other.mkdir()
    (other / ascend.written[0].name).write_bytes(ascend.written[0].read_bytes())
    with pytest.raises(UsageError, match="dumps of 2 runs") as caught:
        import_dump(tmp_path / "dump", None)
    assert str(ascend.folder) in caught.value.hint


def test_one_file_alone(ascend, dumped):
    path = ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    assert detect_ascend(path)
    assert [one.tap.name for one in read_ascend(path).tensors] == ["relu:output:0"]


def test_an_operator_that_ran_twice(ascend, dumped):
    ascend.add("Add", "loop", dumped(np.ones(3, np.float32)))
    ascend.add("Add", "loop", dumped(np.full(3, 2, np.float32)))
    trace = import_dump(ascend.folder, None)
    assert [record.name for record in trace.records] == ["loop:output:0", "loop:output:0#2"]
    assert trace.read("loop:output:0#2")[0] == 2


_HEADER = (
    "Input/Output,Index,Data Size,Data Type,Format,Shape,Max Value,Min Value,Avg Value,Count,Nan Count,"
    "Negative Inf Count,Positive Inf Count\n"
)


def test_statistics_in_place_of_values(ascend):
    """As dump_task.cpp of the runtime writes them."""
    ascend.write(
        "Conv2D.conv1.3.7.1700000000000001.csv",
        _HEADER + "Input,0,640000,DT_FLOAT,NHWC,4x50x50x16,1.99999,1,1.50004,160000,0,0,0\n"
        "Output,0,64,DT_FLOAT16,NC1HWC0,1x1x1x2x16,nan,-3.5,inf,32,2,1,3\n"
        "Output,1,64,DT_HIFLOAT8,ND,64,1,0,0.5,64,0,0,0\nOutput,2,64,DT_FLO",
    )
    trace = import_dump(ascend.folder, None)
    first, second = trace.records
    assert first.name == "conv1:input:0"
    assert (first.dtype, first.shape, first.file) == ("float32", (4, 50, 50, 16), None)
    assert first.facts == {
        "max": 1.99999,
        "min": 1,
        "mean": 1.50004,
        "nan_count": 0,
        "inf_count": 0,
    }
    assert second.facts == {"min": -3.5, "nan_count": 2, "inf_count": 4}
    assert second.tap.layout == "NC1HWC0"
    assert [name.rpartition(" ")[2] for name in trace.header.untapped] == ["4", "5"]
    with pytest.raises(TensorError, match="only statistics"):
        trace.read("conv1:input:0")


def test_statistics_with_another_first_line(ascend, dumped):
    ascend.write("Relu.relu.3.7.1700000000000001.csv", "a,b\n1,2\n")
    ascend.add("Relu", "good", dumped(np.ones(3, np.float32)))
    assert "first line" in next(iter(import_dump(ascend.folder, None).header.untapped.values()))


def test_what_msaccucmp_converted(ascend):
    value = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    ascend.folder.mkdir(parents=True)
    np.save(ascend.folder / "Relu.relu.3.7.1700000000000002.output.0.1x3x4.npy", value)
    np.save(ascend.folder / "Conv2D.conv.2.7.1700000000000001.output.1.npy", value + 1)
    np.save(ascend.folder / "Conv2D.conv.2.7.1700000000000001.input.0.npy", value + 2)
    trace = import_dump(ascend.folder, None)
    assert [record.name for record in trace.records] == [
        "conv:input:0",
        "conv:output:1",
        "relu:output:0",
    ]
    assert np.array_equal(trace.read("relu:output:0"), value)


def test_the_trace_can_be_kept_and_is_not_written_over(ascend, dumped, tmp_path):
    ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    import_dump(ascend.folder, tmp_path / "trace")
    assert (tmp_path / "trace" / "trace.json").is_file()
    with pytest.raises(UsageError):
        import_dump(ascend.folder, tmp_path / "trace")


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 1),
)
def test_no_damage_is_more_than_a_problem(ascend, dumped, pack, changes, cut):
    """Any bytes in the header, any length: a reason, never another error."""
    value = np.arange(40, dtype=np.float32).reshape(1, 20, 2, 1)
    path = ascend.add(
        "Conv2D", "conv", dumped(pack(value, "NC1HWC0"), "NC1HWC0", value.shape, origin="a"), inputs=[dumped(value)]
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    for place, byte in changes:
        data[place % header] = byte
    path.write_bytes(data[: len(data) if cut > 0.7 else int(cut * len(data))])
    dump = read_ascend(path)
    assert dump.problems or dump.tensors or cut <= 0.7 or changes
    for tensor in dump.tensors:
        with contextlib.suppress(TensorError):
            tensor.load()
