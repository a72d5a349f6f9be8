"""A model through the road a user takes: file, load, simplify, save, file."""

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from hostile.checking import Allowance
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import Simplification, SimplifyOptions, simplify_graph

PROFILES = ("portable", "modern", "onnxruntime", "openvino", "tensorrt", "ascend")
QUICK = frozenset({"portable", "modern"})
# The others share most of their rules with these: they are judged with the slow tests.
EACH_PROFILE = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROFILES
]


@dataclass(frozen=True)
class Simplified:
    """The saved result and what was done."""

    model: onnx.ModelProto
    report: Simplification

    def allowance(self, keeps: tuple[str, ...] = ()) -> Allowance:
        exact = all(change.kind == "exact" for change in self.report.changes)
        return Allowance(exact, keeps)


def simplified(model: onnx.ModelProto, profile: str, folder: Path) -> Simplified:
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(model, before)
    graph = load_graph(before)
    report = simplify_graph(graph, SimplifyOptions(profile=profile))
    save_graph(graph, after)
    return Simplified(onnx.load(after), report)
