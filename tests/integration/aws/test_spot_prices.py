"""The bill of spot instances, by the price history that moto's EC2 has."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.integration.aws.conftest import offering, request, started
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.spotprices import SpotOffering, SpotPriceChange
from vk_provider.ledger.ledger import Ledger, LedgerRules
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.metrics import LedgerMetrics
from vk_provider.ledger.question import CostReport, parse_question
from vk_provider.ledger.spot import SETTLE_S, SpotPricing

HOUR = 3600.0
NAME = "m7i.large"


def test_a_history_has_the_price_in_force_at_its_start(moto: MotoServer, account: Account) -> None:
    """ "It also returns the last price change before the start time, which is the effective price as of the start
    time." (DescribeSpotPriceHistory)"""
    here, there = account.zones
    moto.set_spot_prices(
        (NAME, here, 1000.0, "0.01"),
        (NAME, here, 2000.0, "0.02"),
        (NAME, here, 3000.0, "0.03"),
        (NAME, there, 2500.0, "0.04"),
        ("c7i.large", here, 2500.0, "0.05"),
    )
    found = moto.client("ec2").describe_spot_price_history(
        StartTime=datetime.fromtimestamp(2500, UTC),
        InstanceTypes=[NAME],
        Filters=[{"Name": "availability-zone", "Values": [here]}],
    )["SpotPriceHistory"]
    assert [(row["SpotPrice"], row["Timestamp"].timestamp()) for row in found] == [("0.03", 3000.0), ("0.02", 2000.0)]


async def test_changes_are_those_of_what_was_asked_for_over_all_pages(moto: MotoServer, account: Account) -> None:
    here, _ = account.zones
    now = float(int(time.time()))
    moto.set_spot_prices(*((NAME, here, now - 60.0 * n, f"0.{n + 1:04}") for n in range(1500)))
    async with started(moto, account, catalog=with_spot(moto, account)) as cloud:
        source = cloud.spot_prices
        assert source is not None and source.period_s == HOUR
        found = await source.fetch_changes({(NAME, here)}, now - 60.0 * 1200 - 30)
        assert len(found) == 1202, "1201 since then, and the one before"
        assert {(each.instance_type, each.zone) for each in found} == {(NAME, here)}
        assert min((each.at, each.price_per_hour) for each in found) == (now - 60.0 * 1201, 0.1202)
    async with started(moto, account) as without:
        assert without.spot_prices is None, "where EC2 is asked for no spot prices"


def with_spot(moto: MotoServer, account: Account) -> CatalogSettings:
    return replace(moto.settings(account).catalog, spot_prices=True)


class Noted:
    """EC2's history. since: what it was asked for."""

    period_s = HOUR

    def __init__(self, cloud: AwsCloud) -> None:
        assert cloud.spot_prices is not None
        self._source = cloud.spot_prices
        self.since: list[float] = []

    async def fetch_changes(self, offered: Collection[SpotOffering], since: float) -> list[SpotPriceChange]:
        self.since.append(since)
        return await self._source.fetch_changes(offered, since)


def build(source: Noted, path: Path, clock: Callable[[], float]) -> Ledger:
    meter = Meter(lambda instance: 0.05, clock)
    spot = SpotPricing(meter, source)
    return Ledger(meter, LedgerRules(str(path), "o", 1e9, 1 << 30, 1e9), LedgerMetrics(CollectorRegistry()), spot)


async def ask(ledger: Ledger, source: str, listed: list[Instance]) -> CostReport:
    question = parse_question({"by": "instance"}, ledger.meter.clock())
    if source == "ledger":
        return await ledger.cost(question)
    return await ledger.cost_from_tags(listed, lambda instance: 0.05, question)


async def test_the_bill_of_a_spot_instance_follows_the_history_hour_by_hour_also_over_a_restart(
    moto: MotoServer, account: Account, tmp_path: Path
) -> None:
    async with started(moto, account, catalog=with_spot(moto, account)) as cloud:
        launched = await cloud.launch(request("spot", offering(account, capacity_type="spot")))
        (instance,) = await list_owned(cloud)
        began, here, now = instance.launch_time, account.zones[0], instance.launch_time
        assert len(launched.instances) == 1 and instance.capacity_type == "spot"
        moto.set_spot_prices(
            (NAME, here, began - 9000, "0.0300"),
            (NAME, here, began + 1800, "0.0400"),
            (NAME, here, began + 2 * HOUR - 10, "0.0200"),
            (NAME, here, began + 2 * HOUR + 10, "0.0900"),
        )
        source = Noted(cloud)
        first = build(source, tmp_path / "ledger", lambda: now)
        await first.load()
        first.meter.see(instance)
        now = began + HOUR + SETTLE_S + 1
        first.meter.see(instance)
        assert first.spot is not None
        await first.spot.refresh()
        assert (await ask(first, "ledger", []))["total"]["usd"] == pytest.approx(0.03 + 0.04 * (SETTLE_S + 1) / HOUR)
        await first.close()
        now = began + 2.5 * HOUR
        source.since.clear()
        second = build(source, tmp_path / "ledger", lambda: now)
        await second.load()
        second.meter.take([instance], lambda instance_id: False)
        assert second.spot is not None
        for _ in range(3):
            await second.spot.refresh()
        assert source.since == [began], "asked for once"
        bill = 0.03 + 0.04 + 0.02 / 2  # what changed ten seconds into the third hour is for the fourth
        for name in ("ledger", "tags"):
            report = await ask(second, name, [instance])
            assert report["total"]["usd"] == pytest.approx(bill), name
            assert report["total"]["seconds"] == pytest.approx(2.5 * HOUR)
            assert report["total"]["instances"] == 1
        await second.close()
