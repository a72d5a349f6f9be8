"""The CUDA kernel of multi-scale deformable attention.

On the GPU: compiled, not run. Here its own source runs on the CPU, fiber by fiber, through the
headers in cuda_host; nvcc compiles it where there is one.
"""

import ctypes
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway import native
from shipway.errors import CompilerMissing, EngineError, EngineMissing
from shipway.native import cuda
from shipway.native.cuda import (
    CudaModule,
    Grid,
    compile_cuda,
    cuda_status,
    find_nvcc,
    multiprocessors,
)
from shipway.ops.cuda_multi_scale_deformable_attn import SOURCE, Problem, launch_rule
from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn_op

OP = multi_scale_deformable_attn_op
HOST = Path(__file__).parent / "cuda_host"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror")
QUIET = ("-Wno-unknown-pragmas", "-Wno-clobbered")  # pragmas of nvcc; stacks switched by ucontext
SAMPLES = {sample.name: sample for sample in OP.samples(np.random.default_rng(7))}
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 5e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}
NEEDS_GCC = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
NEEDS_NVCC = pytest.mark.skipif(find_nvcc() is None, reason="no nvcc")


def compile_host(source: str, target: Path) -> Path:
    include = Path(native.__file__).parent / "include"
    folders = (f"-I{HOST}", f"-I{SOURCE.parent}", f"-I{include}")
    subprocess.run(["g++", *FLAGS, *QUIET, *folders, HOST / source, "-o", target], check=True)
    return target


@pytest.fixture(scope="module")
def library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's source, compiled for the CPU."""
    folder = tmp_path_factory.mktemp("cuda_host")
    return compile_host("multi_scale_deformable_attn_host.cpp", folder / "kernel.so")


@pytest.fixture(scope="module")
def host(library_path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library_path))


def on_host(host: ctypes.CDLL, *tensors: torch.Tensor, blocks: int = 0) -> torch.Tensor:
    """Launch as torch would on a GPU of two multiprocessors."""
    launch = launch_rule(2, *tensors)
    launch.output.fill_(math.nan)
    if launch.kernel:
        (problem,) = launch.arguments
        count = blocks or launch.grid.blocks
        name = launch.kernel.encode()
        assert host.run_kernel(name, ctypes.byref(problem), count, launch.grid.threads) == 0
    return launch.output


def cast(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(item.to(dtype) if item.is_floating_point() else item for item in tensors)


def golden_of(*tensors: torch.Tensor) -> torch.Tensor:
    return OP.reference(*cast(tensors, torch.float64))


def require_close(actual: torch.Tensor, golden: torch.Tensor) -> None:
    limit = TOLERANCES[actual.dtype]
    assert torch.equal(actual.isnan(), golden.isnan())
    actual, golden = actual.double().nan_to_num(), golden.nan_to_num()
    assert (actual - golden).norm() <= limit * golden.norm()
    assert (actual - golden).abs().max() <= 8 * limit * golden.abs().max()


@NEEDS_GCC
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_kernel_computes_what_the_reference_does(
    host: ctypes.CDLL, name: str, dtype: torch.dtype
) -> None:
    """Every sample of the operator, in every dtype, with the launch rule's own numbers."""
    tensors = cast(SAMPLES[name].inputs, dtype)
    actual = on_host(host, *tensors)
    golden = golden_of(*tensors)
    assert actual.shape == golden.shape
    if golden.numel():
        require_close(actual, golden)


@NEEDS_GCC
def test_the_result_does_not_depend_on_the_number_of_blocks(host: ctypes.CDLL) -> None:
    """One block that loops over everything gives what many blocks give."""
    tensors = cast(SAMPLES["17 channels"].inputs, torch.float32)
    assert torch.equal(on_host(host, *tensors, blocks=1), on_host(host, *tensors, blocks=9))


@NEEDS_GCC
@pytest.mark.parametrize("channels", [3, 4, 6, 16, 48, 200, 301])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_reads_and_writes_stay_within_the_tensors(
    host: ctypes.CDLL, channels: int, dtype: torch.dtype
) -> None:
    """NaN around each input shows up in no output, and nothing around the output changes."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.tensor([[3, 4], [2, 5]])
    size = (2, 5, 3, 2, 3)
    tensors = (
        fenced(torch.randn(2, 22, 3, channels, generator=generator).to(dtype)),
        levels,
        torch.tensor([0, 12]),
        fenced((torch.rand(*size, 2, generator=generator) * 1.6 - 0.3).to(dtype)),
        fenced(torch.rand(size, generator=generator).to(dtype)),
    )
    launch = launch_rule(2, *tensors)
    (problem,) = launch.arguments
    fence = 64
    room = torch.full((launch.output.numel() + 2 * fence,), -7.0, dtype=dtype)
    problem.out = room.data_ptr() + fence * room.element_size()
    host.run_kernel(launch.kernel.encode(), ctypes.byref(problem), launch.grid.blocks, 256)
    assert (room[:fence] == -7).all()
    assert (room[-fence:] == -7).all()
    golden = golden_of(*tensors)
    require_close(room[fence:-fence].reshape(golden.shape), golden)


def fenced(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor inside of memory that is NaN before and after it."""
    room = torch.full((tensor.numel() + 128,), math.nan, dtype=tensor.dtype)
    room[64:-64] = tensor.flatten()
    return room[64:-64].reshape(tensor.shape)


@NEEDS_GCC
@pytest.mark.parametrize("offset", [1, 2, 3, 4])
def test_a_value_that_is_not_aligned_is_read_in_narrower_steps(
    host: ctypes.CDLL, offset: int
) -> None:
    """A view at an odd place of its memory gives the same result as an aligned tensor."""
    tensors = cast(SAMPLES["32 channels"].inputs, torch.float16)
    room = torch.empty(tensors[0].numel() + offset, dtype=torch.float16)
    room[offset:] = tensors[0].flatten()
    value = room[offset:].reshape(tensors[0].shape)
    golden = on_host(host, *tensors)
    assert launch_rule(2, value, *tensors[1:]).arguments[0].vector == offset & -offset
    assert torch.equal(on_host(host, value, *tensors[1:]), golden)


@NEEDS_GCC
def test_attention_that_is_infinite_counts_nothing_outside(host: ctypes.CDLL) -> None:
    """A point half a pixel outside has corners that do not exist: no infinity comes from them."""
    value = torch.ones(1, 1, 1, 4)
    shapes, starts = torch.tensor([[1, 1]]), torch.tensor([0])
    locations = torch.tensor([5.0, 0.5]).reshape(1, 1, 1, 1, 1, 2)
    weights = torch.full((1, 1, 1, 1, 1), math.inf)
    assert not on_host(host, value, shapes, starts, locations, weights).any()


@NEEDS_GCC
@pytest.mark.parametrize(
    ("x", "y", "pixel", "inside", "weights"),
    [
        (0.5, 0.5, 15, 0b1111, (0.5, 0.5, 0, 0)),  # between two columns, on a row
        (0.0, 0.0, 5, 0b1000, (0, 0, 0, 0.25)),  # the corner of the map: one pixel counts
        (1.0, 1.0, 21, 0b0001, (0.25, 0, 0, 0)),
        (math.nan, 0.5, 10, 0, (0, 0, 0, 0)),
        (0.5, math.inf, 10, 0, (0, 0, 0, 0)),
        (-0.125, 0.5, 10, 0, (0, 0, 0, 0)),  # exactly one pixel outside
    ],
)
def test_a_point_finds_its_corners(
    host: ctypes.CDLL, x: float, y: float, pixel: int, inside: int, weights: tuple[float, ...]
) -> None:
    """Place and share of each corner, in a level of 3 rows and 4 columns that starts at pixel 10."""
    found = (ctypes.c_double * 7)()
    numbers = (ctypes.c_float(number) for number in (x, y, 1.0))
    host.make_point(3, 4, 10, *numbers, found)
    assert tuple(found) == (pixel, 4, inside, *weights)


@NEEDS_GCC
def test_the_argument_has_the_layout_of_the_kernel(host: ctypes.CDLL) -> None:
    """Python and C++ agree on the size of the parameter and of a level in shared memory."""
    assert host.problem_bytes() == ctypes.sizeof(Problem)
    size = (1, 1, 1, 5, 1)
    launch = launch_rule(
        2,
        torch.zeros(1, 5, 1, 8),
        torch.ones(5, 2, dtype=torch.int64),
        torch.arange(5),
        torch.zeros(*size, 2),
        torch.zeros(size),
    )
    assert launch.grid.shared_bytes == 5 * host.level_bytes()


@NEEDS_GCC
@pytest.mark.parametrize("start", [-1, 1, 2**40])
def test_a_level_that_does_not_fit_stops_the_kernel(library_path: Path, start: int) -> None:
    """The kernel asserts, with the names of the tensors to look at, before it reads anything."""
    program = f"""
import ctypes, torch
from shipway.ops.cuda_multi_scale_deformable_attn import launch_rule
size = (1, 1, 1, 1, 1)
launch = launch_rule(2, torch.ones(1, 6, 1, 4), torch.tensor([[2, 3]]), torch.tensor([{start}]),
                     torch.ones(*size, 2) / 2, torch.ones(size))
host = ctypes.CDLL({str(library_path)!r})
host.run_kernel(launch.kernel.encode(), ctypes.byref(launch.arguments[0]), 1, 256)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode < 0
    assert "check spatial_shapes (height, width) and level_start_index" in done.stderr.replace(
        '" "', ""
    )


@NEEDS_GCC
def test_the_module_asks_the_driver_for_the_right_things(tmp_path: Path) -> None:
    """Through a driver whose GPU is the CPU: load, launch, a wrong name, a wrong image, no GPU 1."""
    compile_host("multi_scale_deformable_attn_driver.cpp", tmp_path / "libcuda.so.1")
    program = """
import numpy as np, torch
from shipway.errors import EngineError
from shipway.native.cuda import CudaModule, Grid, cuda_status, multiprocessors
from shipway.ops.cuda_multi_scale_deformable_attn import launch_rule
from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn_op as op
assert cuda_status() == "" and multiprocessors(0) == 2
module = CudaModule(bytes.fromhex("50ed55ba"))
sample = next(iter(op.samples(np.random.default_rng(1))))
launch = launch_rule(2, *sample.inputs)
module.launch(launch.kernel, launch.grid, launch.arguments)
error = (launch.output - op.reference(*sample.inputs)).abs().max()
assert error < 1e-12, error
for wrong in (lambda: module.launch("absent", launch.grid, launch.arguments),
              lambda: module.launch(launch.kernel, Grid(0, 256), launch.arguments),
              lambda: CudaModule(bytes(4)), lambda: CudaModule(bytes(4), 1)):
    try:
        wrong()
    except EngineError as told:
        print(told)
"""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "CUDA failed while looking for the kernel absent: CUDA_ERROR_STAND_IN, told by the stand-in, code 500.",
        "CUDA failed while launching multi_scale_deformable_attn_f64 on GPU 0: CUDA_ERROR_STAND_IN, told by the stand-in, code 1.",
        "CUDA failed while loading a kernel on GPU 0: CUDA_ERROR_NO_BINARY_FOR_GPU, told by the stand-in, code 209.",
        "CUDA failed while looking for GPU 1: CUDA_ERROR_STAND_IN, told by the stand-in, code 101.",
    ]


@NEEDS_NVCC
def test_nvcc_compiles_the_kernel_without_a_warning(tmp_path: Path) -> None:
    """Compiled, not run: machine code for two GPUs and PTX for those to come, in one fatbin."""
    target = compile_cuda(SOURCE, tmp_path / "made" / "kernel.fatbin")
    content = target.read_bytes()
    assert content[:4] == b"\x50\xed\x55\xba"  # a fatbin's magic number
    assert [item.name for item in target.parent.iterdir()] == ["kernel.fatbin"]


@NEEDS_NVCC
def test_a_source_that_does_not_compile_is_quoted(tmp_path: Path) -> None:
    """The message has the compiler's error; no file is left behind."""
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void wrong() { missing = 1; }\n")
    with pytest.raises(EngineError, match=r"(?s)nvcc refuses wrong.cu.*missing"):
        compile_cuda(source, tmp_path / "wrong.fatbin", ["sm_90"])
    assert [item.name for item in tmp_path.iterdir()] == ["wrong.cu"]


@NEEDS_NVCC
def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    """The message says what to write instead."""
    with pytest.raises(EngineError, match="'hopper' is no CUDA architecture"):
        compile_cuda(SOURCE, tmp_path / "kernel.fatbin", ["hopper"])


def test_without_nvcc_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """NVCC names a file that is none."""
    monkeypatch.setenv("NVCC", str(tmp_path / "nvcc"))
    with pytest.raises(CompilerMissing, match="which cannot be run") as caught:
        compile_cuda(SOURCE, tmp_path / "kernel.fatbin")
    assert "cuda-downloads" in caught.value.hint


def test_without_a_driver_everything_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, module and device query name the same reason."""
    monkeypatch.setattr(cuda, "_open_driver", lambda: (None, "no NVIDIA driver: test"))
    multiprocessors.cache_clear()
    assert cuda_status() == "no NVIDIA driver: test"
    with pytest.raises(EngineMissing, match="no NVIDIA driver: test"):
        CudaModule(b"")
    with pytest.raises(EngineMissing, match="no NVIDIA driver: test"):
        multiprocessors(0)


NEEDS_GPU = pytest.mark.skipif(cuda_status() != "", reason=f"not run: {cuda_status()}")


@NEEDS_GPU
@NEEDS_NVCC
def test_a_kernel_that_is_not_there_is_named_on_a_gpu(tmp_path: Path) -> None:
    """The fatbin loads, and a wrong name is an error of ours."""
    module = CudaModule(compile_cuda(SOURCE, tmp_path / "kernel.fatbin").read_bytes())
    with pytest.raises(EngineError, match="looking for the kernel absent"):
        module.launch("absent", Grid(1, 32), ())
