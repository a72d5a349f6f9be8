"""How fast multi-scale deformable attention is inside ONNX Runtime, against what people ship today.

Three configurations (the seed's 200x200 plane, Deformable-DETR's encoder, BEVFormer's spatial cross
attention), each with points drawn at random and near their query. Compared in one run, in turns:

- Shipway's operator inside ONNX Runtime, float32 and float16
- the GridSample graph inside ONNX Runtime: mmcv's PyTorch fallback, exported by torch
- that fallback in PyTorch itself
- Shipway's operator inside OpenVINO, float32
- the memory-bandwidth floor: the same bytes read in the same order and summed, nothing else

Inputs and outputs are bound to buffers made before, so no side pays for fresh memory. Times are
process CPU time over the two threads, which a busy machine disturbs least; the best of the rounds.

Run: .venv/bin/python benchmarks/ms_deform_attn.py [--rounds N]
"""

import argparse
import ctypes
import json
import logging
import math
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from shipway.engines.openvino.kernels import extension_of
from shipway.native import native_path
from shipway.native.build import build_library
from shipway.ops import find_operator

THREADS = 2
CONFIGS = {
    "seed": (2, [(200, 200)], 40000, 4),
    "ddetr": (1, [(100, 134), (50, 67), (25, 34), (13, 17)], 17821, 4),
    "bevformer": (6, [(116, 200), (58, 100), (29, 50), (15, 25)], 2500, 8),
}
HEADS, CHANNELS = 8, 32
NAMES = ("value", "spatial_shapes", "level_start_index", "sampling_locations", "attention_weights")
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def make_inputs(name, local):
    batch, levels, queries, points = CONFIGS[name]
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(levels)
    areas = shapes.prod(1)
    value = torch.rand(batch, int(areas.sum()), HEADS, CHANNELS, generator=generator)
    size = (batch, queries, HEADS, len(levels), points)
    if local:
        side = math.ceil(math.sqrt(queries))
        index = torch.arange(queries)
        centres = torch.stack((index % side, index // side), -1).add(0.5) / side
        spread = 3 * torch.randn(*size, 2, generator=generator) / shapes.flip(-1)[:, None]
        places = centres[:, None, None, None] + spread
    else:
        places = torch.rand(*size, 2, generator=generator) * 1.2 - 0.1
    weights = torch.rand(*size, generator=generator).flatten(3).softmax(-1).view(size)
    starts = torch.cat((areas.new_zeros(1), areas.cumsum(0)[:-1]))
    return value, shapes, starts, places, weights


class Fallback(torch.nn.Module):
    """mmcv's fallback: each level sampled with grid_sample, then weighted and summed."""

    def __init__(self, shapes):
        super().__init__()
        self.levels = [tuple(map(int, row)) for row in shapes]

    def forward(self, value, places, weights):
        batch, _, heads, channels = value.shape
        queries, levels, points = places.shape[1], places.shape[3], places.shape[4]
        planes = value.split([height * width for height, width in self.levels], dim=1)
        grids = 2 * places - 1
        sampled = []
        for at, (height, width) in enumerate(self.levels):
            plane = planes[at].flatten(2).transpose(1, 2)
            plane = plane.reshape(batch * heads, channels, height, width)
            grid = grids[:, :, :, at].transpose(1, 2).flatten(0, 1)
            sampled.append(F.grid_sample(plane, grid, align_corners=False))
        factors = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
        summed = (torch.stack(sampled, dim=-2).flatten(-2) * factors).sum(-1)
        return summed.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def operator_model(inputs, dtype):
    kind = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    kinds = (kind, TensorProto.INT64, TensorProto.INT64, kind, kind)
    node = helper.make_node("MultiScaleDeformableAttn", NAMES, ["output"], domain="shipway")
    infos = [
        helper.make_tensor_value_info(name, one, list(tensor.shape))
        for name, one, tensor in zip(NAMES, kinds, inputs, strict=True)
    ]
    graph = helper.make_graph(
        [node], "attention", infos, [helper.make_tensor_value_info("output", kind, None)]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("shipway", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def fallback_model(inputs, folder):
    value, shapes, _, places, weights = inputs
    path = folder / "fallback.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Fallback(shapes).eval(),
            (value, places, weights),
            path,
            dynamo=True,
            opset_version=20,
            input_names=["value", "sampling_locations", "attention_weights"],
            output_names=["output"],
            verbose=False,
        )
    model = onnx.load(path)
    if not any(node.op_type == "GridSample" for node in model.graph.node):
        raise SystemExit(
            "torch exported the fallback without GridSample: there is nothing to compare"
        )
    return model


def in_onnxruntime(model, arrays, shape, dtype):
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = THREADS
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.register_custom_ops_library(str(native_path()))
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    output = np.zeros(shape, dtype)
    binding = session.io_binding()
    for item in session.get_inputs():
        binding.bind_ortvalue_input(item.name, ort.OrtValue.ortvalue_from_numpy(arrays[item.name]))
    bound = ort.OrtValue.ortvalue_from_numpy(output)
    binding.bind_ortvalue_output("output", bound)
    return lambda: session.run_with_iobinding(binding), bound.numpy


def in_openvino(model, arrays, folder):
    import openvino

    path = folder / "operator.onnx"
    onnx.save(model, path)
    core = openvino.Core()
    extension_of([find_operator("multi_scale_deformable_attn")]).add_to_core(core)
    config = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    tensors = {name: openvino.Tensor(arrays[name], shared_memory=True) for name in NAMES}
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)

    def run():
        request.start_async()
        request.wait()

    return run, lambda: request.get_output_tensor(0).data


def floor_of(inputs):
    """Every pixel with a weight that is not zero, read in the order of the queries."""
    value, shapes, starts, places, _ = inputs
    batch, queries, heads, levels, points, _ = places.shape
    row_bytes = CHANNELS * 4
    offsets = np.zeros((batch, queries, heads, levels, points, 4), np.int64)
    batch_index = np.arange(batch).reshape(-1, 1, 1, 1)
    head_index = np.arange(heads).reshape(1, 1, -1, 1)
    for at in range(levels):
        height, width = map(int, shapes[at])
        x = np.floor(places[:, :, :, at, :, 0].numpy() * width - 0.5).astype(np.int64)
        y = np.floor(places[:, :, :, at, :, 1].numpy() * height - 0.5).astype(np.int64)
        for corner, (down, right) in enumerate(CORNERS):
            row = np.clip(y + down, 0, height - 1) * width + np.clip(x + right, 0, width - 1)
            pixel = batch_index * value.shape[1] + int(starts[at]) + row
            offsets[:, :, :, at, :, corner] = (pixel * heads + head_index) * row_bytes
    inside = np.zeros(offsets.shape[:-1], bool)
    for at in range(levels):
        height, width = map(int, shapes[at])
        x = places[:, :, :, at, :, 0].numpy() * width - 0.5
        y = places[:, :, :, at, :, 1].numpy() * height - 0.5
        inside[:, :, :, at] = (x > -1) & (x < width) & (y > -1) & (y < height)
    # A point outside reads nothing; here it reads the pixel that was read just before, from cache.
    flat = offsets.reshape(-1, 4)
    order = np.maximum.accumulate(np.where(inside.reshape(-1), np.arange(len(flat)), 0))
    flat = np.concatenate((flat[order].reshape(-1), np.zeros(24, np.int64)))
    library = ctypes.CDLL(
        str(
            build_library(
                "gather_floor", [Path(__file__).with_name("gather_floor.cpp")], flags=("-pthread",)
            )
        )
    )
    array, output = value.numpy(), np.zeros(batch * queries * heads * CHANNELS, np.float32)

    def run():
        library.gather_floor(
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_void_p(flat.ctypes.data),
            ctypes.c_int64(len(flat) - 24),
            ctypes.c_int64(row_bytes),
            ctypes.c_void_p(output.ctypes.data),
            ctypes.c_int64(levels * points * 4),
            ctypes.c_int32(THREADS),
        )

    return run


def cpu_milliseconds(function):
    start = time.process_time()
    function()
    return (time.process_time() - start) / THREADS * 1e3


def measure(name, local, rounds, folder):
    inputs = make_inputs(name, local)
    value, _, _, places, weights = inputs
    arrays = dict(zip(NAMES, (tensor.numpy() for tensor in inputs), strict=True))
    halves = {
        key: array.astype(np.float16) if array.dtype == np.float32 else array
        for key, array in arrays.items()
    }
    shape = (places.shape[0], places.shape[1], HEADS * CHANNELS)
    module = Fallback(inputs[1])
    peers, outputs = {}, {}
    for peer, model, given, dtype in (
        ("shipway f32", operator_model(inputs, np.float32), arrays, np.float32),
        ("shipway f16", operator_model(inputs, np.float16), halves, np.float16),
        ("GridSample", fallback_model(inputs, folder), arrays, np.float32),
    ):
        peers[peer], outputs[peer] = in_onnxruntime(model, given, shape, dtype)
    peers["OpenVINO"], outputs["OpenVINO"] = in_openvino(
        operator_model(inputs, np.float32), arrays, folder
    )
    peers["torch"] = lambda: module(value, places, weights)
    peers["floor"] = floor_of(inputs)
    times = {peer: [] for peer in peers}
    with torch.inference_mode():
        for run in peers.values():
            run()
        floats = (value, places, weights)
        golden = module(*(tensor.double() for tensor in floats)).numpy()
        golden_of_halves = module(*(tensor.half().double() for tensor in floats)).numpy()
        for peer, found in outputs.items():
            half = peer == "shipway f16"
            exact = golden_of_halves if half else golden
            error = np.linalg.norm(found() - exact) / np.linalg.norm(exact)
            if not error < (2e-3 if half else 2e-5):
                raise SystemExit(f"{peer} is wrong: relative L2 {error:.1e}")
        for at in range(rounds):
            for peer, run in peers.items():
                if at == 0 or peer not in {"torch", "GridSample"} or at % 3 == 0:
                    times[peer].append(cpu_milliseconds(run))
    return {peer: min(found) for peer, found in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    columns = ("shipway f32", "shipway f16", "GridSample", "torch", "OpenVINO", "floor")
    print(f"CPU ms over {THREADS} threads, best of {rounds}; ratios are over shipway f32")
    print(
        f"{'':18}"
        + "".join(f"{column:>13}" for column in columns)
        + f"{'GridSample':>12}{'f16':>7}"
    )
    found = {}
    for name in CONFIGS:
        for local in (False, True):
            key = f"{name}_{'local' if local else 'random'}"
            with tempfile.TemporaryDirectory() as folder:
                best = measure(name, local, rounds, Path(folder))
            found[key] = best
            ratio, half = (
                best["GridSample"] / best["shipway f32"],
                best["shipway f32"] / best["shipway f16"],
            )
            print(
                f"{key:18}"
                + "".join(f"{best[column]:13.1f}" for column in columns)
                + f"{ratio:11.1f}x{half:6.2f}x",
                flush=True,
            )

    def over(key, peer):
        return round(found[key][peer] / found[key]["shipway f32"], 2)

    summary = {f"{key}_vs_gridsample": over(key, "GridSample") for key in found}
    summary |= {f"{key}_vs_torch": over(key, "torch") for key in found}
    summary["fp16_vs_fp32_min"] = round(
        min(one["shipway f32"] / one["shipway f16"] for one in found.values()), 2
    )
    summary["seed_random_vs_floor"] = round(
        found["seed_random"]["shipway f32"] / found["seed_random"]["floor"], 2
    )
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
