"""How much later a pod runs for its first tables: bind to Running without, with 100 Services and with thousands.

The bare script runs before each pod: what the machine is slower by at one time is taken off.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.api import Api
from tests.bench.bare_instance import find_golden, running
from tests.bench.cluster import IMAGE, BenchCluster, Provider
from tests.bench.figure import Figure, median_figure
from tests.bench.objects import add_policy, add_services, remove_policy, remove_services
from tests.bench.one_pod import COMMAND, Steps, bare_place, run_pod
from tests.bench.prometheus import Scrape

FEW_NAMESPACE = "few"
ROUNDS = 9
SETTLE_S = 0.7
"""Until the provider has compiled what was made or removed."""
MAX_LATER_S = 0.3


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds bind to Running of the bare script and of a pod; seconds until the pod's tables were in force."""

    bare_ms: float
    steps: Steps
    applied_s: float

    @property
    def more_ms(self) -> float:
        return self.steps.running - self.bare_ms


class FirstTables:
    """`compare_few` and `measure_many`, then `figures`."""

    def __init__(self, cluster: BenchCluster, api: Api) -> None:
        self._cluster, self._api = cluster, api
        self._number = 0
        self._none: list[Round] = []
        self._few: list[Round] = []
        self._many: list[Round] = []
        self._counts = (0, 0)

    @property
    def applied_s(self) -> list[float]:
        """Seconds from a new instance's greeting until its agent has confirmed the table of many Services."""
        return [one.applied_s for one in self._many]

    async def compare_few(self, provider: Provider, count: int) -> None:
        """In turn with no Services beside the cluster's own and no policy, and with `count` and a policy."""
        await self._round(provider)  # the first fills caches
        for _ in range(ROUNDS):
            self._none.append(await self._round(provider))
            await add_services(self._api, FEW_NAMESPACE, count)
            await add_policy(self._api)
            await asyncio.sleep(SETTLE_S)
            self._few.append(await self._round(provider))
            await remove_services(self._api, FEW_NAMESPACE)
            await remove_policy(self._api)
            await asyncio.sleep(SETTLE_S)
        self._counts = (count, 0)

    async def measure_many(self, provider: Provider, count: int) -> None:
        """With what is in the API server now, and a policy."""
        await add_policy(self._api)
        await asyncio.sleep(SETTLE_S)
        await self._round(provider)
        self._many = [await self._round(provider) for _ in range(ROUNDS)]
        self._counts = (self._counts[0], count)

    async def _round(self, provider: Provider) -> Round:
        golden = await asyncio.to_thread(
            find_golden, self._cluster.root / "golden", (str(self._cluster.image_archive),)
        )
        async with running(bare_place(self._cluster), golden, IMAGE, COMMAND) as (_, timeline):
            bare_ms = timeline.marks["running"]
        before = await self._applied(provider)
        self._number += 1
        steps = await run_pod(self._cluster, self._api, provider, f"first-{self._number}")
        after = await self._applied(provider)
        count = after[1] - before[1]
        found = Round(bare_ms, steps, (after[0] - before[0]) / count if count else 0.0)
        print(
            f"  first tables: bare {bare_ms:.0f} ms, a pod {steps.running:.0f} ms, table after "
            f"{found.applied_s * 1000:.0f} ms",
            file=sys.stderr,
            flush=True,
        )
        return found

    async def _applied(self, provider: Provider) -> tuple[float, float]:
        """Sum and count of vk_table_applied_seconds for Services."""
        name = "vk_table_applied_seconds"
        scrape = Scrape.parse(await self._api.text(provider.metrics_url), name)
        return scrape.total(f"{name}_sum", table="services"), scrape.total(f"{name}_count", table="services")

    def figures(self) -> list[Figure]:
        few, many = self._counts
        base = statistics.median(one.more_ms for one in self._none)
        later_few = [
            with_few.more_ms - without.more_ms for with_few, without in zip(self._few, self._none, strict=True)
        ]
        later_many = [one.more_ms - base for one in self._many]
        spread = _spread([one.more_ms for one in self._none])
        note = "and a policy: Running later by, bare script taken off"
        return [
            median_figure(
                "first_table_many", later_many, "ms", goal=MAX_LATER_S * 1000, note=f"{many} Services {note}"
            ),
            median_figure(
                "first_table_few",
                later_few,
                "ms",
                goal=spread,
                note=f"{few} Services {note}; goal: the distance of the quartiles without them",
            ),
            *(
                median_figure(
                    f"first_table_running_{name}",
                    [one.steps.running for one in rounds],
                    "ms",
                    note="bind seen to Running",
                    detail=_parts(rounds),
                )
                for name, rounds in (("none", self._none), ("few", self._few), ("many", self._many))
            ),
        ]


def _spread(values: Sequence[float]) -> float:
    """The distance between the quartiles."""
    quarters = statistics.quantiles(values, n=4)
    return quarters[2] - quarters[0]


def _parts(rounds: Sequence[Round]) -> dict[str, float]:
    parts = {name: statistics.median(one.steps.parts()[name] for one in rounds) for name in rounds[0].steps.parts()}
    parts["tables after"] = statistics.median(one.applied_s for one in rounds) * 1000
    return {name: round(value, 1) for name, value in parts.items()}
