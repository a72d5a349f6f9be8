"""What may grow next: one function for each kind of node, on tensors and on sizes."""

import numpy as np
from onnx import numpy_helper

from hostile.growing import FAR, Grower, Proposal, Proposer


def unary(grower: Grower) -> Proposal:
    name = grower.tensor()
    kinds = ("Neg", "Relu", "Abs", "Tanh", "Identity", "Identity", "Floor", "Sign", "Dropout")
    return Proposal(grower.choice(*kinds), [name])


def between_tensors(grower: Grower) -> Proposal:
    names = [grower.tensor(), grower.tensor()]
    kinds = ("Add", "Sub", "Mul", "Max", "Min")
    return Proposal(grower.choice(*kinds), names)


def with_a_constant(grower: Grower) -> Proposal:
    """Neutral, zero or any constants, of the tensor's shape, of its last dims, or broadcasting it."""
    name = grower.tensor()
    shape = list(grower.values[name].shape)
    shapes = (shape, shape[1:], [1] * len(shape), [], [1, *shape], [2, *shape])
    chosen = grower.choice(*shapes)
    fills = (
        np.zeros,
        np.ones,
        lambda at, _: np.full(at, -0.0, "f"),
        lambda at, _: grower.numbers(at),
    )
    value = np.asarray(grower.choice(*fills)(chosen, np.float32))
    inputs = [name, value] if grower.rng.random() < 0.7 else [value, name]
    return Proposal(grower.choice("Add", "Sub", "Mul", "Div"), inputs)


def transpose(grower: Grower) -> Proposal:
    name = grower.tensor()
    rank = grower.values[name].ndim
    if rank == 0 or grower.rng.random() < 0.2:
        return Proposal("Transpose", [name])
    return Proposal("Transpose", [name], {"perm": grower.rng.permutation(rank).tolist()})


def reshape_by_constant(grower: Grower) -> Proposal:
    name = grower.tensor()
    shape = list(grower.values[name].shape)
    targets = (
        [-1],
        [0, -1],
        [-1, 1],
        [0, 0, -1],
        [1, *shape],
        [-1, *shape[-1:]],
        [-1, 3],
        [0, -1, 2],
    )
    return Proposal("Reshape", [name, np.array(grower.choice(*targets), np.int64)])


def reshape_by_sizes(grower: Grower) -> Proposal:
    name, sizes = grower.tensor(), grower.sizes()
    may_keep_zero = -1 not in grower.values[sizes]  # ONNX forbids 0 beside -1 then
    zero = {"allowzero": 1} if may_keep_zero and grower.rng.random() < 0.3 else {}
    return Proposal("Reshape", [name, sizes], zero)


def expand(grower: Grower) -> Proposal:
    name = grower.tensor()
    rank = grower.values[name].ndim
    fixed = np.array(grower.choice([1] * max(rank, 1), [2, *[1] * rank], [3, 1, 1], [3, 4]))
    return Proposal("Expand", [name, grower.sizes() if grower.rng.random() < 0.7 else fixed])


def squeeze(grower: Grower) -> Proposal:
    """Always with axes: an output's declared rank may not vary with the size."""
    name = grower.pick(lambda value: value.dtype == np.float32 and 1 in value.shape)
    value = grower.values[name]
    axis = grower.choice(*(axis for axis, size in enumerate(value.shape) if size == 1))
    return Proposal("Squeeze", [name, np.array([grower.choice(axis, axis - value.ndim)])])


def unsqueeze(grower: Grower) -> Proposal:
    name = grower.tensor()
    rank = grower.values[name].ndim
    return Proposal("Unsqueeze", [name, np.array(grower.ints(-rank - 1, rank + 1, 1))])


def flatten(grower: Grower) -> Proposal:
    name = grower.tensor()
    rank = grower.values[name].ndim
    return Proposal("Flatten", [name], {"axis": grower.ints(-rank, rank + 1, 1)[0]})


def slice_of_tensor(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    return slice_of(grower, name, grower.values[name].ndim)


def slice_of(grower: Grower, name: str, rank: int) -> Proposal:
    """Backwards never to INT_MAX: ONNX reads that as an empty slice, ONNX Runtime as all of it."""
    axis, step = grower.ints(-rank, rank, 1)[0], grower.choice(1, 1, 1, 2, -1)
    start = grower.choice(0, 0, 1, -1, -2, *FAR)
    end = grower.choice(1, 2, 3, -1, FAR[1], *(FAR if step > 0 else ()))
    return Proposal("Slice", [name, *(np.array([item]) for item in (start, end, axis, step))])


def concat(grower: Grower) -> Proposal:
    names = [grower.tensor() for _ in range(grower.choice(1, 2, 2, 3))]
    rank = max(grower.values[names[0]].ndim, 1)
    return Proposal("Concat", names, {"axis": grower.ints(-rank, rank, 1)[0]})


def split(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    axis = grower.ints(0, grower.values[name].ndim, 1)[0]
    parts = {"axis": axis, "num_outputs": grower.choice(1, 2)}
    return Proposal("Split", [name], parts, parts["num_outputs"])


def gather(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    index = grower.choice(np.array(0), np.array(-1), np.array([0]), np.array([[0, 0]]))
    return Proposal(
        "Gather", [name, index], {"axis": grower.ints(0, grower.values[name].ndim, 1)[0]}
    )


def reduce(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    rank = grower.values[name].ndim
    axes = np.array(grower.ints(-rank, rank, 1))
    return Proposal("ReduceSum", [name, axes], {"keepdims": grower.choice(0, 1)})


def tile(grower: Grower) -> Proposal:
    name = grower.tensor()
    rank = grower.values[name].ndim
    return Proposal(
        "Tile", [name, np.array([grower.choice(1, 1, 2) for _ in range(rank)], np.int64)]
    )


def pad(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    rank = grower.values[name].ndim
    return Proposal("Pad", [name, np.array([grower.choice(0, 0, 0, 1) for _ in range(2 * rank)])])


def where(grower: Grower) -> Proposal:
    mask = grower.pick(lambda value: value.dtype == np.bool_)
    names = [grower.tensor(), grower.tensor()]
    return Proposal("Where", [mask, *names])


def compare(grower: Grower) -> Proposal:
    names = [grower.tensor(), grower.tensor()]
    return Proposal(grower.choice("Greater", "Equal", "Less"), names)


def cast(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype in (np.float32, np.bool_, np.float16))
    return Proposal("Cast", [name], {"to": grower.choice(1, 1, 10)})


def matmul(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.float32 and value.ndim > 0)
    width = grower.values[name].shape[-1]
    return Proposal("MatMul", [name, grower.numbers([width, grower.choice(1, 4)])])


def shape_of(grower: Grower) -> Proposal:
    name = grower.tensor()
    ends = grower.choice({}, {}, {"start": 1}, {"start": -1}, {"end": 1}, {"start": 0, "end": -1})
    return Proposal("Shape", [name], ends)


def size_of(grower: Grower) -> Proposal:
    name = grower.tensor()
    return Proposal("Size", [name])


def pick_a_size(grower: Grower) -> Proposal:
    name = grower.sizes()
    index = grower.choice(*(np.array(item) for item in (0, -1, [0], [-1], [1, 0], [0, -1])))
    return Proposal("Gather", [name, index])


def slice_of_sizes(grower: Grower) -> Proposal:
    name = grower.sizes()
    return slice_of(grower, name, 1)


def join_sizes(grower: Grower) -> Proposal:
    name, other = grower.sizes(), grower.sizes()
    fixed = np.array(grower.choice([1], [-1], [2], [0], [1, 1], [4]))
    parts = grower.choice([name, other], [name, fixed], [fixed, name], [name, fixed, other])
    return Proposal("Concat", parts, {"axis": 0})


def scalar_to_sizes(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype == np.int64 and value.ndim == 0)
    return Proposal("Unsqueeze", [name, np.array([grower.choice(0, -1)])])


def size_arithmetic(grower: Grower) -> Proposal:
    name, other = grower.sizes(), grower.sizes()
    fixed = np.array(grower.choice([1], [2], [-1], [0], [3], 2, 1))
    kinds = ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Mul", "Div")
    pair = grower.choice([name, fixed], [name, other], [fixed, name])
    return Proposal(grower.choice(*kinds), pair)


def size_through_another_type(grower: Grower) -> Proposal:
    name = grower.pick(lambda value: value.dtype in (np.int64, np.int32))
    return Proposal("Cast", [name], {"to": grower.choice(6, 7, 7, 1)})


def compare_sizes(grower: Grower) -> Proposal:
    name, other = grower.sizes(), grower.sizes()
    right = grower.choice(other, np.array([1]), np.array([-1]), np.array(4))
    return Proposal(grower.choice("Equal", "Greater", "Less"), [name, right])


def choose_sizes(grower: Grower) -> Proposal:
    mask = grower.pick(lambda value: value.dtype == np.bool_ and value.ndim <= 1)
    names = [grower.sizes(), grower.sizes()]
    names[grower.choice(0, 1)] = np.array(grower.choice([1], [3], [-1]))
    return Proposal("Where", [mask, *names])


def filled(grower: Grower) -> Proposal:
    name = grower.sizes()
    fill = grower.choice(np.zeros(1, "f"), np.ones(1, "f"), np.array([1]), np.array([-1]))
    return Proposal("ConstantOfShape", [name], {"value": numpy_helper.from_array(fill)})


def product_of_sizes(grower: Grower) -> Proposal:
    name = grower.sizes()
    kind = grower.choice("ReduceProd", "ReduceSum", "ReduceMax")
    return Proposal(kind, [name], {"keepdims": grower.choice(0, 1)})


ON_TENSORS: tuple[Proposer, ...] = (
    unary,
    between_tensors,
    with_a_constant,
    with_a_constant,
    transpose,
    reshape_by_constant,
    reshape_by_sizes,
    reshape_by_sizes,
    expand,
    squeeze,
    unsqueeze,
    flatten,
    slice_of_tensor,
    concat,
    split,
    gather,
    reduce,
    tile,
    pad,
    where,
    compare,
    cast,
    matmul,
)
ON_SIZES: tuple[Proposer, ...] = (
    shape_of,
    shape_of,
    shape_of,
    size_of,
    pick_a_size,
    pick_a_size,
    slice_of_sizes,
    join_sizes,
    join_sizes,
    scalar_to_sizes,
    scalar_to_sizes,
    size_arithmetic,
    size_arithmetic,
    size_arithmetic,
    size_through_another_type,
    compare_sizes,
    choose_sizes,
    choose_sizes,
    filled,
    product_of_sizes,
)
