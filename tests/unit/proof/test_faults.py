"""Every rule of the catalogue, made wrong on purpose: the proof fails, and bisection names rule and node.

The fault is put where rules are carried out, so that those that are no functions of a node (folding,
numbering, flattening, removal of what is unread) are reached like the others.
"""

from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from fault_models import MODELS, PROFILES, SIZES
from onnx import numpy_helper

from shipway.errors import EngineError, ModelError
from shipway.graph import applying, numbering, uncalled
from shipway.graph.applying import Applier
from shipway.graph.journal import Journal
from shipway.graph.library import Library
from shipway.graph.loading import load_graph
from shipway.graph.passes import catalogue
from shipway.graph.rules import FINITE, Rewrite, Rule
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph
from shipway.proof.graph import prove_graphs
from shipway.proof.graph_bisect import bisect_simplification


def test_every_rule_has_a_model():
    """A rule that is added without one is not known to be caught when it is wrong."""
    by_itself = {"drop_uncalled_functions"}  # it has no node: see the test of its own
    assert {rule.name for rule in catalogue.ALL_RULES} - MODELS.keys() - by_itself == set()


class Fault:
    """Makes the first result of one rule wrong, each time a model is simplified.

    Floating-point results get a constant more, integers one more, booleans are negated. Operands
    that a rule exchanges are spoiled the same way. To what removes unread nodes, a node that is
    read passes for one.
    """

    def __init__(self, name):
        self.name = name
        self.node = ""
        self._spoiled = []  # kept, so that no two have one id
        self._apply, self._apply_all = Applier.apply, Applier.apply_all
        self._remove_unread = Applier.remove_unread

    def install(self, monkeypatch):
        for method in ("apply", "apply_all", "remove_unread"):
            fault = getattr(self, method)
            monkeypatch.setattr(
                Applier, method, lambda applier, *words, fault=fault: fault(applier, *words)
            )

    def apply(self, applier, rule, node, rewrite):
        if not self._is_due(applier, rule):
            return self._apply(applier, rule, node, rewrite)
        wrong = self._spoil_rewrite(applier, node, rewrite)
        if wrong is not None:
            self._note(applier, node)
        return self._apply(applier, rule, node, wrong or rewrite)

    def apply_all(self, applier, rule, steps):
        if self._is_due(applier, rule):
            steps = list(steps)
            for index in reversed(range(len(steps))):
                wrong = self._spoil_rewrite(applier, *steps[index])
                if wrong is not None:
                    self._note(applier, steps[0][0])
                    steps[index] = (steps[index][0], wrong)
                    break
        return self._apply_all(applier, rule, steps)

    def remove_unread(self, applier, graph):
        rule = applying.UNREAD
        node = next((one for one in graph if one.op_type == "Neg"), None)
        if self._is_due(applier, rule) and node is not None:
            self._note(applier, node)
            self._apply(applier, rule, node, Rewrite((node.inputs[0],)))
        self._remove_unread(applier, graph)

    def _is_due(self, applier, rule):
        done = any(one is applier for one in self._spoiled)
        return rule.name == self.name and not applier.is_done and not done

    def _note(self, applier, node):
        self.node = node.name
        self._spoiled.append(applier)

    def _spoil_rewrite(self, applier, node, rewrite):
        view = applier.view
        if rewrite.operands:
            # The last one: a constant that is added to all keys of an attention changes nothing.
            index, value = list(rewrite.operands.items())[-1]
            spoiled = self._spoil(view, value, value.dtype or view.fact(node.inputs[index]).dtype)
            if spoiled is None:
                return None
            for one in spoiled.nodes:
                one.outputs[0].name = view.unique_name("spoiled")
            node.graph.insert_before(node, spoiled.nodes)
            return replace(rewrite, operands={**rewrite.operands, index: spoiled.values[0]})
        places = [at for at, value in enumerate(rewrite.values) if value is not None]
        if not places:
            return None
        dtype = view.fact(node.outputs[places[0]]).dtype or rewrite.values[places[0]].dtype
        spoiled = self._spoil(view, rewrite.values[places[0]], dtype)
        if spoiled is None:
            return None
        values = list(rewrite.values)
        values[places[0]] = spoiled.values[0]
        return Rewrite(tuple(values), (*rewrite.nodes, *spoiled.nodes))

    @staticmethod
    def _spoil(view, value, dtype):
        if dtype is None:
            return None  # a sequence: what is taken out of it is spoiled
        if dtype.numpy() == np.bool_:
            wrong = view.node("Not", [value])
        else:
            wrong = view.node("Add", [value, view.constant(np.ones((), dtype.numpy()))])
        return Rewrite((wrong.outputs[0],), (wrong,))


def save(path, text, weights, opset=23):
    head = f'<ir_version: 11, opset_import: ["" : {opset}]>\nmain '
    proto = onnx.parser.parse_model(head + text)
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for index, node in enumerate(proto.graph.node):
        node.name = f"block {index}/{node.op_type}"
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def judge(folder, before, sizes=None, profile="modern", **how):
    """Simplify a model with the fault in place; return the change that the failed proof is about."""
    options = SimplifyOptions(profile=profile)
    how["nonempty"] = True
    model = load_graph(before)
    simplify_graph(model, options)
    save_graph(model, folder / "after.onnx")
    proof = prove_graphs(before, folder / "after.onnx", sizes=sizes, **how)
    assert not proof.passed
    culprit = bisect_simplification(before, options, folder, proof, **how)
    assert culprit.to_json()["reasons"]
    return culprit.change


@pytest.mark.parametrize("name", MODELS)
def test_a_rule_that_is_wrong_is_caught_and_named(tmp_path, monkeypatch, name):
    text, weights = MODELS[name]
    profile, opset = PROFILES.get(name, ("modern", 23))
    before = save(tmp_path / "before.onnx", text, weights, opset)
    model = load_graph(before)
    result = simplify_graph(model, SimplifyOptions(profile=profile))
    assert name in result.rules, "the rule does not fire"
    save_graph(model, tmp_path / "right.onnx")
    how = {"sizes": SIZES.get(name), "finite": FINITE in result.assumes}
    assert prove_graphs(before, tmp_path / "right.onnx", nonempty=True, **how).passed
    fault = Fault(name)
    fault.install(monkeypatch)
    change = judge(tmp_path, before, profile=profile, **how)
    assert (change.rule, change.node) == (name, fault.node)


def test_numbering_that_overlooks_attributes_is_caught_and_named(tmp_path, monkeypatch):
    """A fault of its own kind: two nodes that differ in an attribute pass for equal."""
    text = (
        "(float[n,4] x) => (float[n,4] y) "
        "{ a = LeakyRelu<alpha=0.1>(x)  b = LeakyRelu<alpha=0.2>(x)  y = Sub(a, b) }"
    )
    before = save(tmp_path / "before.onnx", text, {})
    monkeypatch.setattr(numbering, "freeze_attributes", lambda _attributes: ())
    change = judge(tmp_path, before)
    assert (change.rule, change.node) == ("merge_equal_nodes", "block 1/LeakyRelu")


def test_a_wrong_axis_is_caught_and_named(tmp_path, monkeypatch):
    """Of a rule that makes a node with an attribute: the transpose of a transpose, forwards."""
    right = next(rule for rule in catalogue.ALL_RULES if rule.name == "merge_transposes")

    def propose(node, view):
        rewrite = right.propose(node, view)
        if rewrite is None or not rewrite.nodes:
            return rewrite
        (merged,) = rewrite.nodes
        order = list(reversed(merged.attributes["perm"].as_ints()))
        wrong = view.node("Transpose", merged.inputs, {"perm": order})
        return Rewrite((wrong.outputs[0],), (wrong,))

    spoil_catalogue(monkeypatch, replace(right, propose=propose))
    text, weights = MODELS["merge_transposes"]
    change = judge(tmp_path, save(tmp_path / "before.onnx", text, weights))
    assert (change.rule, change.node) == ("merge_transposes", "block 1/Transpose")


def test_swapped_operands_are_caught_and_named(tmp_path, monkeypatch):
    """Of a division."""
    right = next(rule for rule in catalogue.ALL_RULES if rule.name == "fuse_reciprocals")

    def propose(node, view):
        rewrite = right.propose(node, view)
        if rewrite is None:
            return None
        wrong = view.node("Div", list(reversed(rewrite.nodes[-1].inputs)))
        return Rewrite((wrong.outputs[0],), (wrong,))

    spoil_catalogue(monkeypatch, replace(right, propose=propose))
    text, weights = MODELS["fuse_reciprocals"]
    change = judge(tmp_path, save(tmp_path / "before.onnx", text, weights))
    assert (change.rule, change.node) == ("fuse_reciprocals", "block 1/Mul")


def test_a_wrong_assumption_is_caught_and_named(tmp_path, monkeypatch):
    """One that takes every number for positive."""
    wrong = Rule(
        "drop_rectifiers",
        "assumption",
        "Drops them.",
        ("Relu",),
        lambda node, _view: Rewrite((node.inputs[0],)),
        assumes=("x >= 0",),
    )
    profiles = {"modern": (*catalogue.PROFILES["modern"], wrong)}
    monkeypatch.setattr(catalogue, "PROFILES", profiles)
    text = "(float[n,4] x) => (float[n,4] y) { a = Identity(x)  r = Relu(a)  y = Neg(r) }"
    before = save(tmp_path / "before.onnx", text, {})
    change = judge(tmp_path, before)
    assert (change.rule, change.node) == ("drop_rectifiers", "block 1/Relu")


def spoil_catalogue(monkeypatch, wrong):
    rules = tuple(
        wrong if rule.name == wrong.name else rule for rule in catalogue.PROFILES["modern"]
    )
    monkeypatch.setattr(catalogue, "PROFILES", {"modern": rules})


def test_a_function_that_is_dropped_though_it_is_called_is_caught(tmp_path, monkeypatch):
    """The model does not even load, so that there is nothing to bisect."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "l" : 1]>\n'
        "main (float[n] x) => (float[n] y) { a = Identity(x)  y = l.f(a) }\n"
        '<domain: "l", opset_import: ["" : 20]> f (x) => (y) { e = Exp(x)  y = Neg(e) }'
    )
    onnx.save(proto, tmp_path / "before.onnx")
    monkeypatch.setattr(uncalled, "called_functions", lambda _model, _library: set())
    model = load_graph(tmp_path / "before.onnx")
    dropped = uncalled.drop_uncalled_functions(
        model, Library(model), tuple(model.functions.values()), Journal(None)
    )
    assert [one.name for one in dropped] == ["f"]
    save_graph(model, tmp_path / "after.onnx")
    with pytest.raises((EngineError, ModelError), match="l::f"):
        prove_graphs(tmp_path / "before.onnx", tmp_path / "after.onnx", nonempty=True)
