"""Asks AWS for one part of the snapshot: all its pages, in order, each judged before it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vk_provider.cloud.aws.catalog.answers import (
    AnswerT,
    Products,
    SpotPrice,
    SpotPrices,
    TypeInfos,
    TypeOfferings,
    read_answer,
    read_product,
)
from vk_provider.cloud.aws.catalog.client import CatalogClient
from vk_provider.cloud.aws.catalog.machines import Machine, read_machine
from vk_provider.cloud.spotprices import SpotPriceChange
from vk_provider.errors import CloudError

MAX_PAGES = 200
PAGE = 100
SPOT_PAGE = 1000
_LINUX = {
    "serviceCode": "AmazonEC2",
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
_KINDS = (
    {"tenancy": "Shared", "productFamily": "Compute Instance"},
    {"tenancy": "Dedicated", "productFamily": "Compute Instance (bare metal)"},
)
"""As Karpenter asks."""
_SPOT_PRODUCTS = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]

Call = Callable[..., Awaitable[Mapping[str, Any]]]


async def fetch_machines(client: CatalogClient) -> dict[str, Machine]:
    """All instance types of the region that pods can run on."""
    found = {}
    for page in await _fetch_pages(client.describe_instance_types, {"MaxResults": PAGE}, TypeInfos):
        for info in page.instance_types:
            machine = read_machine(info)
            if machine is not None:
                found[machine.instance_type] = machine
    if not found:
        raise CloudError("EC2 says that it has no instance types")
    return found


async def fetch_zones(client: CatalogClient, zones: Sequence[str]) -> dict[str, list[str]]:
    """The instance types of each zone."""
    parameters = {
        "LocationType": "availability-zone",
        "Filters": [{"Name": "location", "Values": list(zones)}],
        "MaxResults": PAGE * 10,
    }
    found: dict[str, set[str]] = {zone: set() for zone in zones}
    for page in await _fetch_pages(client.describe_instance_type_offerings, parameters, TypeOfferings):
        for each in page.instance_type_offerings:
            if each.location in found:
                found[each.location].add(each.instance_type)
    return {zone: sorted(names) for zone, names in found.items()}


async def fetch_on_demand(client: CatalogClient, region: str) -> dict[str, float]:
    """USD an hour by instance type: Linux, nothing installed."""
    found: dict[str, float] = {}
    for kind in _KINDS:
        filters = {**_LINUX, **kind, "regionCode": region}
        parameters = {
            "ServiceCode": "AmazonEC2",
            "FormatVersion": "aws_v1",
            "Filters": [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in filters.items()],
            "MaxResults": PAGE,
        }
        for page in await _fetch_pages(client.get_products, parameters, Products):
            for text in page.price_list:
                product = read_product(text)
                if product is not None:
                    name, price = product
                    found[name] = max(price, found.get(name, 0.0))  # two that differ: the bill must not surprise
    if not found:
        raise CloudError("the Pricing API has no prices of this region")
    return found


async def fetch_spot(client: CatalogClient, zones: Sequence[str], now: float) -> dict[str, dict[str, float]]:
    """USD an hour by zone and instance type, as of `now` (Unix seconds)."""
    parameters = {
        "StartTime": datetime.fromtimestamp(now, UTC),
        "ProductDescriptions": _SPOT_PRODUCTS,
        "Filters": [{"Name": "availability-zone", "Values": list(zones)}],
        "MaxResults": SPOT_PAGE,
    }
    newest: dict[tuple[str, str], SpotPrice] = {}
    for page in await _fetch_pages(client.describe_spot_price_history, parameters, SpotPrices):
        for row in page.spot_price_history:
            key = row.availability_zone, row.instance_type
            known = newest.get(key)
            if known is None or known.timestamp < row.timestamp:
                newest[key] = row
    found: dict[str, dict[str, float]] = {zone: {} for zone in zones}
    for (zone, name), row in newest.items():
        if zone in found and float(row.spot_price) > 0:
            found[zone][name] = float(row.spot_price)
    return found


async def fetch_spot_changes(
    client: CatalogClient, types: Sequence[str], zones: Sequence[str], since: float
) -> list[SpotPriceChange]:
    """Since then (Unix seconds), and the last change before it."""
    parameters = {
        "StartTime": datetime.fromtimestamp(since, UTC),
        "InstanceTypes": list(types),
        "ProductDescriptions": _SPOT_PRODUCTS,
        "Filters": [{"Name": "availability-zone", "Values": list(zones)}],
        "MaxResults": SPOT_PAGE,
    }
    return [
        SpotPriceChange(row.instance_type, row.availability_zone, row.timestamp.timestamp(), float(row.spot_price))
        for page in await _fetch_pages(client.describe_spot_price_history, parameters, SpotPrices)
        for row in page.spot_price_history
        if float(row.spot_price) > 0
    ]


async def _fetch_pages(call: Call, parameters: Mapping[str, Any], kind: type[AnswerT]) -> list[AnswerT]:
    pages: list[AnswerT] = []
    token = ""
    while True:
        more = {"NextToken": token} if token else {}
        pages.append(read_answer(await call(**parameters, **more), kind))
        token = getattr(pages[-1], "next_token", "")
        if not token:
            return pages
        if len(pages) >= MAX_PAGES:
            raise CloudError(f"an answer of AWS has more than {MAX_PAGES} pages")
