"""Diagnoses as a comparison makes them: measured metrics, judged by the real limits."""

from dataclasses import replace

import numpy as np

from shipway.compare.diagnosis import Cause, Culprit, Diagnosis, Match, TensorComparison
from shipway.compare.metrics import measure
from shipway.compare.verdict import judge, limits_for

BY_NAME = Match("name", 1.0)
LINE = ("net.py:41", "x = self.norm2(x)")


def make_tensor(order, name, *, error=1e-7, accumulated=None, dtype="float32", **changes):
    """A float tensor with these relative errors; its verdict is on the local one."""
    shape = changes.pop("shape", (1, 4, 8))
    rng = np.random.default_rng(order)
    golden = rng.standard_normal(shape)
    noise = rng.standard_normal(shape)
    noise *= np.linalg.norm(golden) / np.linalg.norm(noise)
    local = measure(golden, golden + error * noise)
    verdict = judge(local, dtype, limits_for("f32", local=True))
    entry = TensorComparison(
        order=order,
        golden=name,
        actual=name,
        match=BY_NAME,
        golden_op="aten.linear.default",
        op="MatMul",
        dtype=dtype,
        shape=shape,
        layout="",
        module="",
        source="",
        code="",
        is_output=False,
        perturbed="",
        accumulated=measure(golden, golden + (accumulated or error) * noise),
        local=local,
        verdict=verdict,
        severity=local.relative_l2 / 1e-5,
    )
    return replace(entry, **changes)


def make_exact(order, name, golden, actual, **changes):
    """An integer tensor, which must be equal."""
    metrics = measure(golden, actual)
    verdict = judge(metrics, str(golden.dtype), limits_for("f32"))
    base = make_tensor(order, name)
    return replace(
        base,
        dtype=str(golden.dtype),
        shape=golden.shape,
        accumulated=metrics,
        local=metrics,
        verdict=verdict,
        severity=0.0 if verdict.passed else float("inf"),
        **changes,
    )


def make_fault(tensor, kind="approximation", **changes):
    """A culprit at this tensor."""
    values = {
        "cause": Cause(kind, "eps 0.05 instead of 1e-05 explains 99.8 % of the error", "norm2"),
        "operators": (("norm2", "aten.layer_norm.default"),),
        "inputs": {"add_4": 0.02},
        "readers": {"linear_7": 0.3},
        "effect": {"logits": 0.021},
        "replay": "replay/1-norm2",
    }
    return Culprit(tensor, **(values | changes))


def make_diagnosis(count=24, *, fault=9, **changes):
    """A transformer's tensors in f32, with a LayerNorm at fault unless `fault` is None."""
    tensors = [make_tensor(index, f"linear_{index}") for index in range(count)]
    culprits = ()
    if fault is not None:
        source, code = LINE
        tensors[fault] = make_tensor(
            fault,
            "norm2",
            error=3e-3,
            module="layers.3.norm2",
            source=source,
            code=code,
            actual="val_33",
            golden_op="aten.layer_norm.default",
            op="SkipLayerNormalization",
            channel_errors=(1e-3, 2e-3, 6e-3, 5e-4),
        )
        culprits = (make_fault(tensors[fault]),)
    tensors[-1] = replace(tensors[-1], golden="logits", actual="logits", is_output=True)
    values = {
        "golden": "torch (model.pt2)",
        "actual": "onnxruntime:f32",
        "precision": "f32",
        "local": True,
        "tensors": tuple(tensors),
        "culprits": culprits,
        "unmatched": {"reorder_1": "no tensor of golden has its numbers"},
        "golden_only": {f"view_{index}": f"fused into 'MatMul_{index}'" for index in range(5)},
        "identical": True,
    }
    return Diagnosis(**(values | changes))
