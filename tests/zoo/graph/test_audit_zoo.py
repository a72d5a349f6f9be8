"""Audits of real models: what is false is found, what is right passes, and mended files are right."""

from pathlib import Path

import pytest

from shipway.graph.loading import load_graph
from shipway.proof.audit import audit_graph
from shipway.proof.audit_fix import mend_declarations

pytestmark = [pytest.mark.assets, pytest.mark.slow]

RIGHT = [
    "gtcrn_simple",
    "magika_v2_1",
    "person_detector",
    "ppocr_mobile_v2_cls",
    "pt_image_classifier_cifar",
    "yunet_n_640",
]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(assets: Path, name: str) -> None:
    """At every size, from 1 up; whatever is declared inside the main graph is checked."""
    path = assets / "models" / f"{name}.onnx"
    audit = audit_graph(path, nonempty=True).audit
    assert audit.passed
    assert audit.counts["warning"] == 0
    declared = sum(
        value.shape is not None for node in load_graph(path).graph for value in node.outputs
    )
    assert audit.coverage.checked == declared


def test_one_name_for_three_sizes_is_found_and_mended(assets: Path, tmp_path: Path) -> None:
    """A face detector calls the number of boxes 'dim' at each of its three scales."""
    audited = audit_graph(assets / "models" / "yunet_n_dynamic.onnx", nonempty=True)
    (error,) = (one for one in audited.audit.findings if one.severity == "error")
    assert (error.kind, error.value) == ("one-name", "dim")
    mended = mend_declarations(
        assets / "models" / "yunet_n_dynamic.onnx", audited, tmp_path / "mended.onnx"
    )
    assert len(mended.opened) == 12
    assert audit_graph(mended.path, nonempty=True).audit.passed


@pytest.mark.parametrize(
    ("name", "dim", "op"),
    [
        ("nnsplit_en", "length", "Conv"),
        ("oww_melspectrogram", "samples", "Conv"),
        ("silero_vad_op18_ifless", "sequence", "If"),
    ],
)
def test_a_smallest_length_is_a_warning(assets: Path, name: str, dim: str, op: str) -> None:
    """Shorter than a window; speech models run from half a thousand samples on."""
    audit = audit_graph(assets / "models" / f"{name}.onnx", nonempty=True).audit
    assert audit.passed
    (warning,) = (one for one in audit.findings if one.severity == "warning")
    assert (warning.kind, warning.value, warning.place.op) == ("fails", dim, op)
