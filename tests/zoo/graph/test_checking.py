"""The judge itself: it lets equal models pass and catches every model made wrong on purpose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile.cases import CARRIED, CASES, REFUSED, THEMES
from hostile.checking import Allowance, Mismatch, check
from hostile.execution import run_model
from onnx import helper, numpy_helper

from shipway.errors import ModelError
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph

Fault = Callable[[onnx.ModelProto], None]
FAULTS: dict[str, tuple[str, Fault]] = {}


def fault(case: str) -> Callable[[Fault], Fault]:
    def register(spoil: Fault) -> Fault:
        FAULTS[spoil.__name__] = (case, spoil)
        return spoil

    return register


def rewire(model: onnx.ModelProto, old: str, new: str) -> None:
    """Read `new` wherever `old` was read, and drop the node that made `old`."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    for node in [node for node in model.graph.node if old in node.output]:
        model.graph.node.remove(node)


def store(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    for tensor in [item for item in model.graph.initializer if item.name == name]:
        model.graph.initializer.remove(tensor)
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def scale_constant(model: onnx.ModelProto, name: str, factor: float) -> None:
    tensors = {item.name: item for item in model.graph.initializer}
    value = numpy_helper.to_array(tensors[name])
    store(model, name, (value * factor).astype(value.dtype))


@fault("multiply_by_ones_that_broadcast")
def no_op_removed_that_broadcasts(model):
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].input[1]


@fault("two_draws_of_one_tensor")
def draws_merged(model):
    rewire(model, "b", "a")


@fault("draw_without_inputs")
def draw_folded(model):
    rewire(model, "r", "frozen")
    store(model, "frozen", np.random.default_rng(0).random((4, 50), np.float32))


@fault("draw_multiplied_by_constants")
def draw_of_another_range(model):
    scale_constant(model, "k", 1.5)


@fault("draws_with_equal_seeds")
def seed_changed(model):
    model.graph.node[0].attribute[1].f = 9.0


@fault("bernoulli_of_a_constant")
def draw_of_another_probability(model):
    scale_constant(model, "p", 0.5)


@fault("add_zero_loses_negative_zero")
def zero_added_to_negative_zero_removed(model):
    rewire(model, "a", "x")


@fault("negative_zero_is_another_constant")
def zeros_of_both_signs_merged(model):
    rewire(model, "negative", "zero")


@fault("multiply_by_zero_keeps_nan")
def product_with_zero_folded(model):
    rewire(model, "a", "zeros")


@fault("subtract_itself")
def difference_with_itself_folded(model):
    rewire(model, "a", "zeros")


@fault("declared_intermediate_shape_lies")
def declared_size_baked(model):
    rewire(model, "target", "baked")
    store(model, "baked", np.array([-1, 24]))


@fault("slice_beyond_a_free_dim")
def bounds_folded_for_one_size(model):
    store(model, "two", np.array([-3]))


@fault("add_zeros_that_broadcast_a_free_dim")
def free_input_dim_fixed(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


@fault("slice_to_int64_max_on_free_dim")
def free_output_dim_fixed(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


@fault("unread_input")
def unread_input_dropped(model):
    del model.graph.input[1]


@fault("input_is_output")
def outputs_reordered(model):
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))


@fault("identity_alone")
def output_renamed_to_the_input(model):
    del model.graph.node[:]
    model.graph.output[0].name = "x"


@fault("overridable_initializer")
def default_frozen(model):
    del model.graph.input[1]


@fault("overridable_initializer")
def default_made_required(model):
    del model.graph.initializer[:]


@fault("cast_through_int32")
def lossy_cast_pair_removed(model):
    rewire(model, "a", "x")


@fault("folded_int64_wraps")
def folded_integer_off_by_one(model):
    rewire(model, "b", "wrong")
    store(model, "wrong", np.array([2, 9]))


@fault("softmax_of_opset_11")
def opset_raised_without_conversion(model):
    model.opset_import[0].version = 13


@fault("if_whose_branch_returns_outer_values")
def branch_changed(model):
    branch = model.graph.node[0].attribute[1].g
    branch.node[0].op_type = "Identity"


@fault("loop_that_swaps_what_it_carries")
def loop_body_changed(model):
    body = model.graph.node[0].attribute[0].g
    body.node[0].input[0], body.node[1].input[0] = body.node[1].input[0], body.node[0].input[0]


@fault("function_with_an_attribute")
def attribute_of_a_function_call_changed(model):
    model.graph.node[1].attribute[0].f = 2.0


@fault("sequence_as_input_and_output")
def sequence_in_another_order(model):
    store(model, "first", np.array(0))
    model.graph.node[0].input.append("first")


@fault("custom_called_twice")
def custom_calls_merged(model):
    rewire(model, "b", "a")


@fault("custom_of_constants_only")
def custom_folded(model):
    rewire(model, "g", "k")


@fault("standard_name_in_another_domain")
def custom_taken_for_the_standard(model):
    model.graph.node[0].domain = ""


@fault("quantised_weights_stay_quantised")
def quantised_weight_widened(model):
    wide = helper.make_tensor_value_info("wide", onnx.TensorProto.FLOAT, [64, 32])
    model.graph.output.append(wide)
    weight = run_model(model, [{"x": np.zeros((3, 64), np.float32)}])[0]["wide"]
    del model.graph.output[1]
    rewire(model, "wide", "stored")
    store(model, "stored", weight)


@fault("product_read_twice_before_add")
def node_added(model):
    model.graph.node.append(helper.make_node("Identity", ["y"], ["nobody"]))


@fault("outer_nodes_read_only_inside_branches")
def node_added_inside_a_branch(model):
    branch = model.graph.node[-1].attribute[0].g
    branch.node.append(helper.make_node("Identity", [branch.output[0].name], ["nobody"]))


@fault("transposed_weight_read_both_ways")
def weight_stored_twice(model):
    weight = numpy_helper.to_array(model.graph.initializer[0])
    rewire(model, "t", "turned")
    store(model, "turned", np.ascontiguousarray(weight.T))


@fault("clip_relu_clip")
def nodes_out_of_order(model):
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


@fault("transpose_without_perm")
def stale_value_info(model):
    lie = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["N", 4, 4])
    model.graph.value_info.append(lie)


@fault("two_norms_share_one_weight")
def shared_weight_overwritten(model):
    scale_constant(model, "w", 1.01)


@fault("conv_plus_vector_on_width")
def last_digit_changed_by_an_exact_rule(model):
    scale_constant(model, "k", 1 + 2**-22)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    case_name, spoil = FAULTS[name]
    case = CASES[case_name]
    spoiled = case.model
    spoil(spoiled)
    with pytest.raises(Mismatch):
        check(case.model, spoiled, case.feeds, case.kind, Allowance(keeps=case.keeps))


@pytest.mark.parametrize(("factor", "passes"), [(1 + 2**-22, True), (1 + 1e-4, False)])
def test_reassociation_may_change_last_digits_only(factor: float, passes: bool) -> None:
    case = CASES["conv_plus_vector_on_width"]
    changed = case.model
    scale_constant(changed, "w", factor)
    if passes:
        check(case.model, changed, case.feeds, allowance=Allowance(exact=False))
    else:
        with pytest.raises(Mismatch):
            check(case.model, changed, case.feeds, allowance=Allowance(exact=False))


def test_every_case_runs_and_has_feeds() -> None:
    assert len(CASES) >= 200
    for case in CASES.values():
        assert len(run_model(case.model, case.feeds)) == len(case.feeds) >= 1


def test_every_theme_has_cases() -> None:
    themes = {case.write.__module__ for case in CASES.values()}
    assert themes == {theme.__name__ for theme in THEMES}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_carried_is_refused(name: str, tmp_path: Path) -> None:
    onnx.save(CASES[name].model, tmp_path / "before.onnx")
    with pytest.raises(ModelError, match="cannot carry"):
        load_graph(tmp_path / "before.onnx")


@pytest.mark.parametrize("name", CARRIED)
def test_loading_and_saving_changes_nothing(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    onnx.save(case.model, tmp_path / "before.onnx")
    save_graph(load_graph(tmp_path / "before.onnx"), tmp_path / "after.onnx")
    after = onnx.load(tmp_path / "after.onnx")
    check(case.model, after, case.feeds, case.kind, Allowance(keeps=case.keeps))
