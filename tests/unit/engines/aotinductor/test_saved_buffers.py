"""The C++ of a debug build, read for what it saves: on text as torch 2.13 writes it."""

import pytest

from shipway.engines.aotinductor.saved_buffers import (
    ProgramNode,
    SavedBuffer,
    name_buffers,
    read_wrapper,
)


def save(phase, buffer, launch):
    return (
        f'    aoti_torch_save_tensor_handle({buffer}, "{buffer}", "{phase}_launch", "{launch}");\n'
    )


def kernel(number, name, reads=(), writes=()):
    """A call of a fused kernel between its saves."""
    const = [f"(const float*)({one}.data_ptr())" for one in reads]
    plain = [f"(float*)({one}.data_ptr())" for one in writes]
    saved = [*reads, *writes]
    return (
        f"    // [Provenance debug handles] {name}:{number}\n"
        + "".join(save("before", one, name) for one in saved)
        + f"    {name}({', '.join([*const, *plain])});\n"
        + "".join(save("after", one, name) for one in saved)
    )


def extern(number, name, call, saved=(), launch=""):
    """A call of an operator outside of Inductor."""
    launch = launch or name
    return (
        f"    // [Provenance debug handles] {name}:{number}\n"
        "    AtenTensorHandle buf9_handle;\n"
        + "".join(save("before", one, launch) for one in saved)
        + f"    AOTI_TORCH_ERROR_CODE_CHECK({name}({call}));\n"
        + "".join(save("after", one, launch) for one in saved)
    )


ALLOCATION = (
    "    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(2, int_array_0, int_array_1, "
    "cached_torch_dtype_float32, cached_torch_device_type_cpu, this->device_idx_, &buf0_handle));\n"
)


def test_what_a_kernel_writes_is_found_after_it():
    """Not what it only reads, and not before; an allocation is no write."""
    found = read_wrapper(ALLOCATION + kernel(1, "cpp_fused_relu_0", ["arg0_1"], ["buf0", "buf1"]))
    assert [(one.name, one.file) for one in found.shown] == [
        ("buf0", "aoti_torchafter_launch_cpp_fused_relu_0_buf0_cpu.pt"),
        ("buf1", "aoti_torchafter_launch_cpp_fused_relu_0_buf1_cpu.pt"),
    ]
    assert {one.kernel for one in found.shown} == {"cpp_fused_relu_0:1"}
    assert {one.op for one in found.shown} == {"cpp_fused_relu_0"}
    assert not found.hidden


def test_what_an_outer_operator_writes_into_or_returns():
    """`_out` names its buffer first; what is returned is found where the next kernel reads it."""
    text = extern(1, "aoti_torch_cpu_addmm_out", "buf0, bias, buf7, 1L", ["buf0"])
    text += extern(2, "aoti_torch_cpu_convolution", "buf0, w, 0, &buf3_handle", ["buf0"])
    text += kernel(3, "cpp_fused_relu_1", ["buf3"], ["buf4"])
    found = read_wrapper(text)
    assert [(one.name, one.op, one.file.split("_launch")[0]) for one in found.shown] == [
        ("buf0", "aoti_torch_cpu_addmm_out", "aoti_torchafter"),
        ("buf3", "aoti_torch_cpu_convolution", "aoti_torchbefore"),
        ("buf4", "cpp_fused_relu_1", "aoti_torchafter"),
    ]


def test_what_is_never_saved_is_told():
    """Attention behind a view: the next operator's arguments are saved without it."""
    text = extern(8, "aoti_torch_cpu_attention", "buf1, &buf5_handle", ["buf1"], "at::_ops::call")
    text += extern(9, "aoti_torch_cpu_addmm_out", "buf6, wrap(reinterpret(buf5, 2))", ["buf6"])
    found = read_wrapper(text)
    assert [one.name for one in found.shown] == ["buf6"]
    assert list(found.hidden) == ["buf5 of aoti_torch_cpu_attention:8"]
    assert "does not save" in found.hidden["buf5 of aoti_torch_cpu_attention:8"]


def test_outputs_are_known_by_their_position():
    """Also one that is returned by an operator and never saved; an input handed on is no buffer."""
    text = kernel(1, "cpp_fused_sin_0", ["arg0_1"], ["buf0"])
    text += extern(2, "aoti_torch_cpu_sort", "buf0, &buf1_handle", ["buf0"])
    text += "    output_handles[0] = buf1.release();\n    output_handles[1] = buf0.release();\n"
    text += "    output_handles[2] = arg0_1.release();\n"
    found = read_wrapper(text)
    assert [(one.name, one.output) for one in found.shown] == [("buf0", 1), ("buf1", 0)]
    assert not found.hidden


def test_a_buffer_written_twice_is_shown_twice():
    """Each time as that kernel left it; only the last one is the output."""
    text = kernel(1, "cpp_fused_sin_0", [], ["buf0"]) + kernel(2, "cpp_fused_cos_1", [], ["buf0"])
    found = read_wrapper(text + "    output_handles[0] = buf0.release();\n")
    assert [(one.kernel, one.output) for one in found.shown] == [
        ("cpp_fused_sin_0:1", None),
        ("cpp_fused_cos_1:2", 0),
    ]


def test_a_file_that_is_written_over_is_not_trusted():
    """The same kernel on the same buffer twice: the file holds the last state."""
    text = kernel(1, "cpp_fused_sin_0", [], ["buf0"]) + kernel(2, "cpp_fused_sin_0", [], ["buf0"])
    found = read_wrapper(text)
    assert not found.shown
    assert all("uses again" in why for why in found.hidden.values())
    assert len(found.hidden) == 2


@pytest.mark.parametrize("text", ["", "// nothing of the kind\n"])
def test_a_text_without_kernels_shows_nothing(text):
    """No error: the caller says what that means."""
    found = read_wrapper(text)
    assert not found.shown
    assert not found.hidden


NODES = (
    ProgramNode("relu", ("x",), "float32", 512),
    ProgramNode("flatten", ("relu",), "float32", 512),
    ProgramNode("layer_norm", ("flatten",), "float32", 512),
    ProgramNode("linear", ("layer_norm",), "float32", 128),
    ProgramNode("softmax", ("linear",), "float32", 128),
    ProgramNode("index", ("i",), "int64", 5),
)


def buffers(kernel_name, *names):
    return [SavedBuffer(name, kernel_name, f"{name}.pt") for name in names]


def test_a_kernel_ends_in_what_none_of_its_nodes_reads():
    """The buffer of that size is its value, the statistics beside it are not."""
    held = buffers("norm:3", "buf5", "buf6", "buf7")
    forms = {"buf5.pt": ("float32", 8), "buf6.pt": ("float32", 8), "buf7.pt": ("float32", 512)}
    names, covers = name_buffers(
        held, {"norm:3": ["layer_norm", "flatten", "relu", "gone"]}, NODES, forms
    )
    assert names == {held[2]: "layer_norm"}
    assert covers[held[2]] == ("relu", "flatten")
    assert covers[held[0]] == ("relu", "flatten", "layer_norm")


def test_a_kernel_that_prepares_an_operand_does_not_take_the_name():
    """Both carry it; the last one computes it, though the sizes are the same."""
    first, second = buffers("prepare:1", "buf0")[0], buffers("extern:12", "buf1")[0]
    forms = {"buf0.pt": ("float32", 128), "buf1.pt": ("float32", 128)}
    kernels = {"extern:12": ["linear"], "prepare:1": ["linear"]}
    names, _ = name_buffers([first, second], kernels, NODES, forms)
    assert names == {second: "linear"}


def test_what_is_not_certain_has_no_name():
    """Two buffers of the same form; a form that fits none; a node of another type with as many."""
    held = buffers("soft:2", "buf1", "buf2", "buf3")
    forms = {"buf1.pt": ("float32", 128), "buf2.pt": ("float32", 128), "buf3.pt": ("float32", 5)}
    names, _ = name_buffers(held, {"soft:2": ["softmax", "index"]}, NODES, forms)
    assert names == {}
    forms["buf3.pt"] = ("int64", 5)
    names, _ = name_buffers(held, {"soft:2": ["softmax", "index"]}, NODES, forms)
    assert names == {held[2]: "index"}
