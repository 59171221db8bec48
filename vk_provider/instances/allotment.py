"""With limits, all groups are looked at together: who comes first is served first, and who does not fit waits for room.

A look takes the longer the more pods wait, so looks are apart by a multiple of what the last one took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vk_provider.aiokit.timers import Timers
from vk_provider.instances.budget import Budget, Held, Reservation, Wanted, price_of
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.pace import Pace

ROOM_S = 0.2
"""After something has ended, before pods that wait for room are tried again."""
APART, MAX_APART_S = 10.0, 1.0

Call = Callable[[Sequence[Demand], Group, Reservation], None]


@dataclass(frozen=True, slots=True)
class LaunchSide:
    """What `launches` does for it. missing: the demands of each group that no call asks for yet; call: launches for
    some of one group; tell: says to a pod that it waits; wait_s: see Gathering; on_slack: called when nobody is looked
    for, or waits for room, any more; limit: instances of one call."""

    missing: Callable[[], Iterable[tuple[Group, Sequence[Demand]]]]
    call: Call
    tell: Callable[[Held], None]
    wait_s: Callable[[float], float]
    on_slack: Callable[[], None]
    limit: int


class Allotment:
    """`wake` when somebody waits for an instance. held: who waits for room, by pod UID, with the limit's key."""

    def __init__(self, budget: Budget, pace: Pace, side: LaunchSide) -> None:
        self._budget, self._pace, self._side = budget, pace, side
        self.held: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._timers = Timers()
        self._is_retrying = False
        self._next_at = 0.0

    @property
    def is_busy(self) -> bool:
        return self._task is not None

    def wake(self) -> None:
        """Look in a moment: demands of one read of the watch share a look."""
        if self._task is None:
            self._task = asyncio.create_task(self._look(), name="launches within the budget")

    def leave(self, uid: str) -> None:
        """The pod waits no more."""
        if self.held.pop(uid, None) is not None:
            self.room_appears()  # who was behind it may fit
            if not self.held:
                self._side.on_slack()

    def room_appears(self) -> None:
        """Soon: many instances may end at once."""
        if self.held and not self._is_retrying:
            self._is_retrying = True
            self._timers.later(ROOM_S, self._try_again)

    def _try_again(self) -> None:
        self._is_retrying = False
        self.wake()

    async def _look(self) -> None:
        since = time.monotonic()
        await asyncio.sleep(max(0.0, self._next_at - since))
        while wait_s := self._pace.wait_s or self._side.wait_s(since):  # noqa: ASYNC110 - calls make it longer
            await asyncio.sleep(wait_s)
        self._task = None  # at once: who joins from now on needs another
        began = time.monotonic()
        self._allot()
        now = time.monotonic()
        self._next_at = now + min(MAX_APART_S, APART * (now - began))
        self._side.on_slack()

    def _allot(self) -> None:
        prices: dict[tuple[int, bool], int] = {}
        groups: dict[str, Group] = {}
        wanted = []
        for group, demands in self._side.missing():
            key = id(group.selection), bool(group.image_store)
            price = prices[key] if key in prices else prices.setdefault(key, _price_of(group))
            for demand in demands:
                groups[demand.uid] = group
                wanted.append(Wanted(demand, price))
        granted, held = self._budget.allot(wanted)
        self.hold(held)
        calls = list(self._batch(granted, groups))
        reserved = [self.reserve(group, demands) for group, demands in calls]  # all, before one of them is widened
        for (group, demands), reservation in zip(calls, reserved, strict=True):
            self._side.call(demands, group, reservation)

    def _batch(self, granted: Sequence[Wanted], groups: dict[str, Group]) -> Iterator[tuple[Group, list[Demand]]]:
        batches: dict[int, tuple[Group, list[Demand]]] = {}
        for each in granted:
            self.held.pop(each.demand.uid, None)
            group = groups[each.demand.uid]
            batches.setdefault(id(group), (group, []))[1].append(each.demand)
        for group, demands in batches.values():
            for first in range(0, len(demands), self._side.limit):
                yield group, demands[first : first + self._side.limit]

    def hold(self, held: Sequence[Held]) -> None:
        """They wait for room; each is told once of each limit."""
        for each in held:
            if self.held.get(each.demand.uid) != each.key:
                self.held[each.demand.uid] = each.key
                self._side.tell(each)

    def reserve(self, group: Group, demands: Sequence[Demand]) -> Reservation:
        return self._budget.reserve(group.namespace, len(demands), _price_of(group))

    def grant(self, group: Group, demands: Sequence[Demand]) -> list[Demand]:
        """Those that there is room for now; the others wait."""
        price = _price_of(group)
        granted, held = self._budget.allot(Wanted(demand, price) for demand in demands)
        self.hold(held)
        return [each.demand for each in granted]

    async def close(self) -> None:
        self.held.clear()
        self._timers.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _price_of(group: Group) -> int:
    selection = group.selection
    disks, has_store = selection.disks, bool(group.image_store)
    return price_of(selection.offering, disks, cpu_milli=selection.steady_cpu_milli, has_store=has_store)
