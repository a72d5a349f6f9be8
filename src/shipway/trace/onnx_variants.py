"""The usual mistakes with ONNX operators, each as an edit of one node."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shipway.trace.onnx_edits import Edit, Site
from shipway.trace.onnx_layer_mistakes import (
    added,
    bias,
    causal,
    counting,
    gates,
    kernels,
    resets,
    sampling,
    scaled,
    weights,
)
from shipway.trace.onnx_mistakes import (
    activations,
    added_epsilons,
    axes,
    bounds,
    branches,
    clipped,
    epsilons,
    erf,
    gelu,
    orders,
    perms,
    reading_orders,
    reduced_axes,
    slopes,
)

__all__ = ["edits_of"]

_Maker = Callable[[Site], Iterator[Edit]]
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})


def edits_of(site: Site) -> Iterator[Edit]:
    """Yield the usual mistakes with one operator. One that cannot be made fails when it is run."""
    if site.node.domain in _DOMAINS:
        for maker in _MAKERS.get(site.node.op_type, ()):
            yield from maker(site)


_NORMALIZATIONS = (
    "LayerNormalization",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "SimplifiedLayerNormalization",
    "RMSNormalization",
)
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2")
_BENT = ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSwish", "Sigmoid", "Tanh", "HardSigmoid")

_MAKERS: dict[str, tuple[_Maker, ...]] = {
    **dict.fromkeys(_NORMALIZATIONS, (epsilons, bias)),
    **dict.fromkeys(_REDUCTIONS, (reduced_axes,)),
    **dict.fromkeys(_BENT, (activations,)),
    "Relu": (activations, clipped),
    "LeakyRelu": (activations, slopes),
    "Clip": (bounds,),
    "Add": (added_epsilons, added),
    "Sub": (orders, added),
    "Mul": (scaled,),
    "Div": (orders, scaled),
    "Pow": (orders,),
    "MatMul": (weights, orders),
    "Gemm": (bias, weights),
    "Conv": (bias, weights, kernels),
    "ConvTranspose": (bias, weights, kernels),
    "Gelu": (gelu,),
    "Erf": (erf,),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), (axes,)),
    "Concat": (orders, axes),
    "Where": (branches,),
    "Transpose": (perms,),
    "Reshape": (reading_orders,),
    "Flatten": (reading_orders,),
    "AveragePool": (counting,),
    "Resize": (sampling,),
    "GridSample": (sampling,),
    "GRU": (resets,),
    "LSTM": (gates,),
    "Attention": (causal,),
}
