"""The judge: does a changed model still compute, for anybody who calls it, what the first one did?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from hostile.casebook import Array, Feeds, Kind
from hostile.execution import Outputs, open_session, run_model

SLACK_BYTES = 1024
REASSOCIATED = 1e-5
RANDOM = (
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
    "Noise",
)
CUSTOM = ("my.ops",)


class Mismatch(AssertionError):
    """The changed model is not the first one any more."""


@dataclass(frozen=True)
class Allowance:
    """What the rules that were applied may change: nothing, or the last digits."""

    exact: bool = True
    keeps: tuple[str, ...] = ()


EXACT = Allowance()


def check(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    feeds: Sequence[Feeds],
    kind: Kind = "equal",
    allowance: Allowance = EXACT,
    expected: Sequence[Outputs] | None = None,
) -> None:
    """Compare two models: signature, validity, size, operators that have to stay, outputs.

    Args:
        before: The model as it was.
        after: The changed model.
        feeds: Sets of inputs, each run through both.
        kind: `random` compares draws by their distribution; `custom` asks for all custom nodes.
        allowance: What the applied rules may change.
        expected: The outputs of `before`, where the caller has them already.

    Raises:
        Mismatch: At the first difference.
    """
    check_signature(before, after)
    check_validity(before, after)
    check_size(before, after)
    check_kept(before, after, kind, allowance.keeps)
    if kind == "random" or (kind == "custom" and draws(before)):
        check_draws(before, after, feeds)
        return
    wanted = expected if expected is not None else run_model(before, feeds)
    for index, (golden, actual) in enumerate(zip(wanted, run_changed(after, feeds), strict=True)):
        for name, value in golden.items():
            compare(value, actual[name], allowance.exact, f"output {name} of feeds {index}")


def run_changed(after: onnx.ModelProto, feeds: Sequence[Feeds]) -> list[Outputs]:
    try:
        return run_model(after, feeds)
    except Exception as error:
        raise Mismatch(f"the changed model does not run: {str(error)[:400]}") from error


def check_signature(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    for part in ("inputs", "outputs", "defaults"):
        golden, actual = signature(before)[part], signature(after)[part]
        if list(golden) != list(actual):
            raise Mismatch(f"{part} were {list(golden)}, are {list(actual)}")
        for name, declared in golden.items():
            if not agrees(declared, actual[name]):
                raise Mismatch(f"{part}: {name} was {declared}, is {actual[name]}")
    for name, tensor in signature(before)["defaults"].items():
        default = {item.name: item for item in after.graph.initializer}.get(name)
        if tensor is not None and default is None:
            raise Mismatch(f"the default of {name} is gone")


def signature(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """Inputs, outputs and overridable defaults with their types, in order.

    Below IR 4 every initializer has to be an input and none can be overridden.
    """
    initial = {item.name for item in model.graph.initializer}
    initial |= {item.values.name for item in model.graph.sparse_initializer}
    types = {item.name: declared_type(item.type) for item in model.graph.input}
    return {
        "inputs": {name: value for name, value in types.items() if name not in initial},
        "outputs": {item.name: declared_type(item.type) for item in model.graph.output},
        "defaults": {
            name: value
            for name, value in types.items()
            if name in initial and model.ir_version >= 4
        },
    }


def declared_type(proto: onnx.TypeProto) -> tuple[Any, ...]:
    """The type as nested tuples: sizes as integers, free dims as names, `?` without a name."""
    which = proto.WhichOneof("value")
    if which in {"sequence_type", "optional_type"}:
        return (which, declared_type(getattr(proto, which).elem_type))
    tensor = getattr(proto, which)
    if not tensor.HasField("shape"):
        return (which, tensor.elem_type, None)
    return (which, tensor.elem_type, tuple(declared_dim(dim) for dim in tensor.shape.dim))


def declared_dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return dim.dim_param or "?"


def agrees(golden: tuple[Any, ...], actual: tuple[Any, ...]) -> bool:
    """Equal, where a dim without a name may get one but no size."""
    if golden[0] != actual[0] or len(golden) != len(actual):
        return False
    if len(golden) == 2:
        return agrees(golden[1], actual[1])
    if golden[1] != actual[1]:
        return False
    if golden[2] is None or actual[2] is None:
        return golden[2] is actual[2]
    return len(golden[2]) == len(actual[2]) and all(
        isinstance(new, str) if old == "?" else old == new
        for old, new in zip(golden[2], actual[2], strict=True)
    )


def check_validity(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """What passed ONNX's checker still passes, types and shapes of values included."""
    for full in (False, True):
        if complaint(before, full) is None and (reason := complaint(after, full)) is not None:
            raise Mismatch(f"the checker refuses the changed model: {reason}")


def complaint(model: onnx.ModelProto, full: bool) -> str | None:
    try:
        onnx.checker.check_model(model, full_check=full)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return str(error)[:400]
    return None


def check_size(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    golden, actual = len(node_types(before)), len(node_types(after))
    if actual > golden:
        raise Mismatch(f"{golden} nodes became {actual}")
    grown = after.ByteSize() - before.ByteSize()
    if grown > SLACK_BYTES:
        raise Mismatch(f"the model grew by {grown} bytes")


def node_types(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Domain and type of every node, those of sub-graphs and functions included."""
    pending = [model.graph.node, *(function.node for function in model.functions)]
    found = []
    while pending:
        for node in pending.pop():
            domain = "" if node.domain == "ai.onnx" else node.domain
            found.append((domain, node.op_type))
            for attribute in node.attribute:
                pending.extend(inner.node for inner in (attribute.g, *attribute.graphs))
    return found


def check_kept(
    before: onnx.ModelProto, after: onnx.ModelProto, kind: Kind, keeps: tuple[str, ...]
) -> None:
    golden, actual = Counter(node_types(before)), Counter(node_types(after))
    for name in keeps:
        if not actual["", name]:
            raise Mismatch(f"{name} is gone")
    for domain, name in golden:
        has_to_stay = (kind == "random" and name in RANDOM) or (
            kind == "custom" and (domain in CUSTOM or name.endswith("_TRT"))
        )
        if has_to_stay and golden[domain, name] != actual[domain, name]:
            raise Mismatch(f"{golden[domain, name]} x {name} became {actual[domain, name]}")


def draws(model: onnx.ModelProto) -> bool:
    return any(name in RANDOM for _, name in node_types(model))


def check_draws(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Sequence[Feeds]) -> None:
    """Outputs vary where they varied, and have the same mean and spread; seeded ones are equal."""
    for feed in feeds:
        golden, actual = run_often(before, feed), run_often(after, feed)
        for name, samples in golden.items():
            compare_draws(samples, actual[name], f"random output {name}")
            if is_seeded(before):
                compare(samples[0], actual[name][0], False, f"first draw of {name}")


def run_often(model: onnx.ModelProto, feed: Feeds, times: int = 8) -> dict[str, Array]:
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(names, dict(feed)) for _ in range(times)]
    return {name: np.stack([run[index] for run in runs]) for index, name in enumerate(names)}


def is_seeded(model: onnx.ModelProto) -> bool:
    bodies = (model.graph.node, *(function.node for function in model.functions))
    nodes = [node for body in bodies for node in body if node.op_type in RANDOM]
    return all(any(item.name == "seed" for item in node.attribute) for node in nodes)


def compare_draws(golden: Array, actual: Array, where: str) -> None:
    if golden.shape != actual.shape or golden.dtype != actual.dtype:
        raise Mismatch(f"{where}: {describe(golden)} became {describe(actual)}")
    if (golden[0] != golden[1]).any() and not (actual[0] != actual[1]).any():
        raise Mismatch(f"{where} does not vary any more")
    spread = np.sqrt((golden.var() + actual.var()) / golden.size)
    if abs(golden.mean() - actual.mean()) > 6 * spread + 1e-6:
        raise Mismatch(f"{where} had mean {golden.mean()}, has {actual.mean()}")
    if not 0.5 <= (actual.std() + 1e-6) / (golden.std() + 1e-6) <= 2:
        raise Mismatch(f"{where} had spread {golden.std()}, has {actual.std()}")


def compare(golden: Any, actual: Any, exact: bool, where: str) -> None:
    """Compare two values of any ONNX type.

    Raises:
        Mismatch: Where dtype, shape or a number differs; 0.0 and -0.0 do, two NaNs do not.
    """
    if isinstance(golden, list | Mapping) or golden is None:
        compare_containers(golden, actual, exact, where)
        return
    golden, actual = np.asarray(golden), np.asarray(actual)
    if golden.shape != actual.shape or golden.dtype != actual.dtype:
        raise Mismatch(f"{where}: {describe(golden)} became {describe(actual)}")
    if golden.dtype.kind in "biuOSUT":
        same = golden == actual
    elif exact:
        same = same_bits(golden, actual)
    else:
        same = close(golden, actual)
    if not np.all(same):
        spot = np.unravel_index(int(np.argmin(same)), golden.shape)
        raise Mismatch(f"{where}: {golden[spot]!r} became {actual[spot]!r} at {spot}")


def compare_containers(golden: Any, actual: Any, exact: bool, where: str) -> None:
    if golden is None or type(golden) is not type(actual) or len(golden) != len(actual):
        if golden is not None or actual is not None:
            raise Mismatch(f"{where}: {golden!r} became {actual!r}"[:400])
        return
    keys = golden if isinstance(golden, Mapping) else range(len(golden))
    for key in keys:
        compare(golden[key], actual[key], exact, f"{where}, item {key}")


def same_bits(golden: Array, actual: Array) -> Array:
    bits = np.dtype(f"u{golden.dtype.itemsize}") if golden.dtype.itemsize <= 8 else golden.dtype
    wide = (golden.astype(np.float64), actual.astype(np.float64))
    return (golden.view(bits) == actual.view(bits)) | (np.isnan(wide[0]) & np.isnan(wide[1]))


def close(golden: Array, actual: Array) -> Array:
    """Within the tolerance of the largest finite number; NaN and infinities in the same places."""
    wide, other = golden.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(wide)
    largest = np.abs(wide[finite]).max(initial=0)
    limit = max(REASSOCIATED, 4 * resolution(golden.dtype)) * largest
    with np.errstate(invalid="ignore"):
        near = np.abs(wide - other) <= limit
    return np.where(finite, near, (wide == other) | (np.isnan(wide) & np.isnan(other)))


def resolution(dtype: np.dtype[Any]) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


def describe(value: Array) -> str:
    return f"{value.dtype}{list(value.shape)}"
