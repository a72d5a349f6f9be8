"""Tensor specs: their grammar, their table of types, random values inside them, and checks."""

import json
import math
import string

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import TensorError, UsageError
from shipway.tensors import (
    ANY,
    DTYPES,
    DType,
    TensorSpec,
    bind_dims,
    check_feeds,
    dtype_named,
    dtype_of,
    parse_spec,
    random_feeds,
)

SYMBOLS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,6}", fullmatch=True)
DIMS = st.integers(0, 2**40) | SYMBOLS | st.just(ANY)
SHAPES = st.none() | st.lists(DIMS, max_size=5).map(tuple)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RANGES = st.none() | st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair)))
NAMES = st.text(string.ascii_letters + string.digits + "_.:/-[] é图", max_size=12).filter(
    lambda name: not name.endswith(":") and not _reads_as_dtype(name)
)
SPECS = st.builds(
    TensorSpec, NAMES, st.sampled_from([dtype.name for dtype in DTYPES]), SHAPES, RANGES
)


def _reads_as_dtype(name: str) -> bool:
    """Whether a name has a colon and brackets placed so that its head is a spec of its own."""
    return name.startswith(":") or "[" in name


class TestTable:
    """The dtype table against the libraries it describes."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
    def test_onnx_and_numpy_agree_on_every_type(self, dtype: DType):
        assert onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx) == dtype.numpy
        assert dtype_of(dtype.onnx) is dtype
        assert dtype_of(dtype.numpy) is dtype
        assert dtype_of(dtype.numpy.newbyteorder(">")) is dtype

    @pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
    def test_torch_has_every_type_under_our_name(self, dtype: DType):
        torch = pytest.importorskip("torch")
        assert getattr(torch, dtype.name).itemsize == dtype.numpy.itemsize
        assert getattr(torch, dtype.name).is_floating_point == dtype.is_float

    @pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
    def test_openvino_has_every_type_under_its_name(self, dtype: DType):
        openvino = pytest.importorskip("openvino")
        found = getattr(openvino.Type, dtype.openvino)
        assert (found.get_type_name(), found.size) == (dtype.openvino, dtype.numpy.itemsize)

    def test_no_name_alias_or_number_stands_for_two_types(self):
        names = [name for dtype in DTYPES for name in (dtype.name, *dtype.aliases)]
        numbers = [dtype.onnx for dtype in DTYPES]
        ascend = [dtype.acl for dtype in DTYPES if dtype.acl is not None]
        assert all(len(each) == len(set(each)) for each in (names, numbers, ascend))

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(TensorError, match=r"^Unknown dtype 'float23'\.$") as caught:
            dtype_named("float23")
        assert "bfloat16" in caught.value.hint

    @pytest.mark.parametrize("key", [8, 0, 999, np.dtype("complex64"), np.dtype(object)])
    def test_a_type_nobody_carries_is_refused(self, key: object):
        with pytest.raises(TensorError, match="is not supported"):
            dtype_of(key)  # type: ignore[arg-type]


class TestGrammar:
    """What parse_spec takes."""

    @given(SPECS)
    def test_every_spec_reads_back_as_it_is_written(self, spec: TensorSpec):
        assert parse_spec(str(spec)) == spec

    @given(SPECS)
    def test_every_spec_survives_json(self, spec: TensorSpec):
        assert TensorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("image:f32[batch,3,224,224]", TensorSpec("image", "float32", ("batch", 3, 224, 224))),
            ("x:[1,3]", TensorSpec("x", "float32", (1, 3))),
            ("x:1x3x8x8", TensorSpec("x", "float32", (1, 3, 8, 8))),
            ("x:int64:1x77", TensorSpec("x", "int64", (1, 77))),
            ("x:INT64:1x77", TensorSpec("x", "int64", (1, 77))),
            ("1x3x8x8", TensorSpec("", "float32", (1, 3, 8, 8))),
            ("[1, 3 ]", TensorSpec("", "float32", (1, 3))),
            ("int64[1]", TensorSpec("", "int64", (1,))),
            ("x:float32[]", TensorSpec("x", "float32", ())),
            ("x:[...]", TensorSpec("x", "float32", None)),
            ("x:?x3", TensorSpec("x", "float32", (ANY, 3))),
            ("x:-1x3", TensorSpec("x", "float32", (ANY, 3))),
            ("x:[-1,?]", TensorSpec("x", "float32", (ANY, ANY))),
            ("x:5", TensorSpec("x", "float32", (5,))),
            ("serving:0:1x3", TensorSpec("serving:0", "float32", (1, 3))),
            ("onnx::Flatten_0:[1]", TensorSpec("onnx::Flatten_0", "float32", (1,))),
            ("x[0]:int8[2]", TensorSpec("x[0]", "int8", (2,))),
            ("a/b c:[p2o.Dim.0]", TensorSpec("a/b c", "float32", ("p2o.Dim.0",))),
            ("ids:int64[1]{0..49407}", TensorSpec("ids", "int64", (1,), (0.0, 49407.0))),
            ("x:[1]{-1e-3..0.5}", TensorSpec("x", "float32", (1,), (-1e-3, 0.5))),
        ],
    )
    def test_accepted_forms(self, text: str, expected: TensorSpec):
        assert parse_spec(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["", "x", "x:", ":[1]", "x:[1", "x:1]", "x:[1,]", "x:[,]", "x:[1;3]", "x:[1.5]", "x:[-2]",
         "x:[²]", "x:1xx3", "x:1x", "x:ax3", "x:[1]{", "x:[1]{1}", "x:[1]{2..1}", "x:[1]{a..b}",
         "x:[1]{nan..1}", "x:[1]{0..inf}", "x:[1]{..}", "x:1x3\n", "x:[2*n]", "x:[1] {0..1}"],
    )  # fmt: skip
    def test_what_is_no_spec_is_refused_with_the_forms(self, text: str):
        with pytest.raises(UsageError) as caught:
            parse_spec(text)
        assert "name:dtype[d0,d1,...]" in caught.value.hint

    def test_an_unknown_dtype_is_an_error_of_its_own(self):
        with pytest.raises(TensorError, match="Unknown dtype 'f23'"):
            parse_spec("x:f23[1]")

    @given(st.text(max_size=30))
    def test_no_text_gives_anything_but_a_spec_or_one_of_our_errors(self, text: str):
        try:
            spec = parse_spec(text)
        except (UsageError, TensorError):
            return
        assert parse_spec(str(spec)) == spec


class TestSizes:
    """Symbolic sizes."""

    def test_names_come_once_and_in_order(self):
        assert TensorSpec("x", "float32", ("n", ANY, "h", "n", 3)).dynamic_dims == ("n", "h")
        assert TensorSpec("x", "float32", None).dynamic_dims == ()

    def test_binding_replaces_every_occurrence_and_leaves_the_rest(self):
        specs = (
            TensorSpec("x", "float32", ("n", "h", 3), (0, 1)),
            TensorSpec("y", "int8", ("n",)),
            TensorSpec("z", "int8", None),
        )
        assert bind_dims(specs, {"n": 4}) == (
            TensorSpec("x", "float32", (4, "h", 3), (0, 1)),
            TensorSpec("y", "int8", (4,)),
            TensorSpec("z", "int8", None),
        )


class TestRandom:
    """Random inputs."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
    def test_each_type_gets_finite_varied_values_of_that_type(self, dtype: DType):
        value = random_feeds([TensorSpec("x", dtype.name, (64, 3))])["x"]
        assert value.dtype == dtype.numpy
        assert value.shape == (64, 3)
        assert np.isfinite(value.astype(np.float64)).all()
        assert len(np.unique(value)) >= 2

    def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(self):
        spec = [TensorSpec("x", "float32", (8,))]
        first, again, other = (random_feeds(spec, seed=seed)["x"] for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_numbers_are_pinned_so_that_a_table_repeats_on_every_machine(self):
        value = random_feeds([TensorSpec("x", "float32", (2,))])["x"]
        np.testing.assert_array_equal(value, np.float32([0.12573022, -0.13210486]))

    def test_sizes_are_bound_and_the_rest_is_one(self):
        spec = TensorSpec("x", "float32", ("n", "h", ANY, 0))
        assert random_feeds([spec], sizes={"n": 4})["x"].shape == (4, 1, 1, 0)
        assert random_feeds([TensorSpec("x", "int64", ())])["x"].shape == ()

    @given(st.sampled_from(["int8", "uint8", "int64", "uint64", "int32"]), st.data())
    def test_whole_numbers_stay_in_their_range(self, name: str, data: st.DataObject):
        info = np.iinfo(name)
        bounds = st.integers(max(int(info.min), -(2**53)), min(int(info.max), 2**53))
        low, high = sorted((data.draw(bounds), data.draw(bounds)))
        value = random_feeds([TensorSpec("x", name, (50,), (float(low), float(high)))])["x"]
        assert value.dtype == name
        assert low <= int(value.min()) <= int(value.max()) <= high

    @given(NUMBERS, NUMBERS)
    def test_floats_stay_in_their_range(self, one: float, other: float):
        low, high = sorted((one / 2, other / 2))
        value = random_feeds([TensorSpec("x", "float64", (20,), (low, high))])["x"]
        assert low <= value.min() <= value.max() <= high

    def test_both_ends_of_a_whole_range_occur(self):
        value = random_feeds([TensorSpec("x", "int64", (200,), (0.5, 2.5))])["x"]
        assert set(value.tolist()) == {1, 2}

    @pytest.mark.parametrize(
        ("dtype", "limits"),
        [
            ("int8", (0, 200)),
            ("uint8", (-1, 5)),
            ("bool", (0, 2)),
            ("int64", (0.2, 0.8)),
            ("float16", (0, 1e6)),
            ("bfloat16", (0, 1e39)),
            ("float32", (0, 1e300)),
            ("float64", (-1.7e308, 1.7e308)),
        ],
    )
    def test_a_range_that_the_type_cannot_fill_is_refused(self, dtype: str, limits):
        with pytest.raises(TensorError, match="of input 'x'"):
            random_feeds([TensorSpec("x", dtype, (3,), limits)])

    def test_an_unknown_rank_cannot_be_filled(self):
        with pytest.raises(TensorError, match="no known rank") as caught:
            random_feeds([TensorSpec("x", "int64", None)])
        assert "x:int64[1,...]" in caught.value.hint

    def test_bfloat16_is_rounded_from_the_same_normal_numbers(self):
        wide = random_feeds([TensorSpec("x", "float64", (50,))])["x"]
        narrow = random_feeds([TensorSpec("x", "bfloat16", (50,))])["x"]
        np.testing.assert_array_equal(narrow, wide.astype(ml_dtypes.bfloat16))


class TestFeeds:
    """Checks of what is fed."""

    MODEL = (TensorSpec("x", "float32", ("n", 3, ANY)), TensorSpec("ids", "int64", ("n",)))

    def feeds(self, **changes: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": np.zeros((2, 3, 5), "float32"), "ids": np.zeros(2, "int64"), **changes}

    def test_fitting_feeds_give_the_symbolic_sizes(self):
        assert check_feeds(self.MODEL, self.feeds()) == {"n": 2}
        assert check_feeds([], {}) == {}
        assert check_feeds([TensorSpec("x", "bool", None)], {"x": np.array(True)}) == {}

    @given(SPECS.filter(lambda spec: spec.shape is not None and spec.value_range is None))
    def test_random_feeds_fit_their_own_specs(self, spec: TensorSpec):
        small = TensorSpec(
            spec.name,
            spec.dtype,
            tuple(dim % 4 if isinstance(dim, int) else dim for dim in spec.shape or ()),
        )
        sizes = check_feeds([small], random_feeds([small]))
        assert sizes == dict.fromkeys(small.dynamic_dims, 1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"ids": np.zeros(2, "int32")}, "Input 'ids' has dtype int32; the model takes int64."),
            (
                {"x": np.zeros((2, 3, 5), ">f4")},
                "Input 'x' has dtype >f4; the model takes float32.",
            ),
            (
                {"x": np.zeros((2, 3), "float32")},
                "Input 'x' has shape [2, 3]: has 2 dimensions, not 3.",
            ),
            (
                {"x": np.zeros((2, 4, 5), "float32")},
                "Input 'x' has shape [2, 4, 5]: axis 1 is 4, not 3.",
            ),
            ({"ids": np.zeros(3, "int64")}, "Input 'ids' has shape [3]: axis 0 ('n') is 3, not 2."),
            ({"other": np.zeros(1)}, "Inputs the model does not have: other."),
        ],
    )
    def test_what_does_not_fit_is_named(self, changes: dict[str, np.ndarray], message: str):
        with pytest.raises(TensorError) as caught:
            check_feeds(self.MODEL, self.feeds(**changes))
        assert str(caught.value) == message
        assert caught.value.hint

    def test_a_missing_input_is_named_and_what_is_expected_shown(self):
        with pytest.raises(TensorError, match=r"^Inputs without a value: x, ids\.$") as caught:
            check_feeds(self.MODEL, {})
        assert caught.value.hint == "Expects x:float32[n,3,?], ids:int64[n]."


def test_a_range_is_written_with_every_digit():
    spec = TensorSpec("x", "float64", (1,), (-math.pi, 1234567.0))
    assert str(spec) == "x:float64[1]{-3.141592653589793..1234567}"


@pytest.mark.parametrize("size", [2**44, 2**62])
def test_random_feeds_name_an_input_that_is_larger_than_the_memory(size):
    spec = parse_spec(f"x:float32[{size},4]")
    with pytest.raises(TensorError, match="not enough memory for input 'x'"):
        random_feeds([spec])
