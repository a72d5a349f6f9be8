"""A CUDA kernel is compiled into the cache once, and only registered where there is a GPU."""

import pytest
import torch

from shipway.errors import CompilerMissing
from shipway.native.cuda import SOURCES, find_nvcc
from shipway.ops.cuda_kernel import build_cuda, register_cuda_kernel
from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn_op

KERNEL = """extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }"""


@pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc: compiled here, not run")
def test_a_source_is_compiled_once(tmp_path, monkeypatch):
    """The second time the cache has it; another source has a place of its own."""
    monkeypatch.setenv("SHIPWAY_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "twice.cu"
    source.write_text(KERNEL)
    made = build_cuda("twice", source)
    before = made.stat().st_mtime_ns
    assert build_cuda("twice", source) == made
    assert made.stat().st_mtime_ns == before
    source.write_text(KERNEL.replace("2", "3"))
    assert build_cuda("twice", source) != made


def test_without_nvcc_it_is_said(tmp_path, monkeypatch):
    """By name, before anything is written."""
    monkeypatch.setenv("SHIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NVCC", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    source = SOURCES / "multi_scale_deformable_attn.cu"
    if find_nvcc() is not None:
        pytest.skip("nvcc lies in a folder that is always searched")
    with pytest.raises(CompilerMissing, match="nvcc"):
        build_cuda("attention", source)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it is registered")
def test_without_a_gpu_nothing_is_compiled(tmp_path, monkeypatch):
    """A machine with nvcc alone waits for nobody."""
    monkeypatch.setenv("SHIPWAY_CACHE", str(tmp_path / "cache"))
    assert not register_cuda_kernel(multi_scale_deformable_attn_op)
    assert not (tmp_path / "cache").exists()
