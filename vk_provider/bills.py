"""What runs, for whom and at what price: the room for the instances, the pods and the ledger, joined for questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry

from vk_provider.cloud.base import TAG_IMAGE_SET, TAG_NODE, TAG_POD_UID, TAG_POOL, Instance, InstanceState
from vk_provider.cloud.disks import GIB
from vk_provider.cloud.imagestores import KeptStore
from vk_provider.cloud.spotprices import SpotPriceSource
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.room import Instances
from vk_provider.ledger.ledger import Ledger, LedgerRules
from vk_provider.ledger.metrics import LedgerMetrics
from vk_provider.ledger.question import CostQuestionError, CostReport, parse_question
from vk_provider.ledger.span import HOUR_S, NANOS, SNAPSHOT, Owner, Span, owner_of_pod, owner_of_tags, to_nanos
from vk_provider.ledger.spot import SpotPricing
from vk_provider.pods.record import PodRecord
from vk_provider.rfc3339 import format_time
from vk_provider.settings import Settings

DAY_S = 24 * HOUR_S
SOURCES = ("ledger", "tags")


def build_ledger(
    room: Instances, settings: Settings, registry: CollectorRegistry, spot_prices: SpotPriceSource | None = None
) -> Ledger:
    """Not loaded."""
    own = settings.ledger
    rules = LedgerRules(own.file, settings.cloud.owner, own.keep_days * DAY_S, own.max_bytes, own.flush_s)
    spot = SpotPricing(room.meter, spot_prices) if spot_prices is not None else None
    return Ledger(room.meter, rules, LedgerMetrics(registry), spot)


class StoreBill:
    """cloud.imagestores.StoreCosts: what prepared images cost counts like what instances do. A builder is no
    namespace's: it is within the limits of all together."""

    def __init__(self, room: Instances) -> None:
        self._room = room

    def may_spend(self, usd_per_hour: float) -> bool:
        """Pods come first: no room is taken that some wait for."""
        launches = self._room.launches
        return not launches.is_room_awaited("") and launches.budget.has_room("", to_nanos(usd_per_hour) or 0)

    def note_builder(self, builder: Instance) -> None:
        self._room.meter.see(builder)

    def note_ended(self, instance_id: str) -> None:
        self._room.meter.ended(instance_id)

    def note_kept(self, kept: Sequence[KeptStore]) -> None:
        self._room.meter.keep(kept)


class Bills:
    """kubelet.provider.BillSource. records: by pod UID. nodes: the provider's. The first one's answers have all that no
    other one's have: what is of no Node, as prepared images are, and what is of Nodes that are not the provider's any
    more. So nothing that it has caused is missing in all of them."""

    def __init__(self, room: Instances, ledger: Ledger, records: Mapping[str, PodRecord], nodes: Sequence[str]) -> None:
        self._room, self._ledger, self._records = room, ledger, records
        self._home, self._others = (nodes[0] if nodes else ""), tuple(nodes[1:])

    def _is_of(self, instance: Instance, node: str) -> bool:
        tag = instance.tags.get(TAG_NODE, "")
        return tag == node or (node == self._home and tag not in self._others)

    def instances(self, node: str) -> list[dict[str, object]]:
        """Those that cost something, or may, with what this process and the newest listing know."""
        found = [(each.described, each) for each in self._room.table.owned.values()]
        known = {instance.instance_id for instance, _ in found}
        listed: list[tuple[Instance, OwnedInstance | None]] = [
            (each, None)
            for each in self._room.table.listed.values()
            if each.instance_id not in known and not each.state.is_terminating
        ]
        shown = [
            self._describe(instance, owned)
            for instance, owned in [*found, *listed]
            if self._is_of(instance, node) and not instance.state.is_terminated
        ]
        if node == self._home:
            builders = [each for each in self._room.table.builders.values() if not each.state.is_terminating]
            shown += [self._describe(each, None) for each in builders]
            shown += [_describe_kept(span) for span in self._room.meter.kept()]
        return sorted(shown, key=lambda each: (str(each["since"]), str(each["instance"])))

    def _describe(self, instance: Instance, owned: OwnedInstance | None) -> dict[str, object]:
        owner, witness = self._find_owner(instance, owned)
        price, disk_price = self._find_prices(instance)
        disks = self._room.disks_of(instance)
        offering = self._room.offerings.find(instance.instance_type)
        store_bytes = offering.traits.local_disk_bytes if offering is not None else 0
        return {
            "instance": instance.instance_id,
            "type": instance.instance_type,
            "zone": instance.zone,
            "capacity": instance.capacity_type,
            "state": str(instance.state),
            "stage": str(owned.stage) if owned is not None else "",
            "since": format_time(instance.launch_time),
            "usdPerHour": price,
            "diskUsdPerHour": disk_price,
            "rootGiB": disks.root_gib if disks is not None else None,
            "storeGiB": store_bytes // GIB,
            "dataGiB": disks.data_gib if disks is not None else None,
            "namespace": owner.namespace,
            "pod": owner.pod,
            "witness": witness,
            "pool": instance.tags.get(TAG_POOL, ""),
        }

    def _find_prices(self, instance: Instance) -> tuple[float | None, float | None]:
        """USD an hour with its disks, and of these alone. While it is stopped both are the same."""
        meter, room = self._room.meter, self._room
        price, disk_price = room.price_of(instance), room.disk_price_of(instance)
        span = meter.find(instance.instance_id)
        if span is not None:
            price = span.price_nanos / NANOS if span.price_nanos else price
            disk_price = span.disk_nanos / NANOS if span.disk_nanos else disk_price
        if instance.state in (InstanceState.STOPPING, InstanceState.STOPPED):
            price = 0.0
        total = None if price is None else round(price + (disk_price or 0.0), 6)
        return total, None if disk_price is None else round(disk_price, 6)

    def _find_owner(self, instance: Instance, owned: OwnedInstance | None) -> tuple[Owner, str]:
        """Whose it is, and who says so: the agent, the pod's status, the tags, or this process alone, by the launch. Of
        one that no pod has: its agent, that it is empty; the cloud's listing, that it is stopped; or its tags, that it
        is of a pool."""
        by_tags = owner_of_tags(instance)
        uid = owned.pod_uid if owned is not None else ""
        record = self._records.get(uid)
        if owned is None or record is None:
            return by_tags, "tags" if by_tags.pod_uid else _find_witness_of_spare(instance, owned)
        owner = owner_of_pod(record.pod)
        if owned.said_uid == uid or record.report.from_agent:
            return owner, "agent"
        if instance.primary_ip and (record.pod.get("status") or {}).get("hostIP") == instance.primary_ip:
            return owner, "status"
        return owner, "tags" if instance.tags.get(TAG_POD_UID) == uid else "launch"

    async def cost(self, node: str, given: Mapping[str, str]) -> CostReport:
        question = parse_question(given, self._ledger.meter.clock(), node)
        if node == self._home and not given.get("alone"):
            question = replace(question, besides=self._others)
        source = given.get("source") or "ledger"
        if source not in SOURCES:
            raise CostQuestionError(f"the source {source!r} is none of {', '.join(SOURCES)}")
        if source == "ledger":
            return await self._ledger.cost(question)
        await self._room.table.refresh()
        return await self._ledger.cost_from_tags(self._listed(), self._room.price_of, question)

    def _listed(self) -> Iterator[Instance]:
        return iter([*self._room.table.listed.values(), *self._room.table.builders.values()])


def _find_witness_of_spare(instance: Instance, owned: OwnedInstance | None) -> str:
    if owned is not None and owned.is_idle:
        return "agent"
    if instance.state in (InstanceState.STOPPING, InstanceState.STOPPED):
        return "listing"
    return "tags" if TAG_POOL in instance.tags or TAG_IMAGE_SET in instance.tags else ""


def _describe_kept(span: Span) -> dict[str, object]:
    """A store of prepared images, in the words of an instance."""
    usd = round(span.disk_nanos / NANOS, 6)
    return {
        "instance": span.instance_id,
        "type": SNAPSHOT,
        "zone": "",
        "capacity": "",
        "state": "kept",
        "stage": "",
        "since": format_time(span.launched or span.since),
        "usdPerHour": usd,
        "diskUsdPerHour": usd,
        "rootGiB": None,
        "storeGiB": 0,
        "dataGiB": None,
        "namespace": span.owner.namespace,
        "pod": span.owner.pod,
        "witness": "listing",
        "pool": "",
    }
