import pytest

HEAD = '<ir_version: 7, opset_import: ["" : 12]>\nmain '


def einsum(equation, first, second, result):
    return (
        f"{HEAD}(float[{first}] x, float[{second}] z) => (float[{result}] y) {{\n"
        f'  y = Einsum<equation="{equation}">(x, z)\n}}'
    )


@pytest.mark.parametrize(
    "text",
    [
        einsum("ij,jk->ik", "n,3", "3,4", "n,4"),
        einsum("bhij, bhjk -> bhik", "n,2,3,4", "n,2,4,5", "n,2,3,5"),
        einsum("bij,jk->bik", "n,3,4", "4,5", "n,3,5"),
    ],
)
def test_a_product_of_matrices_is_one(simplify, text):
    found = simplify(text, profile="ascend", sizes=(0, 1, 3))
    assert found.ops == ["MatMul"]


@pytest.mark.parametrize(
    "text",
    [
        einsum("ij,jk->ki", "n,3", "3,4", "4,n"),  # transposed
        einsum("ij,kj->ik", "n,3", "4,3", "n,4"),  # the second one transposed
        einsum("bij,cjk->bik", "n,3,4", "2,4,5", "n,3,5"),  # summed over another letter
        einsum("ij,ij->ij", "n,3", "n,3", "n,3"),  # by element
        einsum("ii,ij->ij", "3,3", "3,n", "3,n"),  # a diagonal
    ],
)
def test_what_is_none_stays(simplify, text):
    assert simplify(text, profile="ascend").ops == ["Einsum"]


def test_other_profiles_keep_it(simplify):
    assert simplify(einsum("ij,jk->ik", "n,3", "3,4", "n,4")).ops == ["Einsum"]
