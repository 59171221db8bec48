"""DescribeSpotPriceHistory as EC2 documents it: moto has one row of each type, of 2006."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult

Json = dict[str, Any]
PRODUCT = "Linux/UNIX"


class SpotPrices:
    """rows: (instance type, zone, Unix seconds, USD an hour as text), as a test has set them."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float, str]] = []

    def describe(self, response: Any) -> ActionResult:
        """The newest first: those of the time, and of each offering the last one before it."""
        get = response._get_param
        types, products = get("InstanceTypes", []), get("ProductDescriptions", [])
        zones = [
            value
            for each in get("Filters", []) or get("Filter", [])
            if each["Name"] == "availability-zone"
            for value in each.get("Values", [])
        ]
        since, until = _seconds(get("StartTime")), _seconds(get("EndTime")) or float("inf")
        before: dict[tuple[str, str], tuple[str, str, float, str]] = {}
        found = []
        for row in sorted(self.rows, key=lambda each: each[2]):
            name, zone, at, _ = row
            if (types and name not in types) or (zones and zone not in zones) or (products and PRODUCT not in products):
                continue
            if at <= since:
                before[name, zone] = row
            elif at <= until:
                found.append(row)
        found = sorted([*found, *before.values()], key=lambda each: -each[2])
        first, size = int(get("NextToken") or 0), int(get("MaxResults") or 1000)
        token = str(first + size) if first + size < len(found) else ""
        return ActionResult(
            {"SpotPriceHistory": [_show(row) for row in found[first : first + size]], "NextToken": token}
        )


def _show(row: tuple[str, str, float, str]) -> Json:
    name, zone, at, price = row
    return {
        "InstanceType": name,
        "AvailabilityZone": zone,
        "ProductDescription": PRODUCT,
        "SpotPrice": price,
        "Timestamp": datetime.fromtimestamp(at, UTC),
    }


def _seconds(value: Any) -> float:
    if not value:
        return 0.0
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
