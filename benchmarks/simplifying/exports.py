"""The exports of the simplification benchmark: ARCHITECTURE.ROUTE.SHAPES[.noopt].

`dynamo` is torch.export's route and `ts` the old tracer's; `dyn` leaves the axes dynamic that make
sense, `static` none; `noopt` switches the exporter's own optimizer off. Each export is a process of
its own (`python -m simplifying.exports NAME FOLDER`), so that one that dies names itself.
Beside MODEL.onnx lies MODEL.json: the shapes to check it at.
"""

import json
import os
import sys
import warnings
from pathlib import Path

__all__ = ["EXPORTS", "export"]

ROUTES = {
    "lstm": "ts.static dynamo.static ts.dyn dynamo.dyn",
    "cond": "dynamo.dyn",
    "loop": "ts.dyn",
    "defdetr": "ts.static dynamo.static ts.dyn dynamo.dyn dynamo.dyn.noopt",
    "mobilenetv3": "ts.static ts.dyn dynamo.dyn",
    "llama": "ts.static dynamo.static ts.dyn dynamo.dyn dynamo.dyn.noopt",
    "deit": "ts.static dynamo.static ts.dyn dynamo.dyn dynamo.dyn.noopt",
    "convnext": "ts.static ts.dyn dynamo.dyn",
    "resnet50": "ts.dyn dynamo.dyn",
    "swin": "dynamo.static ts.static ts.dyn dynamo.dyn dynamo.dyn.noopt",
    "bert": "ts.static ts.dyn dynamo.dyn",
}
EXPORTS = tuple(f"{name}.{route}" for name, routes in ROUTES.items() for route in routes.split())
TRACER_OPSET = 17


def export(name, folder):
    """Export one model of the list into a folder."""
    import torch

    from simplifying.architectures import build

    architecture, route, shapes, *rest = name.split(".")
    sample = build(architecture)
    is_dynamic = shapes == "dyn"
    path = folder / f"{name}.onnx"
    partial = folder / f".{name}.{os.getpid()}.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if route == "dynamo":
            through_dynamo(sample, partial, is_dynamic, optimize=not rest)
        else:
            through_tracer(sample, partial, is_dynamic)
    folder.joinpath(f"{name}.json").write_text(json.dumps(check_shapes(sample, is_dynamic)))
    partial.replace(path)


def through_dynamo(sample, path, is_dynamic, *, optimize):
    import torch

    axes = [sample.dynamic.get(name, {}) for name in sample.inputs]
    dynamic = tuple(dict.fromkeys(one, torch.export.Dim.DYNAMIC) for one in axes)
    program = torch.onnx.export(
        sample.module,
        tuple(sample.inputs.values()),
        dynamo=True,
        input_names=list(sample.inputs),
        dynamic_shapes=dynamic if is_dynamic else None,
        optimize=optimize,
        verbose=False,
    )
    program.save(path, external_data=False)


def through_tracer(sample, path, is_dynamic):
    import torch

    torch.onnx.export(
        sample.module,
        tuple(sample.inputs.values()),
        path,
        dynamo=False,
        input_names=list(sample.inputs),
        dynamic_axes={name: dict(axes) for name, axes in sample.dynamic.items()}
        if is_dynamic
        else None,
        opset_version=TRACER_OPSET,
    )


def check_shapes(sample, is_dynamic):
    """Return the shapes of the inputs at the size of the export and, where one exists, at another."""
    exported = {name: list(tensor.shape) for name, tensor in sample.inputs.items()}
    if not is_dynamic:
        return [exported]
    other = {
        name: [
            sample.other.get(sample.dynamic.get(name, {}).get(axis, ""), size)
            for axis, size in enumerate(shape)
        ]
        for name, shape in exported.items()
    }
    return [exported, other]


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
