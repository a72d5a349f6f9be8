import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.report import formats


@pytest.mark.parametrize(
    "write",
    [
        formats.format_bytes,
        formats.format_count,
        formats.format_percent,
        formats.format_points,
        formats.format_probability,
        formats.format_scientific,
        lambda value: formats.format_fixed(value, 2),
    ],
)
def test_a_missing_value_is_written_as_missing(write):
    assert write(None) == formats.MISSING


def test_an_infinite_error_is_written_as_inf():
    assert formats.format_scientific(float("inf")) == "inf"


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_an_error_is_written_to_three_digits(value):
    assert float(formats.format_scientific(value)) == pytest.approx(value, rel=5.1e-3)


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_a_column_shows_three_digits_of_its_smallest_value_down_to_a_thousandth(value):
    decimals = formats.decimals_for([value, 1e6, None])
    shown = float(formats.format_fixed(value, decimals).replace(",", ""))
    assert shown == pytest.approx(value, abs=max(5e-4, value * 5.1e-3))


@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_is_written_within_its_rounding(value):
    number, unit = formats.format_bytes(value).split(" ")
    scale = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) * scale == pytest.approx(value, abs=0.05001 * scale)
    assert float(number) < 1000 or unit == "TB"


@given(st.text())
def test_cleaned_text_has_nothing_a_terminal_obeys(text):
    cleaned = formats.clean_text(text)
    assert all(char.isprintable() or char in "\n\t" for char in cleaned)


def test_readable_text_stays_as_it_is():
    assert formats.clean_text("Größe 模型 a/b c") == "Größe 模型 a/b c"
