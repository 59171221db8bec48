"""Tables of the pools of instances that are kept ready."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from vk_provider.settings.build import SettingError
from vk_provider.settingtypes import PositiveFloat

Count = Annotated[int, Meta(ge=0, le=1000)]
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Another size of a pool at certain hours. Where several are in force, the largest counts.

    count: how many instances are ready then
    hours: "07:30-19:00", in UTC. An end that is not after the beginning is on the next day; "00:00-24:00" is a day
    days:  on which it begins, of "mon" to "sun"; empty for every day
    """

    count: Count
    hours: str
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()

    def minutes(self) -> tuple[int, int]:
        """First and last (exclusive) minute, counted from the beginning of its day. Raises SettingError."""
        found = _HOURS.fullmatch(self.hours)
        if found is None or (found[3] == "24" and found[4] != "00"):
            raise SettingError(f"hours {self.hours!r} is not of the form 07:30-19:00")
        start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
        return start, end if end > start else end + 24 * 60


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Instances that are kept ready for pods of a Node: they have booted, and nobody has them. A pod takes the cheapest
    one that fits it, of any pool of its Node, and starts without a boot; where there is none, one is launched for it as
    without pools. An instance that was taken is replaced, after all pods that wait for instances of their own. One
    whose machine image, configuration or pool has changed is ended and replaced. Idle instances cost money.

    Where the cloud has images ready (`local`), they start from the prepared stores that pods have asked for last, the
    same number from each, and those that do not are replaced one after the other. Images that need credentials are in
    none of them. On `local` a pod whose images are prepared, but on none of the idle instances, is launched for.

    name:          of the pool, in tags and metrics
    node:          whose pods it is for; "" for the only Node
    instance_type: name or pattern ("m7g.*"); "" for the cheapest with room for `cpu` and `memory`. GPUs only by type
    cpu:           quantity: a pod of this size fits
    memory:        quantity: a pod of this size fits
    disk:          quantity of ephemeral-storage that a pod may request
    zone:          "" for any of the Node's
    capacity_type: a pod takes what it asks for only (karpenter.sh/capacity-type), on-demand where it asks for nothing
    count:         how many are ready, outside of the hours of `schedule`
    max:           up to which the size follows what pods have asked for in the last five minutes
    state:         of those that are ready. "stopped" ones have booted once, cost their disks alone (which budgets and
                   `vk-provider cost` count), and are started when a pod takes them: slower than "running", and
                   only where the cloud has capacity then; else the pod is launched for. Only on clouds that can
                   (`aws`), and on-demand
    price_factor:  a pod takes an instance only where that costs at most so many times what its own choice would
    schedule:      other sizes at certain hours
    """

    name: str
    node: str = ""
    instance_type: str = ""
    cpu: str = ""
    memory: str = ""
    disk: str = "0"
    zone: str = ""
    capacity_type: Literal["on-demand", "spot"] = "on-demand"
    count: Count = 1
    max: Count = 0
    state: Literal["running", "stopped"] = "running"
    price_factor: PositiveFloat = 2.0
    schedule: tuple[WindowSettings, ...] = ()
