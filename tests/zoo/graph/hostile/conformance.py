"""ONNX's own operator tests, in forms that a simplifier has something to do with.

As they come every number is an input, every size is written down and nothing folds. So each case is
also judged with free sizes, with all inputs but the first as constants, and with nothing but constants.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from hostile.casebook import Feeds, Kind
from hostile.checking import Mismatch, check, compare, draws
from hostile.execution import Outputs, run_model
from hostile.simplifying import simplified
from shipway.errors import ModelError

VARIANTS = (
    "as given",
    "free sizes",
    "first input, rest constant",
    "first input of free size, rest constant",
    "all constant",
    "in a function, rest constant",
)
WRAPPED = "wrapped"
FIRST_IR_WITH_FUNCTIONS = 8
FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class BackendCase:
    """A model of ONNX's test suite with its inputs."""

    name: str
    model: onnx.ModelProto
    feeds: tuple[Feeds, ...]


@dataclass(frozen=True)
class Trial:
    """One variant of a case that ONNX Runtime runs, with what came out."""

    name: str
    model: onnx.ModelProto
    feeds: Sequence[Feeds]
    expected: Sequence[Outputs]
    kind: Kind


@dataclass
class Survey:
    """How the trials of one variant went in one profile; `cases` have the variant, `run` also run."""

    variant: str
    profile: str
    cases: int
    run: int
    equal: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@cache
def backend_cases() -> tuple[BackendCase, ...]:
    """Every node and model case of `onnx.backend.test`, generated or read from the wheel."""
    from onnx.backend.test.case import node as node_cases
    from onnx.backend.test.loader import load_model_tests

    found = [
        BackendCase(
            case.name, case.model, tuple(named(case.model, ins) for ins, _ in case.data_sets)
        )
        for case in node_cases.collect_testcases(None)
    ]
    for kind in FOLDERS:
        tests = sorted(load_model_tests(kind=kind), key=lambda test: test.name)
        found += [read_case(f"{kind}/{test.name}", Path(test.model_dir)) for test in tests]
    return (*found, *light_cases())


def named(model: onnx.ModelProto, values: Sequence[Any]) -> Feeds:
    initial = {item.name for item in model.graph.initializer}
    names = [item.name for item in model.graph.input if item.name not in initial]
    arrays = (np.asarray(value) if isinstance(value, np.generic) else value for value in values)
    return dict(zip(names, arrays, strict=False))


def read_case(name: str, folder: Path) -> BackendCase:
    model = onnx.load(folder / "model.onnx")
    types = [item.type for item in model.graph.input]
    feeds = []
    for data in sorted(folder.glob("test_data_set_*")):
        count = len(list(data.glob("input_*.pb")))
        values = [read_value(data / f"input_{i}.pb", types[i]) for i in range(count)]
        feeds.append(named(model, values))
    return BackendCase(name, model, tuple(feeds))


def read_value(path: Path, kind: onnx.TypeProto) -> Any:
    if kind.WhichOneof("value") == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind.WhichOneof("value") == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(TensorProto.FromString(path.read_bytes()))


def light_cases() -> Iterator[BackendCase]:
    """ImageNet networks whose weights are ConstantOfShape: folded, they are as big as the real ones."""
    import onnx.backend.test

    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        model = onnx.load(path)
        initial = {item.name for item in model.graph.initializer}
        image = next(item for item in model.graph.input if item.name not in initial)
        shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
        picture = np.random.default_rng(0).random(shape, np.float32)
        yield BackendCase(f"light/{path.stem}", model, (named(model, [picture]),))


@cache
def attempts(variant: str) -> tuple[tuple[Trial, ...], dict[str, str]]:
    """The cases that have this variant: those ONNX Runtime runs, and why it does not run the rest."""
    runnable, refused = [], {}
    for case in backend_cases():
        made = FORMS[variant](case)
        if made is None:
            continue
        try:
            runnable.append(make_trial(made))
        except Exception as error:  # noqa: BLE001 -- ONNX Runtime raises a type for each lack
            refused[made.name] = str(error)
    return tuple(runnable), refused


def make_trial(case: BackendCase) -> Trial:
    runs = run_model(case.model, [*case.feeds, *case.feeds])
    expected, again = runs[: len(case.feeds)], runs[len(case.feeds) :]
    kind: Kind = "random" if draws(case.model) and not repeats(expected, again) else "equal"
    return Trial(case.name, case.model, case.feeds, expected, kind)


def repeats(first: Sequence[Outputs], second: Sequence[Outputs]) -> bool:
    try:
        for golden, actual in zip(first, second, strict=True):
            compare(golden, actual, True, "the same model")
    except Mismatch:
        return False
    return True


def as_given(case: BackendCase) -> BackendCase:
    return case


def with_free_sizes(case: BackendCase) -> BackendCase | None:
    """Every size of every tensor input and output becomes a name of its own."""
    free = copy_of(case.model)
    del free.graph.value_info[:]
    initial = {item.name for item in free.graph.initializer}
    for value in (*free.graph.input, *free.graph.output):
        if value.type.WhichOneof("value") == "tensor_type" and value.name not in initial:
            for index, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}_{index}"
    return None if free == case.model else BackendCase(case.name, free, case.feeds)


def with_constants(case: BackendCase, first: int) -> BackendCase | None:
    """Inputs from `first` on become initializers with the numbers of the first set of inputs."""
    if not case.feeds:
        return None
    inputs = [item for item in case.model.graph.input if item.name in case.feeds[0]]
    fixed = {
        item.name: case.feeds[0][item.name]
        for item in inputs[first:]
        if item.type.WhichOneof("value") == "tensor_type" and case.feeds[0][item.name] is not None
    }
    if not fixed:
        return None
    model = copy_of(case.model)
    for name, value in fixed.items():
        model.graph.initializer.append(as_initializer(name, value))
    if model.ir_version >= 4:
        kept = [item for item in model.graph.input if item.name not in fixed]
        del model.graph.input[:]
        model.graph.input.extend(kept)
    rest = {name: value for name, value in case.feeds[0].items() if name not in fixed}
    return BackendCase(case.name, model, (rest,))


def as_initializer(name: str, value: Any) -> TensorProto:
    if isinstance(value, TensorProto):
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    return numpy_helper.from_array(np.asarray(value), name)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def free_and_constant(case: BackendCase) -> BackendCase | None:
    fixed = with_constants(case, 1)
    return None if fixed is None else with_free_sizes(fixed)


def in_a_function(case: BackendCase) -> BackendCase | None:
    """All nodes become the body of one function, initializers its Constant nodes; sizes are free."""
    free = free_and_constant(case)
    if free is None or not free.model.graph.node:
        return None
    model, graph = free.model, free.model.graph
    stored = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in stored]
    constants = [
        onnx.helper.make_node("Constant", [], [item.name], value=item) for item in graph.initializer
    ]
    names = [item.name for item in inputs], [item.name for item in graph.output]
    if set(names[0]) & set(names[1]) or any(item.domain == WRAPPED for item in model.opset_import):
        return None
    body = [*constants, *graph.node]
    function = onnx.helper.make_function(WRAPPED, "Body", *names, body, model.opset_import)
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.input.extend(inputs)
    graph.node.append(onnx.helper.make_node("Body", *names, domain=WRAPPED))
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid(WRAPPED, 1))
    model.ir_version = max(model.ir_version, FIRST_IR_WITH_FUNCTIONS)
    return BackendCase(case.name, model, free.feeds)


FORMS: Mapping[str, Callable[[BackendCase], BackendCase | None]] = dict(
    zip(
        VARIANTS,
        (
            as_given,
            with_free_sizes,
            lambda case: with_constants(case, 1),
            free_and_constant,
            lambda case: with_constants(case, 0),
            in_a_function,
        ),
        strict=True,
    )
)


def survey(variant: str, profile: str, folder: Path) -> Survey:
    """Simplify and judge every trial of a variant."""
    found, not_run = attempts(variant)
    counts = Survey(variant, profile, len(found) + len(not_run), len(found))
    for trial in found:
        try:
            done = simplified(trial.model, profile, folder)
            check(
                trial.model, done.model, trial.feeds, trial.kind, done.allowance(), trial.expected
            )
        except ModelError as error:
            counts.refused[trial.name] = str(error)
        except Mismatch as error:
            counts.failed[trial.name] = str(error)
        except Exception as error:  # noqa: BLE001 -- a crash on one case is a finding, not the end
            counts.failed[trial.name] = f"{type(error).__name__}: {error}"
        else:
            counts.equal += 1
    return counts
