"""Launch groups: demands that are equal in all that goes into a request share one call.

A call asks for one instance for each demand that waits when the call's turn comes, so whatever waits while calls are
throttled goes into the next one together. It may bring a part only: instances go to demands by priority and age, the
rest is selected anew, without the offerings that had no capacity.

A request is frozen until its outcome is known (`calls`). Meanwhile its demands are in no other call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from vk_provider import eventreasons
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.base import TAG_LAUNCH, Cloud, Instance, LaunchAnswer, LaunchFailure, Offering, OfferingKey
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError, CloudRequestError
from vk_provider.instances.allotment import Allotment, LaunchSide
from vk_provider.instances.budget import NAMESPACES, Budget, Held, Reservation, price_of
from vk_provider.instances.calls import LaunchCalls
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.gathering import Gathering
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.request import BootData, LaunchCall, freeze_pool_request, freeze_request
from vk_provider.instances.shortages import Shortages
from vk_provider.instances.table import InstanceTable
from vk_provider.instances.waiting import WaitingDemands
from vk_provider.settings import BudgetSettings
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import explain_choice

log = logging.getLogger(__name__)

FULL_S = 60.0
"""How long nothing is launched for pools once the account was full: what gets free is the pods'."""
_DEFAULT_PREFERENCES = Preferences()

OnLaunched = Callable[[Sequence[OwnedInstance], LaunchCall], int]
"""Returns how many of them are used already: an earlier process has made the same call."""


@dataclass(frozen=True, slots=True)
class LaunchRules:
    """What goes into every request, and limits. By Node name: `preferences`, with defaults, and `shared_host_paths`.
    gather_s: see CloudAbility."""

    owner: str
    boot_data: BootData
    preferences: Mapping[str, Preferences]
    shared_host_paths: Mapping[str, tuple[str, ...]]
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    gather_s: float = 0.0

    def preferences_of(self, node: str) -> Preferences:
        return self.preferences.get(node) or _DEFAULT_PREFERENCES


class Launches:
    """Calls for what waits; `on_launched` is told of what a call brings, and gives it to somebody.

    spare: how many instances, which a group's demands may get instead, are about to say that they are empty
    """

    def __init__(
        self,
        cloud: Cloud,
        table: InstanceTable,
        waiting: WaitingDemands,
        shortages: Shortages,
        rules: LaunchRules,
        metrics: InstanceMetrics,
    ) -> None:
        self._calls = LaunchCalls(cloud, table, metrics, lambda call, problem: waiting.tell(call.demands, problem))
        self._group_limit = cloud.group_limit
        self.waiting = waiting
        self._shortages = shortages
        self._rules = rules
        self._metrics = metrics
        self._gathering = Gathering(rules.gather_s)
        self.budget = Budget(rules.budget, table.meter)
        side = LaunchSide(
            self._all_missing,
            self._call,
            self._tell_held,
            self._gathering.wait_s,
            lambda: self.on_slack(),
            cloud.group_limit,
        )
        self.allotment = Allotment(self.budget, self._calls.pace, side)
        table.meter.on_less = self.allotment.room_appears
        waiting.on_joined, waiting.on_left = self.pump, self.allotment.leave
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._tasks = BackgroundTasks()
        self.on_launched: OnLaunched = lambda brought, call: 0
        self.spare: Callable[[str], int] = lambda digest: 0
        self.on_slack: Callable[[], None] = lambda: None
        self.on_uncovered: Callable[[], None] = lambda: None
        self._full_until = 0.0

    @property
    def is_busy(self) -> bool:
        return bool(self._tasks) or bool(self._pumps) or self.allotment.is_busy

    @property
    def has_slack(self) -> bool:
        """Whether nothing of the pods' is delayed by a call for a pool, or waits for room that it would take."""
        is_pending = self._pumps or self.allotment.is_busy or self.allotment.held
        return not is_pending and self.slack_in_s == 0.0

    @property
    def is_launching(self) -> bool:
        """Whether a call for pods is under way."""
        return any(group.in_flight for group in self.waiting.groups)

    def is_new(self, instance: Instance) -> bool:
        """Whether it is of a call of this process, without an answer so far: no earlier one can have given it a pod."""
        return instance.tags.get(TAG_LAUNCH, "") in self._calls.unheard

    def is_room_awaited(self, namespace: str) -> bool:
        """Whether a pod waits for room that one of this namespace would take: of the budget, or of the same quota."""
        held = self.allotment.held.items()
        return any(not key.startswith(NAMESPACES) or self.waiting.namespace_of(uid) == namespace for uid, key in held)

    @property
    def slack_in_s(self) -> float:
        """Until calls are not throttled, and the account not full, any more."""
        return max(0.0, self._calls.pace.wait_s, self._full_until - time.monotonic())

    def unavailable(self) -> frozenset[OfferingKey]:
        """See shortages.Shortages."""
        return self._shortages.unavailable()

    def note_shortage(self, offering: Offering, error: CloudError) -> None:
        """A start of an instance has met it."""
        self._shortages.mark(offering, error)

    # --- calls ---------------------------------------------------------------------------------------------------

    def pump(self, group: Group) -> None:
        """Call for what is missing, in a moment: demands of one read of the watch share a call."""
        if self.budget.is_limited:
            self.allotment.wake()
        elif id(group) not in self._pumps and self._missing(group) > 0:
            self._pumps[id(group)] = asyncio.create_task(self._pump(group), name="launch group")

    def _missing(self, group: Group) -> int:
        return len(group.waiting) - group.in_flight - self.spare(group.digest)

    async def _pump(self, group: Group) -> None:
        since = time.monotonic()
        try:
            while (count := min(self._missing(group), self._group_limit)) > 0:
                is_full = count == self._group_limit  # nobody else would be in it
                if wait_s := self._calls.pace.wait_s or (0.0 if is_full else self._gathering.wait_s(since)):
                    await asyncio.sleep(wait_s)
                    continue
                self._call(self._choose(group, count), group)
        finally:
            del self._pumps[id(group)]  # at once: who joins from now on needs another
            self.on_slack()

    def _all_missing(self) -> Iterator[tuple[Group, Sequence[Demand]]]:
        for group in self.waiting.groups:
            if group.waiting:
                yield group, self._choose(group, max(0, self._missing(group)))

    def _tell_held(self, held: Held) -> None:
        self.waiting.pods.on_trouble(held.demand.uid, "Warning", eventreasons.BUDGET_EXCEEDED, held.message)

    def _call(
        self, demands: Sequence[Demand], group: Group, reservation: Reservation | None = None, number: int = 0
    ) -> None:
        self._gathering.note_call(self._is_one_alone())
        call = self._freeze(group, demands, reservation or self.allotment.reserve(group, demands), number)
        group.in_flight += call.request.count
        self._tasks.spawn(self._carry_out(call), f"launch {call.request.client_token}")

    def _is_one_alone(self) -> bool:
        """Whether no more than one pod waits for a call or its outcome. Who waits for capacity, or for room, may do so
        for long, and is gathered with nobody."""
        held = self.allotment.held
        called = (demand for demand in self.waiting if demand.group is not None and demand.uid not in held)
        return len(list(islice(called, 2))) < 2

    def _choose(self, group: Group, count: int) -> list[Demand]:
        """Those that no call asks for yet, as far as that can be told: who is first gets the first answer."""
        return group.ranked()[group.in_flight : group.in_flight + count]

    def _freeze(self, group: Group, demands: Sequence[Demand], reservation: Reservation, number: int) -> LaunchCall:
        now = time.monotonic()
        for demand in demands:
            if not demand.called_at:
                demand.called_at = now
                self._metrics.launch_seconds.observe(now - demand.since)
        selection = group.selection
        offered = selection.offering, *selection.alternatives
        offerings = self.budget.widen(
            reservation,
            offered,
            selection.disks,
            cpu_milli=selection.steady_cpu_milli,
            has_store=bool(group.image_store),
        )
        request = freeze_request(group, demands, self._rules.owner, self._rules.boot_data, number, offerings)
        self._metrics.group_size.observe(request.count)
        return LaunchCall(request, group, tuple(demands), number, reservation)

    async def _carry_out(self, call: LaunchCall) -> None:
        """Until the outcome is known. Instances that nobody waits for any more are given back by who takes them."""
        group = call.group
        try:
            try:
                outcome = await self._calls.find_outcome(call, lambda: any(map(self.waiting.has, call.demands)))
            finally:
                group.in_flight -= call.request.count
            if outcome is not None:
                self._settle(call, outcome)
            self.on_uncovered()
        finally:
            self.budget.release(call.reservation)  # what it has brought, the meter has
        self.allotment.room_appears()
        self.pump(group)
        self.waiting.groups.drop_if_empty(group)
        self.on_slack()

    async def launch_for_pool(self, group: Group, pool: str, name: str) -> LaunchAnswer | None:
        """One instance that is no pod's, until the outcome is known; None when calls are throttled. What it brings is
        the caller's. name: see freeze_pool_request."""
        offerings = (group.selection.offering, *group.selection.alternatives)
        disks, has_store = group.selection.disks, bool(group.image_store)
        nanos = price_of(offerings[0], disks, has_store=has_store)
        if not self.budget.has_room(group.namespace, nanos):
            problem = CloudQuotaError("the budget has no room for another instance (budget.usd_per_hour, .instances)")
            return LaunchAnswer((), (LaunchFailure(offerings[0], problem),))
        reservation = self.budget.reserve(group.namespace, 1, nanos)
        try:
            allowed = self.budget.widen(reservation, offerings, disks, has_store=has_store)
            rules = self._rules
            request = freeze_pool_request(group, pool, name, rules.owner, rules.boot_data, allowed)
            answer = await self._calls.find_outcome(LaunchCall(request, group, (), 0, reservation), lambda: True)
        finally:
            self.budget.release(reservation)
        if answer is not None:
            self._note(answer)
        return answer

    def _note(self, answer: LaunchAnswer) -> None:
        for failure in answer.failures:
            self._shortages.mark(failure.offering, failure.error)
            if isinstance(failure.error, CloudQuotaError) and not failure.error.family:
                self._full_until = time.monotonic() + FULL_S
        for instance in answer.instances:
            is_gone = instance.state.is_terminating or instance.state.has_stopped
            self._metrics.launches.labels("gone" if is_gone else "ok").inc()

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _settle(self, call: LaunchCall, answer: LaunchAnswer) -> None:
        brought, gone, inherited = [], 0, call.is_inherited
        self._note(answer)
        for instance in answer.instances:
            if instance.state.is_terminating or instance.state.has_stopped:
                gone += 1
                continue
            brought.append(OwnedInstance(instance, handover_unknown=inherited))
        if brought:
            gone += self.on_launched(brought, call)
        self._serve_rest(call, answer, gone)

    def _serve_rest(self, call: LaunchCall, answer: LaunchAnswer, gone: int) -> None:
        """Those of the call that got nothing. gone: instances that had ended, or were used, before they were seen."""
        group = call.group
        rest = [demand for demand in call.demands if group.waiting.get(demand.uid) is demand]
        if not rest:
            return
        errors = [failure.error for failure in answer.failures]
        if not errors and not gone:
            return  # what it brought is known already, and may still be given to them
        if not errors:  # the token is used up
            again = self.allotment.grant(group, rest[:gone])
            if again:
                self._call(again, group, number=call.number + 1)
            return
        last = errors[-1]
        label = {CapacityError: "no-capacity", CloudQuotaError: "failed", CloudRequestError: "refused"}
        self._metrics.launches.labels(label.get(type(last), "failed")).inc(len(rest))
        if all(isinstance(error, CloudRequestError) for error in errors):
            for demand in rest:
                self.waiting.refuse(demand, eventreasons.INSTANCE_REFUSED, str(last))
            return
        for demand in rest:
            self.waiting.quit_group(demand)
        if any(isinstance(error, CapacityError) or _is_of_family(error) for error in errors):
            for demand in rest:
                text = f"{errors[0]}; trying the next offering"
                self.waiting.pods.on_trouble(demand.uid, "Normal", eventreasons.NO_CAPACITY, text)
                self.waiting.enlist(demand)
            return
        self.waiting.wait_on(rest, last)

    def explain(self, group: Group, instance: Instance) -> str:
        """Why this instance, for an event and a condition."""
        return explain_choice(group.selection, (instance.instance_type, instance.zone, instance.capacity_type))

    async def close(self) -> None:
        """Cancel all launches; the next process finds their instances by token, tag, or their agents' word."""
        self.waiting.close()
        pumps = list(self._pumps.values())
        for task in pumps:
            task.cancel()
        await self._tasks.close()  # cancels at once, so that none of them begins another pump
        await asyncio.gather(*pumps, return_exceptions=True)
        await self.allotment.close()


def _is_of_family(error: CloudError) -> bool:
    """Whether another family may have room."""
    return isinstance(error, CloudQuotaError) and bool(error.family)
