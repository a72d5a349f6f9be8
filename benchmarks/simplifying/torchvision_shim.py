"""Lets `import torchvision` succeed beside a CPU build of torch: import this file before it.

The wheels on PyPI are linked against CUDA. Where that library does not load, torchvision stops with
"operator torchvision::nms does not exist", and timm and transformers with it. Declaring the two
operators it looks for is enough for classifiers; nothing here computes, so that detectors fail with
torch's own error.
"""

import importlib.util
from pathlib import Path

import torch

__all__ = ["LIBRARY"]

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def loads_its_own_library():
    """Whether torchvision brings the operators itself; true where there is no torchvision."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    try:
        for path in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(path))
    except OSError:
        return False
    return True


LIBRARY = None  # the operators live as long as this does
if not loads_its_own_library():
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        LIBRARY.define(name + SCHEMA)
