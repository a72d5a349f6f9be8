"""The rules other tools judge a tensor by, written again from their sources, on accumulated errors.

Each takes golden and the engine's tensor, of one shape, and says whether the tool would call it wrong.
None has a local error, so each looks at tensors that carry what earlier ones did wrong.
"""

import numpy as np

__all__ = ["RULES"]

EPSILON = 1.19209e-07


def msit(golden, actual):
    """Any of five thresholds, whatever the dtype; a metric that is NaN counts as passed.

    Source: msit 8.2.0, components/debug/compare/msquickcmp (cosine > 0.99, relative Euclidean
    distance < 0.05, Kullback-Leibler divergence of min-max-normalized values < 0.005, RMSE < 1,
    mean relative error < 1); a cosine that is NaN marks the row as no error in its cmp_process.
    """
    golden, actual = golden.ravel(), actual.ravel()
    difference = actual - golden
    size = np.linalg.norm(golden)
    cosine = golden @ actual / (size * np.linalg.norm(actual))
    if np.isnan(cosine):
        return False
    relative = np.where(np.abs(golden) > EPSILON, np.abs(difference / golden), 0)
    return bool(
        cosine <= 0.99
        or np.linalg.norm(difference) / size >= 0.05
        or divergence(golden, actual) >= 0.005
        or np.sqrt(np.mean(difference**2)) >= 1
        or np.mean(relative) >= 1
    )


def divergence(golden, actual):
    """Return msaccucmp's Kullback-Leibler divergence: each side normalized by its own range."""

    def distribution(values):
        low, high = values.min(), values.max()
        values = (values - low) / (high - low) if high != low else values
        values = np.maximum(values, EPSILON)
        return values / values.sum()

    first, second = distribution(actual), distribution(golden)
    return float(np.sum(first * np.log(first / second)))


def polygraphy(golden, actual):
    """An element with both an absolute and a relative error over 1e-5; NaN is wrong.

    Source: Polygraphy 0.53.6, comparator/compare.py: check_error_stat "elemwise", the default, and
    the default tolerances; golden zeros are replaced by 2.2e-16 in the relative error.
    """
    if np.isnan(golden).any() or np.isnan(actual).any():
        return True
    absolute = np.abs(actual - golden)
    relative = absolute / np.where(golden == 0, 2.2e-16, np.abs(golden))
    return bool(((absolute > 1e-5) & (relative > 1e-5)).any())


def torch_onnx(golden, actual):
    """A largest absolute error over 0.01, or a largest relative one over 0.1; NaN is over neither.

    Source: torch 2.13, torch/onnx/_internal/exporter/_verification.py and the warning its
    verify_onnx_program(compare_intermediates=True) gives.
    """
    absolute = np.abs(actual - golden)
    return bool(absolute.max() > 0.01 or (absolute / (np.abs(golden) + 1e-7)).max() > 0.1)


def guarded(rule):
    """Return the rule on float64 copies, without numpy's warnings about what it divides by."""

    def judge(golden, actual):
        if not golden.size:
            return False
        with np.errstate(all="ignore"):
            return rule(golden.astype(np.float64), actual.astype(np.float64))

    return judge


RULES = {
    "msit": guarded(msit),
    "Polygraphy": guarded(polygraphy),
    "torch.onnx": guarded(torch_onnx),
}
"""Name of the tool to its rule."""
