HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_a_tensor_put_in_and_taken_out_is_the_tensor(simplify):
    found = simplify(
        HEAD + "(float[n] x, float[n] z) => (float[n] y) <int64 i = {-1}> {\n"
        "  s = SequenceConstruct(x, z)\n  a = SequenceAt(s, i)\n  y = Relu(a)\n}"
    )
    assert found.ops == ["Relu"]


def test_parts_of_a_split_are_read_directly(simplify):
    found = simplify(
        HEAD
        + "(float[n,5] x) => (float[n,2] y, float[n,1] z) <int64 two = {2}, int64 i0 = {0}, int64 i2 = {2}> {\n"
        "  s = SplitToSequence<axis=1>(x, two)\n  a = SequenceAt(s, i0)\n  b = SequenceAt(s, i2)\n"
        "  y = Relu(a)\n  z = Relu(b)\n}"
    )
    assert found.ops == ["Split", "Relu", "Relu"]


def test_a_sequence_is_concatenated_from_its_parts(simplify):
    found = simplify(
        HEAD + "(float[n] x, float[n] z) => (float[m] y) {\n"
        "  s = SequenceConstruct(x, z)\n  y = ConcatFromSequence<axis=0>(s)\n}"
    )
    assert found.ops == ["Concat"]


def test_a_place_that_is_not_known_stays(simplify):
    found = simplify(
        HEAD + "(float[n] x, float[n] z, int64 i) => (float[n] y) {\n"
        "  s = SequenceConstruct(x, z)\n  y = SequenceAt(s, i)\n}"
    )
    assert found.ops == ["SequenceConstruct", "SequenceAt"]
