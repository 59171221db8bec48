"""Who waits for an instance, and in which group: a demand is in one, unless none can be had for it now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from vk_provider import eventreasons
from vk_provider.aiokit.timers import Timers
from vk_provider.errors import CapacityError
from vk_provider.instances.demand import Demand, Group, PodSide
from vk_provider.instances.groups import LaunchGroups
from vk_provider.instances.shortages import Shortages
from vk_provider.jsontypes import Json
from vk_provider.sizing.need import compute_need
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal

log = logging.getLogger(__name__)


class WaitingDemands:
    """`join` puts a demand into its group, and `leave` ends its wait. preferences_of: of a Node, by its name.

    on_joined(group): a call may be due; on_left(uid): none is for this one
    """

    def __init__(
        self,
        groups: LaunchGroups,
        selector: OfferingSelector,
        shortages: Shortages,
        preferences_of: Callable[[str], Preferences],
    ) -> None:
        self.groups = groups
        self._selector, self._shortages, self._preferences_of = selector, shortages, preferences_of
        self._demands: dict[str, Demand] = {}
        self._timers = Timers()
        self.on_joined: Callable[[Group], None] = lambda group: None
        self.on_left: Callable[[str], None] = lambda uid: None
        self.pods: PodSide

    def __iter__(self) -> Iterator[Demand]:
        return iter(self._demands.values())

    def has(self, demand: Demand) -> bool:
        """Whether this very demand waits still: its pod may wait by another one."""
        return self._demands.get(demand.uid) is demand

    def namespace_of(self, uid: str) -> str:
        demand = self._demands.get(uid)
        return demand.namespace if demand is not None else ""

    def find_uncovered(self) -> list[Demand]:
        """Those that no call asks for now, first who is served first."""
        found = [demand for demand in self._demands.values() if demand.group is None]
        for group in self.groups:
            found += group.ranked()[group.in_flight :]
        return sorted(found, key=lambda demand: demand.rank)

    # --- one of them ---------------------------------------------------------------------------------------------

    def join(self, demand: Demand) -> None:
        """Wait for an instance of the next launch. A demand that is known waits on."""
        if demand.uid not in self._demands:
            self._demands[demand.uid] = demand
            self.enlist(demand)

    def leave(self, uid: str) -> None:
        """The pod has an instance, or needs none any more."""
        demand = self._demands.pop(uid, None)
        self.on_left(uid)
        if demand is not None and (group := demand.group) is not None:
            self.quit_group(demand)  # it may join again, when a start fails
            self.groups.drop_if_empty(group)

    def enlist(self, demand: Demand) -> None:
        """Select for it, with what is short by now."""
        try:
            group = self._group_of(demand)
        except Exception as error:  # a fault of one pod's sizing is that pod's
            log.debug("traceback", exc_info=error)
            self.wait_on([demand], error)
            return
        if group is not None:
            demand.group = group
            group.waiting[demand.uid] = demand
            self.on_joined(group)

    def _group_of(self, demand: Demand) -> Group | None:
        """None when no instance can be had, now or ever, which is told."""
        preferences = self._preferences_of(demand.node)
        demand.steady_cpu_milli = self.steady_cpu_of(demand.pod, demand.node)
        selection = self._selector.select(demand.pod, self._shortages.unavailable(), preferences, demand.given)
        if not isinstance(selection, Refusal):
            return self.groups.find(demand, selection)
        if selection.retryable:
            self.wait_on([demand], CapacityError(selection.message))
            return None
        asked_wrongly = selection.reason == eventreasons.INVALID_REQUIREMENT
        reason = eventreasons.INVALID_REQUIREMENT if asked_wrongly else eventreasons.NO_FITTING_INSTANCE
        self.refuse(demand, reason, selection.message)
        return None

    def steady_cpu_of(self, pod: Json, node: str) -> int:
        """Millicores that the pod is expected to use all the time."""
        return compute_need(pod, self._preferences_of(node)).steady_cpu_milli

    def refuse(self, demand: Demand, reason: eventreasons.EventReason, message: str) -> None:
        """No instance will ever be had for the pod."""
        self.leave(demand.uid)
        self.pods.on_refused(demand.uid, reason, message)

    def quit_group(self, demand: Demand) -> None:
        """It waits on, and is selected for anew."""
        if demand.group is not None:
            demand.group.waiting.pop(demand.uid, None)
            demand.group = None

    def wait_on(self, demands: Sequence[Demand], problem: Exception) -> None:
        """Select anew after a while, for those that are in no group."""
        self.tell(demands, problem)
        delay_s = max(demand.backoff.next_delay_s() for demand in demands)
        log.warning("%d pods wait for an instance, next try in %.1f s: %s", len(demands), delay_s, problem)

        def again() -> None:
            for demand in demands:
                if self.has(demand) and demand.group is None:
                    demand.image_store = self.pods.choose_store(demand.uid, demand.image_store)
                    self.enlist(demand)

        self._timers.later(delay_s, again)

    def tell(self, demands: Sequence[Demand], problem: Exception) -> None:
        """An event about those pods that wait still."""
        text = f"cannot launch an instance, will try again: {problem}"
        for demand in demands:
            if self.has(demand):
                self.pods.on_trouble(demand.uid, "Warning", eventreasons.FAILED_LAUNCH, text)

    def close(self) -> None:
        self._timers.cancel()
