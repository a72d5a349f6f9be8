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
    flatten_attentions,
    fold_shapes,
    fuse_attentions,
    fuse_conv_adds,
    fuse_conv_batchnorms,
    fuse_gelus,
    fuse_guarded_attentions,
    fuse_guarded_multi_head_attentions,
    fuse_matmul_adds,
    fuse_multi_head_attentions,
    fuse_pads,
    fuse_reciprocals,
    fuse_rms_normalizations,
    fuse_rotary_embeddings,
    inline_branches,
    lift_constants,
    merge_casts,
    merge_reshaped_transposes,
    merge_scales,
    merge_slices,
    merge_transposes,
    narrow_indices,
    remove_identities,
    remove_neutral_arithmetic,
    replace_einsums,
    resolve_cast_likes,
    retarget_gathers,
    retarget_reshapes,
    retarget_slices,
    share_attention_heads,
    split_slices,
    unpack_sequences,
)
from shipway.graph.rules import Rule
from shipway.graph.uncalled import UNCALLED

__all__ = ["ALL_RULES", "LEFT_OUT", "PROFILES", "rules_of"]

_PORTABLE = (
    lift_constants.RULE,
    inline_branches.RULE,
    drop_impossible_branches.RULE,
    resolve_cast_likes.RULE,
    merge_casts.RULE,
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
_MODERN = (
    fuse_rms_normalizations.RULE,
    fuse_rotary_embeddings.RULE,
    fuse_attentions.RULE,
    fuse_guarded_attentions.RULE,
    share_attention_heads.RULE,
    flatten_attentions.RULE,
)
_ONNX_RUNTIME = (fuse_multi_head_attentions.RULE, fuse_guarded_multi_head_attentions.RULE)
_ASCEND = (
    *[rule for rule in _PORTABLE if rule.opset <= 18],  # ATC reads opsets 11 to 18
    replace_einsums.RULE,
    narrow_indices.RULE,
)
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

ALL_RULES: tuple[Rule, ...] = (*_PORTABLE, *_MODERN, *_ONNX_RUNTIME, *_ASCEND[-2:], *_BUILT_IN)

PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "portable": _PORTABLE,
    "modern": (*_PORTABLE, *_MODERN),
    "onnxruntime": (*_PORTABLE, *_MODERN, *_ONNX_RUNTIME),
    "openvino": _PORTABLE,
    "tensorrt": (*_PORTABLE, fuse_rms_normalizations.RULE, fuse_rotary_embeddings.RULE),
    "ascend": _ASCEND,
}

LEFT_OUT: Mapping[str, frozenset[str]] = {
    # A Reshape between DequantizeLinear and MatMul keeps TensorRT from computing in int8.
    "tensorrt": frozenset({FLATTEN_ROWS.name}),
}
"""By profile, the rules of every other profile that it does without."""


def rules_of(profile: str, skip: frozenset[str], opset: int) -> dict[str, tuple[Rule, ...]]:
    """Return the rules of a profile by the operator they look at."""
    found: dict[str, list[Rule]] = {}
    for rule in PROFILES[profile]:
        if rule.name in skip or rule.opset > opset:
            continue
        for op_type in rule.op_types:
            found.setdefault(op_type, []).append(rule)
    return {op_type: tuple(rules) for op_type, rules in found.items()}
