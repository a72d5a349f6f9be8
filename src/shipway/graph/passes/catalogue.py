"""Which rules there are, and which profile uses which, in the order they are tried."""

from __future__ import annotations

from collections.abc import Mapping

from shipway.graph.applying import UNREAD
from shipway.graph.flattening import FLATTEN_ROWS
from shipway.graph.folding import FOLD_EXACT, FOLD_ROUNDED
from shipway.graph.layout import MOVE_TRANSPOSES
from shipway.graph.numbering import SAME_NODE, SAME_NUMBERS
from shipway.graph.passes import (
    drop_expands,
    drop_impossible_branches,
    drop_zero_states,
    fold_shapes,
    fuse_attentions,
    fuse_conv_adds,
    fuse_conv_batchnorms,
    fuse_gelus,
    fuse_matmul_adds,
    fuse_pads,
    fuse_reciprocals,
    fuse_rms_normalizations,
    inline_branches,
    lift_constants,
    merge_reshaped_transposes,
    merge_scales,
    merge_slices,
    merge_transposes,
    remove_identities,
    remove_neutral_arithmetic,
    resolve_cast_likes,
    retarget_gathers,
    retarget_reshapes,
    retarget_slices,
    split_slices,
    unpack_sequences,
)
from shipway.graph.rules import Rule
from shipway.graph.uncalled import UNCALLED

__all__ = ["ALL_RULES", "PROFILES", "rules_of"]

_PORTABLE = (
    lift_constants.RULE,
    inline_branches.RULE,
    drop_impossible_branches.RULE,
    resolve_cast_likes.RULE,
    unpack_sequences.RULE,
    fold_shapes.RULE,
    remove_identities.RULE,
    remove_neutral_arithmetic.RULE,
    retarget_reshapes.RULE,
    merge_reshaped_transposes.RULE,
    merge_transposes.RULE,
    retarget_gathers.RULE,
    retarget_slices.RULE,
    merge_slices.RULE,
    split_slices.RULE,
    drop_expands.RULE,
    drop_zero_states.RULE,
    fuse_pads.RULE,
    fuse_conv_batchnorms.RULE,
    fuse_conv_adds.RULE,
    fuse_matmul_adds.RULE,
    fuse_reciprocals.RULE,
    merge_scales.RULE,
    fuse_gelus.RULE,
)
_MODERN = (fuse_rms_normalizations.RULE, fuse_attentions.RULE)
_BUILT_IN = (
    FOLD_EXACT,
    FOLD_ROUNDED,
    SAME_NODE,
    SAME_NUMBERS,
    FLATTEN_ROWS,
    MOVE_TRANSPOSES,
    UNREAD,
    UNCALLED,
)

ALL_RULES: tuple[Rule, ...] = (*_PORTABLE, *_MODERN, *_BUILT_IN)

PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "portable": _PORTABLE,
    "modern": (*_PORTABLE, *_MODERN),
    "onnxruntime": _PORTABLE,
    "openvino": _PORTABLE,
    "tensorrt": _PORTABLE,
    "ascend": _PORTABLE,
}


def rules_of(profile: str, skip: frozenset[str], opset: int) -> dict[str, tuple[Rule, ...]]:
    """Return the rules of a profile by the operator they look at."""
    found: dict[str, list[Rule]] = {}
    for rule in PROFILES[profile]:
        if rule.name in skip or rule.opset > opset:
            continue
        for op_type in rule.op_types:
            found.setdefault(op_type, []).append(rule)
    return {op_type: tuple(rules) for op_type, rules in found.items()}
