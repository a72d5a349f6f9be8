"""Writes a model with declarations that execution confirms in place of those it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from shipway.graph.facts.dims import Dim as Size
from shipway.graph.facts.inference import infer_graph
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.proof.audit import Audited
from shipway.proof.audit_declared import Run
from shipway.proof.audit_inputs import read_inputs
from shipway.proof.audit_results import Dim

__all__ = ["Mended", "mend_declarations"]

_SHAPES, _DTYPES, _NAMES = "false-shape", "false-dtype", "one-name"


@dataclass(frozen=True, slots=True)
class Mended:
    """What was written.

    Args:
        path: The file.
        replaced: Values that declare what is inferred now.
        opened: Values of which some size, which nothing infers, is left open now.
        dropped: Values that declare no shape any more.
        files: Names of the files it consists of.
    """

    path: Path
    replaced: tuple[str, ...]
    opened: tuple[str, ...]
    dropped: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def words(self) -> str:
        """Say how many values are declared anew."""
        return (
            f"{len(self.replaced)} declarations replaced, {len(self.opened)} with sizes left open, "
            f"{len(self.dropped)} dropped"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "path": str(self.path),
            "replaced": list(self.replaced),
            "opened": list(self.opened),
            "dropped": list(self.dropped),
            "files": list(self.files),
        }


def mend_declarations(path: Path, audited: Audited, target: Path) -> Mended:
    """Replace false declarations of a model's values by what its inputs and weights imply.

    A size is taken over where every run of the audit confirms it, and left open otherwise. Inputs
    stay as they are: what they promise and the model does not keep is for its author to mend.

    Args:
        path: The audited file.
        audited: What the audit found.
        target: Where to write; it may be the same file.

    Raises:
        ModelError: The file cannot be read.
        OutputError: The target cannot be written.
    """
    model = load_graph(path)
    knowledge = Knowledge.of_model(model)
    infer_graph(model.graph, knowledge)
    names = frozenset(read_inputs(model).names)
    done: dict[str, list[str]] = {"replaced": [], "opened": [], "dropped": []}
    false = {kind: set[str]() for kind in (_SHAPES, _DTYPES, _NAMES)}
    for finding in audited.audit.findings:
        if finding.kind in false:
            false[finding.kind].add(finding.value)
    for value in _values(model):
        name = value.name or ""
        if name in false[_DTYPES]:
            value.type = ir.TensorType(audited.dtypes[name])
            done["replaced"].append(name)
        if name in false[_SHAPES] or false[_NAMES] & _dim_names(value):
            runs = [run for run in audited.runs if name in run.shapes]
            shape = _confirmed(knowledge.fact(value).shape, name, runs, names)
            done[_declare(value, shape)].append(name)
    companions = save_graph(model, target)
    replaced, opened, dropped = (tuple(dict.fromkeys(one)) for one in done.values())
    return Mended(target, replaced, opened, dropped, (target.name, *companions))


def _values(model: ir.Model) -> list[ir.Value]:
    inner = [value for node in model.graph for value in node.outputs]
    return list(dict.fromkeys([*model.graph.outputs, *inner]))


def _dim_names(value: ir.Value) -> set[str]:
    return {str(dim.value) for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)}


def _confirmed(
    shape: Sequence[Size] | None, name: str, runs: Sequence[Run], names: frozenset[str]
) -> tuple[Dim, ...] | None:
    """Return the sizes that are inferred and that every run confirms; None for an unknown rank."""
    ranks = {len(run.shapes[name]) for run in runs}
    if len(ranks) != 1:
        return None
    rank = ranks.pop()
    inferred = shape if shape is not None and len(shape) == rank else (None,) * rank
    return tuple(_confirm(dim, name, axis, runs, names) for axis, dim in enumerate(inferred))


def _confirm(
    dim: Size | None, name: str, axis: int, runs: Sequence[Run], names: frozenset[str]
) -> Dim:
    if dim is None:
        return None
    text = dim if isinstance(dim, int) else _written(dim.terms, names)
    if text is None:
        return None
    right = all(_size_at(dim, run.sizes) == run.shapes[name][axis] for run in runs)
    return text if right else None


def _written(terms: Mapping[tuple[str, ...], int], names: frozenset[str]) -> str | None:
    """Write a polynomial over names of the inputs; None where it has others, or would not be read."""
    atoms = {atom for monomial in terms for atom in monomial}
    if not atoms <= names:
        return None
    if len(atoms) == 1 and terms == {tuple(atoms): 1}:
        return next(iter(atoms))
    if not all(map(str.isidentifier, atoms)):
        return None
    parts = [
        "*".join((*([str(factor)] if factor != 1 or not monomial else []), *monomial))
        for monomial, factor in sorted(terms.items(), reverse=True)
    ]
    return " + ".join(parts)


def _size_at(dim: Size, sizes: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return sum(
        factor * math.prod(sizes[atom] for atom in monomial)
        for monomial, factor in dim.terms.items()
    )


def _declare(value: ir.Value, shape: tuple[Dim, ...] | None) -> str:
    """Declare a shape; say whether it is known whole, in part, or not at all."""
    if shape is None:
        value.shape = None
        return "dropped"
    value.shape = ir.Shape(shape)
    return "opened" if None in shape else "replaced"
