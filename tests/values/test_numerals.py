"""Numbers in text: ASCII digits, where Python would take more."""

from __future__ import annotations

import math

import pytest

from wavenet.values.numerals import integer_of, is_integer_text, number_of


@pytest.mark.parametrize(
    "text", ["", " 3", "3\n", "1_0", "\u0663", "1e3", "0x10", "1.5", "--3", "+"]
)
def test_text_that_is_no_integer_has_none(text: str) -> None:
    assert not is_integer_text(text)
    assert integer_of(text, 9) is None


def test_an_integer_has_its_value_up_to_the_largest_and_of_no_length_an_error() -> None:
    assert [integer_of(text, 20) for text in ("0", "007", "+3", "-20", "21", "-21")] == [
        *(0, 7, 3, -20),
        *(None, None),
    ]
    assert integer_of("9" * 5000, 10**9) is None
    assert is_integer_text("9" * 5000)


@pytest.mark.parametrize(
    "text", ["", " 3", "1_0", "1_0.5", "\u0663", "1e", "0x10", "1,5", ".", "e3"]
)
def test_text_that_is_no_number_has_none(text: str) -> None:
    assert number_of(text) is None


def test_a_number_has_its_value() -> None:
    given = {"3": 3.0, "-.5": -0.5, "1.": 1.0, "1e-3": 0.001, "+2E2": 200.0, "-inf": -math.inf}
    assert {text: number_of(text) for text in given} == given
    assert math.isnan(number_of("NaN") or 0.0)
