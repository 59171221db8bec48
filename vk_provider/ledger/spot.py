"""Follows the spot prices of what runs, so that the ledger has a span for each price that an instance had.

A period's price (cloud.spotprices) is asked for once it is settled. Nothing is kept of what was asked: after a restart
the history is asked for from the beginning of the newest span of each instance on, and later from the last answer on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Mapping

from vk_provider.cloud.base import Instance
from vk_provider.cloud.spotprices import SpotOffering, SpotPriceSource
from vk_provider.errors import CloudError
from vk_provider.ledger.curve import PriceCurve, apply_prices, build_curves, find_due
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.prices import SPOT

log = logging.getLogger(__name__)

FIRST_S = 60.0
"""After a start: listings have shown by then what runs."""
REFRESH_S = 600.0
JITTER = 0.2
SETTLE_S = 300.0
"""A price may be told so much later than it was in force from."""


class SpotPricing:
    """`run` is a root task; `follow` before the ledger is loaded."""

    def __init__(self, meter: Meter, source: SpotPriceSource) -> None:
        self._meter, self._source = meter, source
        self._problem = ""
        meter.repricing.follows_spot = True

    async def run(self) -> None:
        """For ever."""
        await asyncio.sleep(FIRST_S)
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S * random.uniform(1 - JITTER, 1 + JITTER))

    async def refresh(self) -> None:
        """Ask for what is due, and split the spans by it. Without an answer they stay as they are until the next."""
        settled, period_s = self._meter.clock() - SETTLE_S, self._source.period_s
        offered, since = find_due(self._meter, settled, period_s)
        curves: Mapping[SpotOffering, PriceCurve] = {}
        if offered:
            try:
                curves = build_curves(offered, await self._source.fetch_changes(offered, since))
            except CloudError as error:
                self._note(str(error))
                return
        self._note("")
        apply_prices(self._meter, curves, settled, period_s)

    async def fetch(self, instances: Collection[Instance]) -> Mapping[SpotOffering, PriceCurve]:
        """The prices of the lives of these instances. Raises CloudError."""
        found = [each for each in instances if each.capacity_type == SPOT and each.launch_time > 0]
        if not found:
            return {}
        offered = {(each.instance_type, each.zone) for each in found}
        since = min(each.launch_time for each in found)
        return build_curves(offered, await self._source.fetch_changes(offered, since))

    @property
    def period_s(self) -> float:
        return self._source.period_s

    def _note(self, problem: str) -> None:
        if problem and not self._problem:
            log.warning("spot prices are not followed, and instances cost what they did: %s", problem)
        elif self._problem and not problem:
            log.info("spot prices are followed again")
        self._problem = problem
