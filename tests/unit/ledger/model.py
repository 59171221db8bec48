"""A cloud that knows its own bill: when each instance ran, exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vk_provider.cloud.base import (
    TAG_NODE,
    TAG_POD_NAMESPACE,
    Instance,
    InstanceState,
)
from vk_provider.ledger.meter import Meter
from vk_provider.ledger.question import CostReport, answer, parse_question
from vk_provider.ledger.span import Owner, Span
from vk_provider.ledger.store import LedgerStore

BEGAN = 1_800_000_000.0
NODE = "node-1"
PRICES = {"small": 0.25, "large": 2.0}
NAMESPACES = ("shop", "lab")


class Cloud:
    """`now` is moved by who holds it. Instances are listed for ever."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.instances: dict[str, Instance] = {}

    def clock(self) -> float:
        return self.now

    def launch(self, kind: str = "small", namespace: str = "shop", **more: str) -> Instance:
        name = f"i-{len(self.instances)}"
        tags = {TAG_NODE: NODE, TAG_POD_NAMESPACE: namespace, **more}
        made = Instance(
            name, InstanceState.RUNNING, kind, "z1", "on-demand", "amd64", "192.0.2.1", "192.0.2.2", self.now, tags
        )
        self.instances[name] = made
        return made

    def end(self, instance_id: str, state: InstanceState = InstanceState.SHUTTING_DOWN) -> None:
        instance = self.instances[instance_id]
        if instance.state is InstanceState.RUNNING:
            self.instances[instance_id] = replace(instance, state=state, ended_at=self.now)

    def running(self) -> list[str]:
        return [name for name, each in self.instances.items() if each.state is InstanceState.RUNNING]

    def seconds(self, instance_id: str) -> float:
        instance = self.instances[instance_id]
        return (instance.ended_at or self.now) - instance.launch_time

    def bill(self) -> float:
        """USD of all, until now."""
        return sum(self.seconds(name) / 3600 * PRICES[each.instance_type] for name, each in self.instances.items())


class Process:
    """A provider's meter with its store."""

    def __init__(self, cloud: Cloud, path: str) -> None:
        self.cloud = cloud
        self.meter = Meter(lambda instance: PRICES.get(instance.instance_type), cloud.clock)
        self.store = LedgerStore(path, "test")
        self.store.open()
        self.make_meter()
        self.meter.restore(self.store.load())

    def make_meter(self) -> None:
        """What a test has to add before the meter takes over what an earlier process has left."""

    def see_new(self) -> str:
        """Launch one, and see it; returns its ID."""
        made = self.cloud.launch()
        self.meter.see(made)
        return made.instance_id

    def store_spans(self) -> list[Span]:
        """All of the store, the oldest first."""
        self.flush()
        return self.store.load()

    def list(self) -> None:
        self.meter.take(list(self.cloud.instances.values()), lambda instance_id: False)

    def flush(self) -> None:
        changed, self.meter.changed = list(self.meter.changed.values()), {}
        self.store.write(
            [replace(span) for span in changed], self.meter.clock(), self.meter.repricing.find_unpriced_end()
        )

    def cost(self, by: str = "namespace", since: str = "365d") -> CostReport:
        self.flush()
        return answer(self.store, parse_question({"by": by, "since": since}, self.cloud.now))

    def usd(self) -> float:
        return self.cost()["total"]["usd"]


def owner(namespace: str, pod: str, **labels: str) -> Owner:
    return Owner(namespace, pod, f"uid-of-{pod}", labels)


def play(cloud: Cloud, process: Process, step: tuple[str, Any, Any]) -> None:
    """A step of a drawn history; others than these are nothing."""
    verb, first, second = step
    running = cloud.running()
    if verb == "launch":
        process.meter.see(cloud.launch(first, second))
    elif verb == "pass":
        cloud.now += first
    elif verb == "list":
        process.list()
    elif verb == "flush":
        process.flush()
    elif verb == "assign" and running:
        name = running[first % len(running)]
        namespace = cloud.instances[name].tags[TAG_POD_NAMESPACE]
        process.meter.assign(name, owner(namespace, f"pod-{second}"))
    elif verb == "end" and running:
        name = running[first % len(running)]
        cloud.end(name, InstanceState.STOPPED if second == "stop" else InstanceState.SHUTTING_DOWN)
        if second == "call":
            process.meter.ended(name)
        elif second == "notice":
            process.meter.told(name, InstanceState.TERMINATED)
