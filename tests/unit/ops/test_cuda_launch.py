"""How a call of an operator becomes a call of its CUDA kernel. No GPU is needed, and none is used."""

from typing import Any

import numpy as np
import pytest
import torch

from shipway.errors import EngineError, TensorError
from shipway.native.cuda import Grid
from shipway.ops import cuda_launch
from shipway.ops.cuda_launch import Launch, run_launch
from shipway.ops.cuda_multi_scale_deformable_attn import launch_rule
from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn_op
from shipway.ops.torch_op import overload_of

MULTIPROCESSORS = 132


def inputs(
    channels: int = 32, dtype: torch.dtype = torch.float32, queries: int = 7
) -> dict[str, torch.Tensor]:
    """Two batch entries, levels of 2 x 3 and 1 x 2 pixels, three heads, two points."""
    size = (2, queries, 3, 2, 2)
    return {
        "value": torch.zeros(2, 8, 3, channels, dtype=dtype),
        "spatial_shapes": torch.tensor([[2, 3], [1, 2]]),
        "level_start_index": torch.tensor([0, 6]),
        "sampling_locations": torch.zeros(*size, 2, dtype=dtype),
        "attention_weights": torch.zeros(size, dtype=dtype),
    }


def launched(**tensors: torch.Tensor) -> Launch:
    return launch_rule(MULTIPROCESSORS, **tensors)


@pytest.mark.parametrize(
    ("channels", "dtype", "vector", "lanes"),
    [
        (32, torch.float32, 4, 8),
        (32, torch.float16, 8, 4),
        (32, torch.bfloat16, 8, 4),
        (32, torch.float64, 2, 16),
        (1, torch.float16, 1, 1),
        (17, torch.float32, 1, 32),
        (12, torch.float16, 4, 4),  # three lanes work, a group has a power of two
        (600, torch.float32, 4, 32),  # more than the group holds: it goes round
    ],
)
def test_a_lane_loads_as_much_as_the_channels_allow(
    channels: int, dtype: torch.dtype, vector: int, lanes: int
) -> None:
    """Loads of up to 16 bytes that divide the channels, in a group of just enough lanes."""
    (problem,) = launched(**inputs(channels, dtype)).arguments
    assert (problem.vector, problem.lanes) == (vector, lanes)


def test_the_argument_holds_the_tensors_and_their_sizes() -> None:
    """Every field of the parameter, in the terms of the tensors."""
    tensors = inputs()
    launch = launched(**tensors)
    (problem,) = launch.arguments
    names = ("value", "sizes", "starts", "locations", "weights")
    assert [getattr(problem, name) for name in names] == [
        item.data_ptr() for item in tensors.values()
    ]
    assert problem.out == launch.output.data_ptr()
    assert launch.output.shape == (2, 7, 96)
    assert (problem.pixels, problem.queries, problem.items) == (8, 7, 42)
    assert (problem.heads, problem.channels, problem.levels, problem.points) == (3, 32, 2, 2)
    assert launch.kernel == "multi_scale_deformable_attn_f32"
    assert launch.grid == Grid(blocks=2, threads=256, shared_bytes=24)


def test_a_large_call_has_a_bounded_number_of_blocks() -> None:
    """Blocks go round a grid that depends on the GPU."""
    assert launched(**inputs(queries=50_000)).grid.blocks == MULTIPROCESSORS * 4


def test_inputs_are_made_dense_and_their_indices_wide() -> None:
    """A transposed value and int32 sizes arrive as the kernel needs them, and stay alive."""
    tensors = inputs()
    generator = np.random.default_rng(1)
    dense = torch.from_numpy(generator.standard_normal((2, 3, 8, 32))).float()
    tensors["value"] = dense.transpose(1, 2)
    tensors["spatial_shapes"] = tensors["spatial_shapes"].to(torch.int32)
    launch = launched(**tensors)
    value, sizes = launch.inputs[:2]
    assert launch.arguments[0].value == value.data_ptr()
    assert value.is_contiguous()
    assert torch.equal(value, tensors["value"])
    assert launch.arguments[0].sizes == sizes.data_ptr()
    assert sizes.dtype == torch.int64


def test_nothing_is_launched_for_an_empty_output() -> None:
    """No query: an empty tensor, and no kernel."""
    launch = launched(**inputs(queries=0))
    assert launch.kernel == ""
    assert launch.output.shape == (2, 0, 96)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("value", torch.zeros(2, 8, 96), r"value has shape \[2, 8, 96\], but must be \[batch, pix"),
        ("spatial_shapes", torch.ones(2, 3).long(), r"spatial_shapes has shape \[2, 3\]"),
        ("level_start_index", torch.zeros(3).long(), "has 3 levels, but spatial_shapes"),
        ("attention_weights", torch.zeros(2, 7, 3, 2, 1), "has 1 points, but sampling_locations"),
        ("attention_weights", torch.zeros(2, 7, 3, 2, 2).half(), "is float16, but must be float32"),
        ("value", torch.zeros(2, 8, 3, 32).long(), "value is int64, but must be float32 or"),
        ("level_start_index", torch.zeros(2), "is float32, but must be int64 or int32"),
    ],
)
def test_inputs_that_do_not_fit_are_named(name: str, wrong: torch.Tensor, message: str) -> None:
    """The message has the tensor, its size, and what it disagrees with."""
    with pytest.raises(TensorError, match=message):
        launched(**{**inputs(), name: wrong})


def test_more_levels_than_shared_memory_holds_are_refused() -> None:
    """The limit and the number are in the message."""
    levels = 4097
    size = (1, 1, 1, levels, 1)
    with pytest.raises(TensorError, match="up to 4096 levels, not 4097"):
        launched(
            value=torch.zeros(1, 1, 1, 1),
            spatial_shapes=torch.ones(levels, 2).long(),
            level_start_index=torch.zeros(levels).long(),
            sampling_locations=torch.zeros(*size, 2),
            attention_weights=torch.zeros(size),
        )


class Recorder:
    """Stands in for a loaded module, and for the GPU behind it."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str, Grid, tuple[Any, ...], int]] = []
        self.device = -1

    def load(self, device: int) -> "Recorder":
        self.device = device
        return self

    def launch(self, kernel: str, grid: Grid, arguments: tuple[Any, ...], stream: int) -> None:
        self.calls.append((self.device, kernel, grid, arguments, stream))


class Stream:
    cuda_stream = 77


def test_a_call_goes_to_the_current_stream_of_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule gets that GPU's size; its launch is queued there, once."""
    recorder = Recorder()
    asked: list[torch.device] = []
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda device: 10 + device)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: asked.append(device) or Stream()
    )
    monkeypatch.setattr(cuda_launch, "_common_device", lambda *_: torch.device("cuda", 3))
    tensors = tuple(inputs(queries=50_000).values())
    output = run_launch("shipway::multi_scale_deformable_attn", recorder.load, launch_rule, tensors)
    ((device, kernel, grid, arguments, stream),) = recorder.calls
    assert (device, kernel, stream) == (3, "multi_scale_deformable_attn_f32", 77)
    assert grid.blocks == 13 * 4
    assert arguments[0].out == output.data_ptr()
    assert asked == [torch.device("cuda", 3)]


def test_tensors_on_two_devices_are_refused() -> None:
    """Both devices are named."""
    tensors = (torch.zeros(1), torch.zeros(1, device="meta"))
    with pytest.raises(EngineError, match="on different devices: cpu, meta"):
        run_launch("shipway::any", Recorder().load, launch_rule, tensors)


def test_the_registration_reaches_torch(tmp_path: Any) -> None:
    """The operator has a CUDA kernel of its own while the registration lasts."""
    overload = overload_of(multi_scale_deformable_attn_op)
    name = overload.name()
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    before = has(name, "CUDA")
    library = cuda_launch.register_cuda(name, tmp_path / "kernel.fatbin", launch_rule)
    assert has(name, "CUDA")
    library._destroy()
    assert has(name, "CUDA") is before
