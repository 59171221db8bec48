"""AwsCatalog: the offerings of EC2 in the zones of our subnets, refreshed part by part.

Instance types and zones must be known before the first launch; prices need not: an old or missing one is replaced by
the next best, see `prices`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from vk_provider.cloud.aws.catalog.client import CatalogClient
from vk_provider.cloud.aws.catalog.fetch import fetch_machines, fetch_on_demand, fetch_spot, fetch_zones
from vk_provider.cloud.aws.catalog.machines import NO_TERMS, DiskTerms, Machine, build_traits, has_ipv6
from vk_provider.cloud.aws.catalog.prices import Price, PriceBook, read_table
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.catalog.snapshot import Snapshot
from vk_provider.cloud.aws.catalog.store import SnapshotStore
from vk_provider.cloud.base import MachineTraits, Offering
from vk_provider.cloud.pricelist import PriceRow
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

FETCH_LIMIT_S = 120.0
"""For all pages of one part."""
RETRY_S = 120.0
"""After a part that could not be fetched."""
JITTER = 0.2
"""Share of each interval by which it varies: providers that started together must not ask together."""
PATIENCE_S = 5.0
"""How long a refresh waits for prices, a start among them."""
LATE_S = 30.0
"""Until prices that took longer are looked for."""
SPOT = "spot"
MACHINES, ON_DEMAND, SPOT_PRICES = "instance types", "on-demand prices", "spot prices"


@dataclass(frozen=True, slots=True)
class Scope:
    """What of EC2 is offered.

    region:        the catalog's
    subnets:       zone -> the subnets there; only these zones are offered
    architectures: those that there is a machine image for
    patterns:      names of instance types with * for any, () for all
    ipv6_addresses: how many each instance has; types that have room for fewer are not offered
    disks:         what instances do with their disks, and what these cost
    """

    region: str
    subnets: Callable[[], Mapping[str, Sequence[str]]]
    architectures: Sequence[str] = ("amd64", "arm64")
    patterns: Sequence[str] = ()
    disks: DiskTerms = NO_TERMS
    ipv6_addresses: int = 0


class AwsCatalog:
    """`refresh` fetches what is due; `offerings` is what is known. `clock`: Unix seconds."""

    def __init__(
        self,
        client: CatalogClient,
        scope: Scope,
        settings: CatalogSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._scope = scope
        self._settings = settings
        self._clock = clock
        self._store = SnapshotStore(settings.directory, scope.region)
        self._snapshot = Snapshot(region=scope.region)
        self._loaded = False
        self._built = self._snapshot
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._problem: CloudError | None = None
        self._busy = asyncio.Lock()
        self._offerings: list[Offering] = []

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def offerings(self) -> Sequence[Offering]:
        """In our zones, cheapest first; empty before the first `refresh`."""
        return self._offerings

    @property
    def _is_known(self) -> bool:
        """Also in our zones: what was kept for other subnets says of these that nothing is offered."""
        return bool(self._snapshot.machines and self._snapshot.machines_at)

    async def refresh(self) -> None:
        """Fetch what is due. Prices that take long come with a later call; what cannot be fetched stays as it was, and
        is tried again. Raises CloudError only while no instance types are known at all."""
        async with self._busy:
            if not self._loaded:
                await self._load()
            settings = self._settings
            self._begin(MACHINES, settings.types_ttl_s, self._fetch_machines)
            if settings.price_api:
                self._begin(ON_DEMAND, settings.prices_ttl_s, self._fetch_on_demand)
            if settings.spot_prices:
                self._begin(SPOT_PRICES, settings.spot_ttl_s, self._fetch_spot)
            needed = self._running.get(MACHINES)
            if needed is not None and not self._is_known:
                await asyncio.wait({needed})
            if self._running:
                await asyncio.wait(set(self._running.values()), timeout=PATIENCE_S)
            if not self._is_known:
                raise self._problem or CloudError("the instance types of EC2 are not known")
            if self._snapshot is not self._built:
                await self._build()
                await asyncio.to_thread(self._store.save, self._snapshot)

    async def run(self) -> None:
        """Refresh for ever, each part when it is due."""
        while True:
            due = LATE_S if self._running else min(self._due.values(), default=0.0) - self._clock()
            await asyncio.sleep(max(1.0, due))
            try:
                await self.refresh()
            except CloudError as error:
                log.warning("the catalog of EC2: %s", error)

    async def close(self) -> None:
        """End the calls under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self) -> None:
        """What an earlier process has kept; what is still young enough is not asked for again."""
        self._loaded = True
        found = await asyncio.to_thread(self._store.load)
        if found is None:
            return
        settings, now = self._settings, self._clock()
        if set(found.zones) != set(self._scope.subnets()):  # other subnets: what is known of zones is not enough
            found = msgspec.structs.replace(found, zones={}, machines_at=0.0, spot={}, spot_at=0.0)
        self._snapshot = found
        for name, at, ttl_s in (
            (MACHINES, found.machines_at, settings.types_ttl_s),
            (ON_DEMAND, found.on_demand_at, settings.prices_ttl_s),
            (SPOT_PRICES, found.spot_at, settings.spot_ttl_s),
        ):
            if at <= now:
                self._due[name] = at + ttl_s
        await self._build()
        log.info("the catalog of EC2 in %s was kept %.0f s ago", found.region, now - found.machines_at)

    def _begin(self, name: str, ttl_s: float, fetch: Callable[[float], Awaitable[None]]) -> None:
        """One part, if it is due."""
        if name not in self._running and self._clock() >= self._due.get(name, 0.0):
            task = asyncio.create_task(self._update(name, ttl_s, fetch), name=f"catalog of EC2: {name}")
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _update(self, name: str, ttl_s: float, fetch: Callable[[float], Awaitable[None]]) -> None:
        now = self._clock()
        problem: CloudError | None = None
        try:
            async with asyncio.timeout(FETCH_LIMIT_S):
                await fetch(now)
        except TimeoutError:
            problem = CloudError(f"no answer within {FETCH_LIMIT_S:g} s")
        except CloudError as error:
            problem = error
        if problem is not None:
            log.warning("the catalog of EC2: %s stay as they were: %s", name, problem)
            ttl_s = min(RETRY_S, ttl_s)
        if name == MACHINES:
            self._problem = problem
        self._due[name] = now + ttl_s * random.uniform(1 - JITTER, 1 + JITTER)

    async def _fetch_machines(self, now: float) -> None:
        zones = sorted(self._scope.subnets())
        machines, offered = await asyncio.gather(fetch_machines(self._client), fetch_zones(self._client, zones))
        self._change(machines=machines, zones=offered, machines_at=now)

    async def _fetch_on_demand(self, now: float) -> None:
        self._change(on_demand=await fetch_on_demand(self._client, self._scope.region), on_demand_at=now)

    async def _fetch_spot(self, now: float) -> None:
        zones = sorted(self._scope.subnets())
        self._change(spot=await fetch_spot(self._client, zones, now), spot_at=now)

    def _change(self, **fields: object) -> None:
        self._snapshot = msgspec.structs.replace(self._snapshot, **fields)

    async def _build(self) -> None:
        """In a thread: there are thousands."""
        scope, settings, built = self._scope, self._settings, self._snapshot
        snapshot = built
        subnets = dict(scope.subnets())
        if scope.ipv6_addresses:
            roomy = {name: each for name, each in snapshot.machines.items() if has_ipv6(each, scope.ipv6_addresses)}
            snapshot = msgspec.structs.replace(snapshot, machines=roomy)
        rows = await asyncio.to_thread(list_rows, snapshot, subnets, scope.architectures, scope.patterns, scope.disks)
        kept = [row.offering for row in rows if settings.previous_generations or row.offering.traits.is_current]
        self._offerings, self._built = kept, built  # there may be a newer one by now


def list_rows(
    snapshot: Snapshot,
    subnets: Mapping[str, Sequence[str]],
    architectures: Sequence[str] = (),
    patterns: Sequence[str] = (),
    disks: DiskTerms = NO_TERMS,
) -> list[PriceRow]:
    """The offerings of a snapshot with the sources of their prices, cheapest first. Empty architectures: all."""
    prices = PriceBook(snapshot, read_table())
    built: dict[str, tuple[MachineTraits, Price]] = {}
    rows = []
    for zone, names in snapshot.zones.items():
        if zone not in subnets:
            continue
        there = tuple(subnets[zone])
        for name in names:
            machine = snapshot.machines.get(name)
            if machine is None or (architectures and machine.architecture not in architectures):
                continue
            if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
                continue
            if name not in built:
                built[name] = build_traits(machine, disks), prices.find_on_demand(machine)
            traits, on_demand = built[name]
            for capacity_type in machine.capacity_types:
                price = prices.find_spot(machine, zone) if capacity_type == SPOT else on_demand
                offering = _build_offering(machine, (zone, capacity_type, there), traits, price)
                rows.append(PriceRow(offering, price.source, price.at))
    rows.sort(key=lambda row: (row.offering.price_per_hour, row.offering.instance_type, row.offering.zone))
    return rows


def _build_offering(
    machine: Machine, place: tuple[str, str, tuple[str, ...]], traits: MachineTraits, price: Price
) -> Offering:
    zone, capacity_type, subnets = place
    return Offering(
        machine.instance_type,
        zone,
        capacity_type,
        machine.architecture,
        machine.cpus * 1000,
        machine.memory_mib * 2**20,
        price.usd,
        machine.gpus,
        traits,
        subnets,
    )
