"""What AOTInductor saves around its kernels; the wrapper's lines are those that torch 2.13 generates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway.errors import UsageError
from shipway.trace.importing.registry import detect_format, import_dump

RELU, SOFTMAX = "cpp_fused_relu_0", "cpp_fused__softmax_1"
CONV, ADDMM = "aoti_torch_cpu_convolution", "aoti_torch_cpu_addmm_out"


def _save(when: str, kernel: str, *buffers: str) -> str:
    lines = (
        f'    aoti_torch_save_tensor_handle({b}, "{b}", "{when}_launch", "{kernel}");\n'
        for b in buffers
    )
    return "".join(lines)


def _launch(kernel: str, number: int, call: str, *buffers: str) -> str:
    return (
        f"    // [Provenance debug handles] {kernel}:{number}\n{_save('before', kernel, *buffers)}"
        f"    {call}\n{_save('after', kernel, *buffers)}"
    )


WRAPPER = (
    _launch(CONV, 1, f"AOTI_TORCH_ERROR_CODE_CHECK({CONV}(arg0_1, &temporary_reference(w.get()), &buf0_handle));", "arg0_1")
    + _launch(RELU, 2, f"{RELU}((const float*)(buf0.data_ptr()), (float*)(buf1.data_ptr()));", "buf0", "buf1")
    + _launch(ADDMM, 3, f"AOTI_TORCH_ERROR_CODE_CHECK({ADDMM}(buf2, buf1, buf1, reinterpret(fc_w), 1L, 1L));", "buf2", "buf1")
    + _launch(CONV, 4, f"AOTI_TORCH_ERROR_CODE_CHECK({CONV}(buf2, &temporary_reference(w.get()), &buf3_handle));", "buf2")
    + _launch(SOFTMAX, 5, f"{SOFTMAX}((const float*)(buf3.data_ptr()), (float*)(buf4.data_ptr()), (float*)(buf5.data_ptr()));",
              "buf3", "buf4", "buf5")
    + _launch(CONV, 6, f"AOTI_TORCH_ERROR_CODE_CHECK({CONV}(buf5, &temporary_reference(w.get()), &buf6_handle));", "buf5")
    + "    output_handles[0] = buf5.release();\n    output_handles[1] = buf6.release();\n"
)  # fmt: skip
_TRACE = 'File "/home/me/net.py", line {line}, in forward\n    {code}'
INFORMATION = {
    f"{SOFTMAX}:5": {"stack_traces": [_TRACE.format(line=9, code="return y.softmax(1)")],
                     "post_grad_nodes": ["div", "exp"], "pre_grad_nodes": ["softmax", "mul"]},
    f"{CONV}:1": {"stack_traces": [_TRACE.format(line=7, code="y = self.a(x)")], "post_grad_nodes": ["convolution"],
                  "pre_grad_nodes": ["conv2d"]},
    f"{RELU}:2": {"stack_traces": [], "post_grad_nodes": ["relu"], "pre_grad_nodes": ["relu", "add"]},
    f"{ADDMM}:3": {"stack_traces": [], "post_grad_nodes": ["addmm"], "pre_grad_nodes": []},
    f"{CONV}:4": {"stack_traces": [], "post_grad_nodes": ["convolution_1"], "pre_grad_nodes": ["conv2d_1"]},
}  # fmt: skip


def _value(number: float) -> torch.Tensor:
    return torch.full((2, 3), number)


@pytest.fixture
def run(tmp_path) -> Path:
    """The files of the run: before a launch, memory of results holds anything."""
    folder = tmp_path / "cwd"
    (folder / "tmp").mkdir(parents=True)
    clock = iter(range(100))

    def save(when: str, kernel: str, **buffers: float) -> None:
        for name, number in buffers.items():
            path = folder / "tmp" / f"aoti_torch{when}_launch_{kernel}_{name}_cpu.pt"
            torch.save(_value(number), path)
            os.utime(path, ns=(next(clock) * 10**9,) * 2)

    garbage = float("nan")
    for kernel, before, after in [
        (CONV, {"arg0_1": 1}, {"arg0_1": 1}),
        (RELU, {"buf0": 2, "buf1": garbage}, {"buf0": 2, "buf1": 3}),
        (ADDMM, {"buf2": garbage, "buf1": 3}, {"buf2": 4, "buf1": 3}),
        (CONV, {"buf2": 4}, {"buf2": 4}),
        (SOFTMAX, {"buf3": 5, "buf4": garbage, "buf5": garbage}, {"buf3": 5, "buf4": 6, "buf5": 7}),
        (CONV, {"buf5": 7}, {"buf5": 7}),
    ]:
        save("before", kernel, **before)
        save("after", kernel, **after)
    return folder


@pytest.fixture
def package(tmp_path) -> Path:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "net/data/aotinductor/model/kernel_information.json", json.dumps(INFORMATION)
        )
        archive.writestr("net/data/aotinductor/model/abc.wrapper.cpp", WRAPPER)
    return path


def test_with_the_package_every_tensor_is_there_once(run, package):
    trace = import_dump(run, None, mapping=package)
    found = {record.name: float(trace.read(record.name)[0, 0]) for record in trace.records}
    assert found == {"arg0_1": 1, "buf0": 2, "buf1": 3, "buf2": 4, "buf3": 5, "buf4": 6, "buf5": 7}
    assert list(found) == sorted(found)
    assert list(trace.header.untapped) == ["buf6"]
    assert trace.header.left_out == 0


def test_with_the_package_nodes_and_lines_are_known(run, package):
    taps = {record.name: record.tap for record in import_dump(run, None, mapping=package).records}
    assert taps["buf0"].names == ("conv2d",)
    assert taps["buf0"].op == CONV
    assert (taps["buf0"].source, taps["buf0"].code) == ("net.py:7", "y = self.a(x)")
    assert (taps["buf1"].names, taps["buf1"].covers) == (("relu",), ("add",))
    assert taps["buf2"].names == ("addmm",)
    assert taps["buf3"].names == ("conv2d_1",)  # of two launches of one kernel, the second
    assert (taps["buf4"].names, taps["buf4"].covers) == (
        (),
        ("mul", "softmax"),
    )  # which of two, is open
    assert [taps[name].kind for name in ("arg0_1", "buf4", "buf5")] == ["input", "value", "output"]


def test_without_the_package_nothing_that_was_computed_is_lost(run):
    assert detect_format(run) == detect_format(run / "tmp") == "aotinductor"
    trace = import_dump(run, None)
    values = [float(trace.read(record.name)[0, 0]) for record in trace.records]
    assert {1, 2, 3, 4, 5, 6, 7} <= set(values)
    assert all(record.tap.names == () for record in trace.records)
    assert any("before anything was written" in why for why in trace.header.untapped.values())
    assert "package" in trace.header.effective["map"]


def test_with_the_information_alone_kernels_are_known_and_not_guessed(run, tmp_path):
    path = tmp_path / "kernel_information.json"
    path.write_text(json.dumps(INFORMATION))
    taps = {record.name: record.tap for record in import_dump(run, None, mapping=path).records}
    assert taps[f"{SOFTMAX}.buf5"].covers == ("mul", "softmax")
    assert taps[f"{CONV}.buf2"].covers == () if f"{CONV}.buf2" in taps else True
    assert all(tap.names == () for tap in taps.values())


def test_names_with_underscores_and_other_devices(tmp_path):
    folder = tmp_path / "aoti_torch"
    folder.mkdir()
    for name in (
        "after_launch_triton_poi_fused_add_relu_3_arg10_1_cuda:0.pt",
        "after_launch_cpp_fused_max_pool2d_with_indices_4__frozen_param7_cpu.pt",
        "after_launch_what_is_this_cpu.pt",
    ):
        torch.save(_value(len(name)), folder / name)
    trace = import_dump(tmp_path, None)
    assert {record.name for record in trace.records} == {
        "triton_poi_fused_add_relu_3.arg10_1",
        "cpp_fused_max_pool2d_with_indices_4._frozen_param7",
    }
    assert "not clear" in trace.header.untapped["after_launch_what_is_this_cpu.pt"]


def test_damaged_files(run, package):
    (run / "tmp" / f"aoti_torchafter_launch_{RELU}_buf1_cpu.pt").write_bytes(b"PK")
    (run / "tmp" / f"aoti_torchafter_launch_{SOFTMAX}_buf4_cpu.pt").unlink()
    trace = import_dump(run, None, mapping=package)
    assert set(trace.header.untapped) == {"buf1", "buf4", "buf6"}
    assert "buf5" in trace


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"k:1": 3}'])
@pytest.mark.parametrize("name", ["kernel_information.json", "net.pt2"])
def test_maps_that_are_damaged(run, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError):
        import_dump(run, None, mapping=tmp_path / name)


def test_a_package_without_information(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/version", "1")
    with pytest.raises(UsageError, match="says nothing"):
        import_dump(run, None, mapping=tmp_path / "net.pt2")


_SCRIPT = """
import os, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        y = torch.relu(self.conv(x)).mean((2, 3))
        return torch.softmax(self.fc(y), 1)

torch.manual_seed(0)
model, x = Net().eval(), torch.randn(2, 3, 5, 5)
with torch.no_grad():
    program = torch.export.export(model, (x,))
    values = {"conv2d": model.conv(x), "softmax": model(x)}
    package = torch._inductor.aoti_compile_and_package(program, package_path=os.path.abspath("net.pt2"))
    torch._inductor.aoti_load_package(package)(x)
torch.save(values, "values.pt")
"""


@pytest.mark.slow
def test_a_model_that_was_really_compiled(tmp_path):
    (tmp_path / "net.py").write_text(_SCRIPT)
    environment = {
        **os.environ,
        "AOT_INDUCTOR_DEBUG_INTERMEDIATE_VALUE_PRINTER": "1",
        "INDUCTOR_PROVENANCE": "1",
    }
    subprocess.run(
        [sys.executable, "net.py"], cwd=tmp_path, env=environment, check=True, timeout=600
    )
    trace = import_dump(tmp_path, None, mapping=tmp_path / "net.pt2")
    wanted = torch.load(tmp_path / "values.pt", weights_only=True)
    (conv,) = (record for record in trace.records if record.tap.names == ("conv2d",))
    assert np.allclose(trace.read(conv.name), wanted["conv2d"].numpy(), atol=1e-6)
    assert conv.tap.source.startswith("net.py:")
    (output,) = (record for record in trace.records if record.tap.kind == "output")
    assert np.allclose(trace.read(output.name), wanted["softmax"].numpy(), atol=1e-6)
    assert len(trace.header.inputs) == 1
    assert all(np.isfinite(trace.read(record.name)).all() for record in trace.records)
