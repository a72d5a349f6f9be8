"""The program as a golden: every tensor, pure and teacher-forced."""

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.errors import EngineError, ModelError, TensorError, UsageError
from shipway.export.name_map import NameMap, TensorEntry, write_name_map
from shipway.export.portable import PortableModel
from shipway.ops.defining import custom_op
from shipway.source.programs import program_inputs
from shipway.tensors import TensorSpec, random_feeds
from shipway.trace.program_golden import open_program_golden


class Residual(nn.Module):
    """Convolutions, batch norm, an activation in place, a residual."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, image):
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.conv2(x) + x)
        return {"logits": self.head(x.mean((2, 3))), "features": x}


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width=8):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Recurrent(nn.Module):
    """A bidirectional LSTM, whose tuple is taken apart."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        y, (h, _) = self.lstm(x)
        return self.head(y), h


class Writes(nn.Module):
    """Writes through a view, into a buffer, and into its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        y = x * 2
        y[:, 0].add_(self.calls)
        x.mul_(3)
        return y.flatten() + x.flatten()


class Choice(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda a: a.sin() + 1, lambda a: a.cos() - 1, (x,)).relu()


NETS = {
    "residual": (Residual, (2, 3, 6, 6)),
    "block": (Block, (2, 5, 8)),
    "recurrent": (Recurrent, (2, 5, 4)),
    "writes": (Writes, (2, 3)),
    "choice": (Choice, (2, 3)),
}


def save_model(folder: Path, module: nn.Module, *args, **options) -> PortableModel:
    """Export a module; its outputs are called out_0, out_1, ... in the order of the program."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an LSTM's flat weights
        program = torch.export.export(module.eval(), args, **options)
    path = folder / "net.pt2"
    torch.export.save(program, path)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    specs = []
    for item in program.graph_signature.user_outputs:
        value = values[item]
        dims = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
        dtype = str(value.dtype).removeprefix("torch.")
        specs.append(TensorSpec(f"out_{len(specs)}", dtype, dims))
    return PortableModel(program_inputs(program, path), tuple(specs), program=path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every net of NETS, exported once."""
    made = {}
    for name, (network, shape) in NETS.items():
        torch.manual_seed(1)
        module = network()
        with torch.no_grad():
            for key, value in module.named_buffers():
                if key.endswith("running_mean"):
                    value.normal_(0, 0.2)
        made[name] = save_model(tmp_path_factory.mktemp(name), module, torch.randn(shape))
    return made


def nothing(_name):
    return None


def walk(golden, feeds, actual=nothing, names=None):
    return {step.tap.name: step for step in golden.walk(feeds, actual, names)}


def feeds_of(model, seed=3):
    return random_feeds(model.inputs, seed=seed)


@pytest.mark.parametrize("name", NETS)
def test_a_plain_walk_gives_the_numbers_of_the_model(models, name):
    """Every output is bit for bit what the program gives as a whole, and computed once."""
    model = models[name]
    golden = open_program_golden(model, threads=1)
    feeds = feeds_of(model)
    seen = walk(golden, feeds)
    torch.set_num_threads(1)
    module = torch.export.load(model.program).module()
    with torch.no_grad():
        result = module(*(torch.from_numpy(feeds[spec.name].copy()) for spec in model.inputs))
    leaves = torch.utils._pytree.tree_leaves(result)
    assert list(golden.outputs) == [spec.name for spec in model.outputs]
    for leaf, tap in zip(leaves, golden.outputs.values(), strict=True):
        np.testing.assert_array_equal(seen[tap].value, leaf.numpy())
    assert list(seen) == [tap.name for tap in golden.taps]
    assert [tap.order for tap in golden.taps] == list(range(len(golden.taps)))
    assert all(step.local is step.value for step in seen.values())
    assert all(step.value.flags.c_contiguous for step in seen.values())


@pytest.mark.parametrize("name", NETS)
def test_forcing_what_golden_computed_itself_changes_nothing(models, name):
    """The second execution does not even begin."""
    golden = open_program_golden(models[name], threads=1)
    feeds = feeds_of(models[name])
    plain = walk(golden, feeds)
    again = walk(golden, feeds, lambda tensor: plain[tensor].value)
    assert again.keys() == plain.keys()
    for step in again.values():
        assert step.local is step.value
        np.testing.assert_array_equal(step.value, plain[step.tap.name].value)


@pytest.mark.parametrize("name", ["residual", "block", "recurrent", "writes"])
def test_a_forced_tensor_changes_what_reads_it_and_nothing_else(models, name):
    """With every tensor forced, only the direct readers of the one that differs are computed anew."""
    model = models[name]
    golden = open_program_golden(model, threads=1)
    feeds = feeds_of(model)
    plain = walk(golden, feeds)
    graph = torch.export.load(model.program).graph
    readers = {node.name: {user.name for user in node.users} for node in graph.nodes}
    changed = 0
    for tap in golden.taps:
        if tap.kind == "input" or plain[tap.name].value.dtype.kind != "f":
            continue

        def actual(tensor, faulty=tap.name):
            value = plain[tensor].value
            return value + 1 if tensor == faulty else value

        seen = walk(golden, feeds, actual)
        differing = {one for one, step in seen.items() if step.local is not step.value}
        differing = {
            one for one in differing if seen[one].local.tobytes() != seen[one].value.tobytes()
        }
        for one, step in seen.items():
            np.testing.assert_array_equal(step.value, plain[one].value, err_msg=f"{tap.name} {one}")
        if name != "writes":  # there, a view's memory is read under another name
            tuples = {user for one in readers[tap.name] for user in readers[one]}
            assert differing <= readers[tap.name] | tuples, tap.name
        changed += bool(differing)
    assert changed >= 2


def test_a_write_through_a_view_reaches_the_forced_tensor(models):
    """What is forced on `y` is what `y[:, 0].add_` writes into, in the second execution alone."""
    golden = open_program_golden(models["writes"], threads=1)
    feeds = feeds_of(models["writes"])
    plain = walk(golden, feeds)
    (product,) = (tap.name for tap in golden.taps if tap.op == "aten.mul.Tensor")
    seen = walk(golden, feeds, lambda name: plain[product].value * 0 if name == product else None)
    x = feeds["x"]
    last = golden.outputs["out_0"]
    y = 2 * x
    y[:, 0] += 1
    np.testing.assert_array_equal(seen[last].value, (y + 3 * x).ravel())
    expected = np.zeros_like(x)
    expected[:, 0] = 1
    np.testing.assert_array_equal(seen[last].local, (expected + 3 * x).ravel())
    np.testing.assert_array_equal(feeds["x"], feeds_of(models["writes"])["x"])
    # A second walk starts from the state that was exported: the buffer has not been counted up.
    np.testing.assert_array_equal(walk(golden, feeds)[last].value, plain[last].value)


def test_taps_say_where_they_come_from(models):
    """Operator, module, its class, and the line of the user's own file."""
    golden = open_program_golden(models["block"])
    taps = {tap.op: tap for tap in golden.taps}
    gelu = taps["aten.gelu.default"]
    assert (gelu.module, gelu.module_class) == ("mlp.1", "torch.nn.modules.activation.GELU")
    assert gelu.source.startswith("test_program_golden.py:")
    assert gelu.code == "return x + self.mlp(self.norm2(x))"
    assert golden.taps[0].kind == "input"
    assert {tap.kind for tap in golden.taps if tap.name in golden.outputs.values()} == {"output"}


def test_tuples_are_taken_apart(models):
    """An LSTM gives three tensors, each a tap of its own; the tuple is none."""
    golden = open_program_golden(models["recurrent"])
    parts = [tap.op for tap in golden.taps if "lstm" in tap.op]
    assert parts == [f"aten.lstm.input[{at}]" for at in range(3)]


def test_the_inside_of_a_branch_is_explained(models):
    """It is not shown, and the golden says so; the result of the branch is shown."""
    golden = open_program_golden(models["choice"])
    assert set(golden.untapped.values()) == {
        "inside a branch or loop, of which the result is shown"
    }
    assert any(tap.op.startswith("cond") for tap in golden.taps)


def test_names_come_from_the_name_map(models, tmp_path):
    """First the ONNX value that holds the tensor, then the name the user knows."""
    entry = TensorEntry("linear", "aten.linear.default", "float32", (2, 2), "kept", onnx="logits_v")
    path = tmp_path / "net.map.json"
    write_name_map(NameMap("net.onnx", "net.pt2", "torch.export", (entry,), ()), path)
    model = models["residual"]
    mapped = PortableModel(model.inputs, model.outputs, program=model.program, name_map=path)
    taps = {tap.name: tap for tap in open_program_golden(mapped).taps}
    assert taps["linear"].names == ("logits_v", "out_0")
    assert taps["image"].names == ("image",)


@pytest.mark.parametrize("name", NETS)
def test_double_precision_is_double_throughout(models, name):
    """No float32 is left between the operators, and the numbers are those of float32 but nearer."""
    single = walk(open_program_golden(models[name], threads=1), feeds_of(models[name]))
    golden = open_program_golden(models[name], double=True, threads=1)
    assert golden.title == "torch in float64 (net.pt2)"
    assert golden.effective["precision"] == "f64"
    seen = walk(golden, feeds_of(models[name]))
    assert seen.keys() == single.keys()
    for one, step in seen.items():
        if single[one].value.dtype == np.float32:
            assert step.value.dtype == np.float64
            np.testing.assert_allclose(step.value, single[one].value, rtol=1e-4, atol=1e-5)
    worst = max(
        np.abs(step.value - step.value.astype(np.float32)).max()
        for one, step in seen.items()
        if step.tap.kind == "value" and single[one].value.dtype == np.float32
    )
    assert worst > 0 or name == "writes"


def test_double_precision_follows_casts(tmp_path):
    """`x.to(torch.float32)` and torch.zeros in forward are part of the precision."""

    class Casts(nn.Module):
        def forward(self, x, n):
            y = x.to(torch.float32) / 3 + torch.zeros(3)
            return y @ torch.ones(3, 3) + n / 7 + torch.arange(3) / 3

    model = save_model(tmp_path, Casts(), torch.randn(2, 3), torch.arange(3))
    seen = walk(open_program_golden(model, double=True), feeds_of(model))
    assert {step.value.dtype.name for step in seen.values()} == {"float64", "int64"}


def test_engine_tensors_of_any_dtype_and_layout_are_taken(models):
    """bfloat16, float16, another memory order, another shape with as many elements."""
    golden = open_program_golden(models["block"], threads=1)
    feeds = feeds_of(models["block"])
    plain = walk(golden, feeds)
    name = next(tap.name for tap in golden.taps if tap.op == "aten.gelu.default")
    value = plain[name].value
    for given in (
        value.astype(ml_dtypes.bfloat16),
        value.astype(np.float16),
        np.asfortranarray(value),
        value.reshape(-1),
    ):
        seen = walk(golden, feeds, lambda one, given=given: given if one == name else None)
        changed = [one for one, step in seen.items() if step.local is not step.value]
        assert bool(changed) == (given.dtype != np.float32)


def test_nan_from_the_engine_travels_only_locally(models):
    """NaN equals itself: forced twice with the same NaN, nothing is computed apart."""
    golden = open_program_golden(models["block"], threads=1)
    feeds = feeds_of(models["block"])
    name = next(tap.name for tap in golden.taps if tap.op == "aten.gelu.default")
    value = walk(golden, feeds)[name].value.copy()
    value[0, 0, 0] = np.nan
    seen = walk(golden, feeds, lambda one: value if one == name else None)
    output = seen[golden.outputs["out_0"]]
    assert np.isfinite(output.value).all()
    assert np.isnan(output.local[0, 0]).all()
    assert np.isfinite(output.local[0, 1:]).all()
    feeds["x"][0, 0, 0] = np.nan
    poisoned = walk(golden, feeds)
    again = walk(golden, feeds, lambda one: poisoned[one].value)
    assert all(step.local is step.value for step in again.values())


def test_a_dynamic_batch(tmp_path):
    """Sizes are those of the feeds, one after the other; a size out of range is refused."""
    batch = torch.export.Dim("batch", min=1, max=8)
    model = save_model(tmp_path, Block(), torch.randn(2, 5, 8), dynamic_shapes=({0: batch},))
    golden = open_program_golden(model)
    for size in (1, 4):
        feeds = random_feeds(model.inputs, sizes=dict.fromkeys(model.inputs[0].dynamic_dims, size))
        assert walk(golden, feeds)[golden.outputs["out_0"]].value.shape == (size, 5, 8)
    feeds = random_feeds(model.inputs, sizes=dict.fromkeys(model.inputs[0].dynamic_dims, 9))
    with pytest.raises(TensorError, match="axis 0 is 9"):
        walk(golden, feeds)


def test_a_custom_operator_runs_its_reference(tmp_path):
    """Never its kernel; and the golden says so."""

    def reference(x, k=1):
        return functional.relu(x) * k

    op = custom_op("golden_test::scaled", schema="(Tensor x, int k=1) -> Tensor", types="T->T")(
        reference
    )

    class Calls(nn.Module):
        def forward(self, x):
            return op(x, 3) + 1

    model = save_model(tmp_path, Calls(), torch.randn(2, 3))
    golden = open_program_golden(model)
    assert golden.effective["custom_ops"] == "golden_test::scaled: reference"
    feeds = feeds_of(model)
    seen = walk(golden, feeds)
    (tap,) = (tap for tap in golden.taps if "golden_test" in tap.op)
    np.testing.assert_array_equal(seen[tap.name].value, np.maximum(feeds["x"], 0) * 3)
    assert walk(open_program_golden(model, double=True), feeds)[tap.name].value.dtype == np.float64


def test_random_operators_draw_the_same_numbers_every_time(tmp_path):
    """Pure and forced, walk after walk, whatever the caller draws in between."""

    class Draws(nn.Module):
        def forward(self, x):
            return torch.rand_like(x) + x, torch.rand_like(x * 2)

    model = save_model(tmp_path, Draws(), torch.randn(2, 3))
    golden = open_program_golden(model)
    feeds = feeds_of(model)
    plain = walk(golden, feeds)
    torch.rand(5)
    state = torch.get_rng_state()
    product = next(tap.name for tap in golden.taps if tap.op == "aten.mul.Tensor")
    seen = walk(golden, feeds, lambda one: plain[one].value + 1 if one == product else None)
    assert torch.equal(torch.get_rng_state(), state)
    for one, step in seen.items():
        np.testing.assert_array_equal(step.value, plain[one].value)
        np.testing.assert_array_equal(step.local, plain[one].value)


def test_shapes_from_scalars_to_nothing(tmp_path):
    """0-d tensors, empty ones, booleans, an output that is an input or a weight."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x.sum(), x[:0], x > 0, x, self.weight, x.expand(3, 2, 3)

    model = save_model(tmp_path, Odd(), torch.randn(2, 3))
    golden = open_program_golden(model)
    plain = walk(golden, feeds_of(model))
    shapes = [plain[tap].value.shape for tap in golden.outputs.values()]
    assert shapes == [(), (0, 3), (2, 3), (2, 3), (2,), (3, 2, 3)]
    again = walk(golden, feeds_of(model), lambda one: plain[one].value)
    assert all(step.local is step.value for step in again.values())


def test_names_choose_what_is_copied(models):
    """The others are still asked for: they are forced all the same."""
    golden = open_program_golden(models["block"])
    asked = []
    seen = walk(golden, feeds_of(models["block"]), asked.append, ["gelu"])
    assert list(seen) == ["gelu"]
    assert asked == [tap.name for tap in golden.taps if tap.kind != "input"]
    with pytest.raises(UsageError, match="no tensor 'gelo'"):
        walk(golden, feeds_of(models["block"]), nothing, ["gelo"])


def test_what_does_not_fit_is_refused(models, tmp_path):
    """Feeds, engine tensors, models without a program."""
    golden = open_program_golden(models["block"])
    with pytest.raises(TensorError, match="x"):
        walk(golden, {})
    with pytest.raises(TensorError, match=r"'gelu' is \[3\]; golden's is \[2, 5, 16\]"):
        walk(golden, feeds_of(models["block"]), lambda one: np.ones(3) if one == "gelu" else None)
    with pytest.raises(ModelError, match="needs the model as an exported program"):
        open_program_golden(PortableModel((), (), onnx=tmp_path / "x.onnx"))


def test_an_operator_that_fails_is_named(tmp_path):
    """With its line in the user's file."""

    class Fails(nn.Module):
        def forward(self, x, at):
            return x[at] + 1

    model = save_model(tmp_path, Fails(), torch.randn(3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(EngineError, match=r"failed at index \(aten.index.Tensor, test_program_g"):
        walk(
            open_program_golden(model),
            {"x": np.ones(3, np.float32), "at": np.array([0, 7])},
        )


def test_sizes_that_depend_on_data_may_differ_between_the_two(tmp_path):
    """The engine found another number of boxes: what is behind it is of its size."""

    class Boxes(nn.Module):
        def forward(self, x):
            kept = (x * 2).nonzero()
            return kept.to(torch.float32) * 0.5

    model = save_model(tmp_path, Boxes(), torch.ones(4))
    golden = open_program_golden(model)
    feeds = {"x": np.array([1, 0, 2, 3], np.float32)}
    forced = np.array([1, 0, 0, 3], np.float32)
    engine = {"mul": forced, "nonzero": np.array([[0], [3]])}
    seen = walk(golden, feeds, engine.get)
    last = seen[golden.outputs["out_0"]]
    np.testing.assert_array_equal(last.value, [[0], [1], [1.5]])
    np.testing.assert_array_equal(last.local, [[0], [1.5]])


def test_what_runs_without_gradients_or_under_autocast_inside_is_shown_as_its_result(tmp_path):
    """torch.export makes a graph of its own of such a block."""

    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            with torch.no_grad():
                y = self.inner(x).relu()
            with torch.autocast("cpu", torch.bfloat16):
                z = self.inner(y)
            return z.float() + y

    model = save_model(tmp_path, Blocks(), torch.randn(2, 3))
    golden = open_program_golden(model, threads=1)
    feeds = feeds_of(model)
    plain = walk(golden, feeds)
    (tap,) = golden.outputs.values()
    assert np.isfinite(plain[tap].value).all()
    again = walk(golden, feeds, lambda one: plain[one].value)
    assert all(step.local is step.value for step in again.values())
    double = walk(open_program_golden(model, double=True), feeds)[tap].value
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, plain[tap].value, rtol=0.05, atol=0.05)
