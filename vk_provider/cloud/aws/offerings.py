"""What can be bought, by asking EC2 alone. A catalog with published prices takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from vk_provider.cloud.aws.answers import InstanceType, to_architecture
from vk_provider.cloud.aws.operations import DESCRIBE_TYPE_OFFERINGS, DESCRIBE_TYPES, AnswerT, AwsApi, Operation
from vk_provider.cloud.base import Offering

MIB = 2**20
GIB = 2**30
PAGE = 100
MEMORY_SHARE = 0.925
"""Of an instance type's memory, what its operating system has: the rest is the hypervisor's and the firmware's
(Karpenter's vmMemoryOverheadPercent is 0.075, for the same reason)."""
USAGE_CLASSES = {"on-demand": "on-demand", "spot": "spot"}

Prices = Callable[[str, str, str], float | None]
"""(instance type, zone, capacity type) -> USD an hour, None when it is not known."""


class Catalog(Protocol):
    async def refresh(self) -> None:
        """Read what there is. Raises CloudError."""

    def offerings(self) -> Sequence[Offering]:
        """All, as they were read last."""


class ApiCatalog:
    """Catalog of what EC2 itself says. Without a price an offering is ranked by a rough one: EC2 does not tell prices.

    architectures: those that there is an image for. patterns: names of types with * for any, empty for all
    """

    def __init__(
        self,
        api: AwsApi,
        zones: Callable[[], frozenset[str]],
        architectures: Sequence[str],
        patterns: Sequence[str] = (),
        prices: Prices = lambda instance_type, zone, capacity_type: None,
    ) -> None:
        self._api = api
        self._zones = zones
        self._architectures = architectures
        self._patterns = list(patterns)
        self._prices = prices
        self._offerings: list[Offering] = []

    def offerings(self) -> Sequence[Offering]:
        return self._offerings

    async def refresh(self) -> None:
        zones = sorted(self._zones())
        by_pattern = [{"Name": "instance-type", "Values": self._patterns}] if self._patterns else []
        current = [] if self._patterns else [{"Name": "current-generation", "Values": ["true"]}]
        types: dict[str, InstanceType] = {}
        for answer in await self._pages(DESCRIBE_TYPES, {"Filters": [*by_pattern, *current]}):
            types.update((each.instance_type, each) for each in answer.instance_types)
        where = {"LocationType": "availability-zone", "Filters": [*by_pattern, {"Name": "location", "Values": zones}]}
        found = []
        for page in await self._pages(DESCRIBE_TYPE_OFFERINGS, where):
            for each in page.instance_type_offerings:
                if each.instance_type in types and each.location in zones:
                    found += self._build(types[each.instance_type], each.location)
        self._offerings = sorted(found, key=lambda each: (each.price_per_hour, each.instance_type, each.zone))

    async def _pages(self, operation: Operation[AnswerT], parameters: Mapping[str, Any]) -> list[AnswerT]:
        pages, token = [], ""
        while True:
            more = {"NextToken": token} if token else {}
            pages.append(await self._api.call(operation, {**parameters, "MaxResults": PAGE, **more}))
            token = getattr(pages[-1], "next_token", "")
            if not token:
                return pages

    def _build(self, of: InstanceType, zone: str) -> list[Offering]:
        offered = [to_architecture(name) for name in of.processor_info.supported_architectures]
        architecture = next((name for name in offered if name in self._architectures), "")
        cpus, memory = of.v_cpu_info.default_v_cpus, of.memory_info.size_in_mi_b * MIB
        if not architecture or cpus <= 0 or memory <= 0:
            return []
        built = []
        for usage, capacity_type in USAGE_CLASSES.items():
            if usage not in of.supported_usage_classes:
                continue
            price = self._prices(of.instance_type, zone, capacity_type)
            built.append(
                Offering(
                    instance_type=of.instance_type,
                    zone=zone,
                    capacity_type=capacity_type,
                    architecture=architecture,
                    cpu_milli=1000 * cpus,
                    memory_bytes=int(memory * MEMORY_SHARE),
                    price_per_hour=estimate_price(cpus, memory, capacity_type) if price is None else price,
                    gpus=sum(gpu.count for gpu in of.gpu_info.gpus),
                )
            )
        return built


def estimate_price(cpus: int, memory_bytes: int, capacity_type: str) -> float:
    """For ranking alone: about what the m7i, c7i and r7i families cost in us-east-1 on demand, USD 0.039 a vCPU and
    0.0029 a GiB, and a typical 0.4 of it for spot."""
    price = 0.039 * cpus + 0.0029 * memory_bytes / GIB
    return round(price * (0.4 if capacity_type == "spot" else 1.0), 6)
