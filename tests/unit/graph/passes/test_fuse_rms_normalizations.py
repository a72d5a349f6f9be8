import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
NUMBERS = {
    "two": np.float32(2),
    "tiny": np.float32(1e-5),
    "w": np.arange(1, 5, dtype=np.float32),
}
BODY = (
    "(float[n,3,4] x) => (float[n,3,4] y) <float two, float tiny, float[4] w, int64[1] axis = {%d}> {\n"
    "  p = Pow(x, two)\n  m = ReduceMean(p, axis)\n  a = Add(m, tiny)\n  r = Sqrt(a)\n"
    "  i = Reciprocal(r)\n  d = Mul(x, i)\n  y = Mul(w, d)\n}"
)


@pytest.mark.parametrize(
    ("profile", "axis", "fused"),
    [("modern", -1, True), ("portable", -1, False), ("modern", 1, False)],
)
def test_the_last_axis_in_the_modern_profile(simplify, profile, axis, fused):
    found = simplify(HEAD + BODY % axis, weights=NUMBERS, profile=profile)
    assert (found.ops == ["RMSNormalization"]) == fused
