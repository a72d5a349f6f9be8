"""Mended files: what is false is replaced by what is inferred, and nothing else changes."""

import onnx
import onnx.printer
import pytest
from auditing import audit, run

from shipway.proof.audit_fix import mend_declarations

MENDED = {
    "a name": ("(float[n,4] x) => (float[3,4] y) { y = Relu(x) }", ["n", 4]),
    "a formula": ("(float[n,4] x) => (float[n,4] y) { y = Concat<axis=0>(x, x) }", ["2*n", 4]),
    "a sum": (
        "(float[n,4] x, float[m,4] z) => (float[7,4] y) { y = Concat<axis=0>(x, z) }",
        ["n + m", 4],
    ),
    "a rank": ("(float[n,4] x) => (float[n,4,1] y) { y = Relu(x) }", ["n", 4]),
    "what only execution knows": (
        "(float[n] x) => (int64[1,2] y) { y = NonZero(x) }",
        [1, None],
    ),
}


@pytest.mark.parametrize("what", MENDED)
def test_what_is_false_is_replaced_by_what_is_inferred(file, tmp_path, what):
    text, shape = MENDED[what]
    path = file(text)
    mended = mend_declarations(path, run(path), tmp_path / "mended.onnx")
    dims = onnx.load(mended.path).graph.output[0].type.tensor_type.shape.dim
    assert [getattr(dim, dim.WhichOneof("value") or "", None) for dim in dims] == shape
    assert audit(mended.path).passed
    assert mended.to_json()["opened" if None in shape else "replaced"] == ["y"]


def test_a_false_dtype_is_replaced(file, tmp_path):
    path = file("(float[n,4] x) => (float[n,4] y) { y = Cast<to=7>(x) }")
    mended = mend_declarations(path, run(path), tmp_path / "mended.onnx")
    assert audit(mended.path).passed
    assert onnx.load(mended.path).graph.output[0].type.tensor_type.elem_type == 7


def test_a_true_model_is_written_as_it_was(file, tmp_path):
    path = file("(float[n,4] x) => (float[n,4] y) <float[n,4] r> { r = Relu(x)  y = Abs(r) }")
    mended = mend_declarations(path, run(path), tmp_path / "mended.onnx")
    before, after = (onnx.printer.to_text(onnx.load(one)) for one in (path, mended.path))
    assert after == before
    assert not mended.replaced
