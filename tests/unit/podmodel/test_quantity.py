from fractions import Fraction

import pytest

from vk_provider.podmodel.errors import QuantityError
from vk_provider.podmodel.quantity import ceil_int, format_quantity, milli, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("100m", Fraction(1, 10)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("1k", 1000),
        ("1Ki", 1024),
        ("64Mi", 64 << 20),
        ("1.5Gi", 3 << 29),
        ("2E", 2 * 10**18),
        ("2Ei", 2 << 60),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-1", Fraction(6, 5)),
        ("5n", Fraction(5, 10**9)),
        ("7u", Fraction(7, 10**6)),
        ("-3", -3),
        ("+2M", 2 * 10**6),
        (2, 2),
        (0.5, Fraction(1, 2)),
    ],
)
def test_a_quantity_is_parsed_exactly(text, value):
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1gi", "1Kb", "--1", "1.2.3", "0x10", "1ee3"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(QuantityError):
        parse_quantity(text)


def test_values_are_rounded_up():
    assert milli("1500u") == 2
    assert milli("250m") == 250
    assert ceil_int("100m") == 1
    assert ceil_int("1Gi") == 1 << 30


@pytest.mark.parametrize(
    ("value", "binary", "text"),
    [
        (Fraction(1, 10), False, "100m"),
        (Fraction(2), False, "2"),
        (Fraction(1500), False, "1500"),
        (Fraction(2000), False, "2k"),
        (Fraction(1 << 30), True, "1Gi"),
        (Fraction(3 << 29), True, "1536Mi"),
        (Fraction(1000), True, "1000"),
        (Fraction(0), True, "0"),
        (Fraction(0), False, "0"),
        (Fraction(-1), False, "-1"),
    ],
)
def test_a_quantity_is_written_in_its_canonical_form(value, binary, text):
    assert format_quantity(value, binary) == text
