"""Resource quantities of the Kubernetes API ("100m", "64Mi", "1e3"), as exact fractions.

Source: the API documentation of Quantity (apimachinery, package resource).
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from vk_provider.podmodel.errors import QuantityError

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LARGEST_DECIMAL = sorted(_DECIMAL.items(), key=lambda item: -item[1])
_LARGEST_BINARY = sorted(_BINARY.items(), key=lambda item: -item[1])
_PATTERN = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]?))$")


@lru_cache(maxsize=512)
def _parse_text(text: str) -> Fraction:
    match = _PATTERN.match(text)
    if match is None:
        raise QuantityError(f"quantities must match the regular expression of a resource quantity: {text!r}")
    number, exponent, suffix = match.groups()
    value = Fraction(Decimal(number))
    if exponent is not None:
        return value * Fraction(10) ** int(exponent[1:])
    if suffix in _BINARY:
        return value * (1 << _BINARY[suffix])
    return value * Fraction(10) ** _DECIMAL[suffix]


def parse_quantity(text: str | int | float) -> Fraction:
    """Return the exact value in base units (cores, bytes, items); raises QuantityError."""
    if isinstance(text, str):
        return _parse_text(text)
    return Fraction(Decimal(str(text)))


def milli(text: str | int | float) -> int:
    """Return thousandths, rounded up: the API's MilliValue (cpu "1" -> 1000)."""
    return math.ceil(parse_quantity(text) * 1000)


def ceil_int(text: str | int | float) -> int:
    """Return the value rounded up to an integer: the API's Value (bytes for memory)."""
    return math.ceil(parse_quantity(text))


def is_binary(text: str | int | float) -> bool:
    """Tell whether the quantity is written with a binary suffix; sums keep that format."""
    return isinstance(text, str) and text.endswith("i")


def is_exponent(text: str | int | float) -> bool:
    """Tell whether the quantity is written with an exponent ("1e6")."""
    match = _PATTERN.match(text) if isinstance(text, str) else None
    return match is not None and match.group(2) is not None


def format_quantity(value: Fraction, binary: bool = False, exponent: bool = False) -> str:
    """Return the canonical text: no fraction, the largest suffix (or exponent) that keeps the value exact (to a nano
    unit)."""
    if value < 0:
        return "-" + format_quantity(-value, binary, exponent)
    if binary and value.denominator == 1:
        for suffix, shift in _LARGEST_BINARY:
            if value and value.numerator % (1 << shift) == 0:
                return f"{value.numerator >> shift}{suffix}"
        return str(value.numerator)
    nano = math.ceil(value * 10**9)
    if nano == 0:
        return "0"
    for suffix, power in _LARGEST_DECIMAL:
        unit = 10 ** (power + 9)
        if nano % unit == 0:
            return f"{nano // unit}e{power}" if exponent and power else f"{nano // unit}{suffix}"
    raise AssertionError("unreachable: every integer divides by one nano unit")
