"""The one view of the cloud that all share: fed by launch answers, by listings and by notices.

Who wants to know something newer asks for a listing that begins after the question; all who ask meanwhile share it, and
listings are FAST_S apart at least. So the cloud is asked often while something is in doubt, and once per sweep
otherwise. An instance is missing only by missing.MissingRule. What is known of an instance only moves forward: a
listing that shows an older state changes nothing. One that we have started again has a later launch time, and all that
shows an earlier one is old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import TAG_LAUNCH, Cloud, Instance, InstanceState, Notice
from vk_provider.cloud.listing import list_all
from vk_provider.errors import CloudError
from vk_provider.instances import missing
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.missing import MissingRule
from vk_provider.instances.pace import Pace
from vk_provider.ledger.meter import Meter

log = logging.getLogger(__name__)

FAST_S = 5.0
"""Between two listings while somebody asks."""
NEW_S = 30.0
"""An eventually consistent cloud may not list an instance that is younger."""
NOTICES_AGAIN_S, NOTICES_AGAIN_MAX_S = 1.0, 60.0
_ORDER = (
    InstanceState.PENDING,
    InstanceState.RUNNING,
    InstanceState.STOPPING,
    InstanceState.STOPPED,
    InstanceState.SHUTTING_DOWN,
    InstanceState.TERMINATED,
)
_RANK = {state: number for number, state in enumerate(_ORDER)}

JUST_AFTER_S = 0.001
"""The launch time of an instance whose start was accepted, until a listing says it, is so much after the one before:
earlier than what any cloud will say, whatever its clock."""

OnNotice = Callable[[OwnedInstance, Notice], None]


class InstanceTable:
    """`owned`: our instances by ID, until they are forgotten. `listed`: the newest listing, by ID; `builders`: what it
    shows that makes prepared stores, which is the bill's business alone. `meter` is told of all that is seen."""

    def __init__(self, cloud: Cloud, metrics: InstanceMetrics, meter: Meter, on_notice: OnNotice) -> None:
        self._cloud = cloud
        self._metrics = metrics
        self.meter = meter
        self._on_notice = on_notice
        self._pace = Pace(1)
        self._rule = MissingRule(missing.MISSING_CONFIRM_S, missing.MASS_CONFIRM_S)
        self._missing: set[str] = set()
        self._next: asyncio.Task[None] | None = None
        self._listings: set[asyncio.Task[None]] = set()
        self._began_at = float("-inf")
        self._is_closed = False
        self.owned: dict[str, OwnedInstance] = {}
        self.listed: dict[str, Instance] = {}
        self.builders: dict[str, Instance] = {}
        self.doubted = 0
        """How many of ours the newest listing lacks that are not missing yet."""
        self.on_listing: Callable[[], None] = lambda: None

    def add(self, owned: OwnedInstance) -> None:
        self.owned[owned.instance_id] = owned
        self.meter.see(owned.described)

    def forget(self, owned: OwnedInstance) -> None:
        """Nobody asks for it any more."""
        if self.owned.get(owned.instance_id) is owned:
            del self.owned[owned.instance_id]
            self._missing.discard(owned.instance_id)

    # --- listings ------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Returns after a listing that began after this call. Raises CloudError when it failed, and after `close`:
        whoever still runs may not know of the end yet."""
        if self._is_closed:
            raise CloudError("this process lists no instances any more: it stops")
        if self._next is None:
            self._next = asyncio.create_task(self._list_next(), name="listing of instances")
            self._listings.add(self._next)
            self._next.add_done_callback(self._done)
        await asyncio.shield(self._next)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._listings.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait are told; there may be none any more

    async def look(self, instance_id: str) -> Instance | None:
        """The newest description of an instance; None when it does not exist. Raises CloudError when that is unknown:
        no answer, or an answer without the instance that is not yet taken for a proof."""
        await self.refresh()
        found = self.listed.get(instance_id)
        if found is not None:
            owned = self.owned.get(instance_id)
            return owned.described if owned is not None else found
        if instance_id in self._missing:
            return None
        raise CloudError("the cloud's answer does not list the instance; it is asked again")

    async def find_launch(self, launch_id: str) -> list[Instance]:
        """The instances of one launch call that a new listing shows."""
        await self.refresh()
        return [instance for instance in self.listed.values() if instance.tags.get(TAG_LAUNCH) == launch_id]

    async def _list_next(self) -> None:
        await asyncio.sleep(max(0.0, self._began_at + FAST_S - time.monotonic()))
        try:
            async with self._pace.turn():
                self._next = None  # who asks from now on asks for a later one
                self._began_at = time.monotonic()
                listing = await list_all(self._cloud)
        finally:
            if self._next is asyncio.current_task():
                self._next = None
        self.take(listing.instances, listing.builders, began=self._began_at)

    def take(
        self, instances: Iterable[Instance], builders: Iterable[Instance] = (), *, began: float | None = None
    ) -> None:
        """A complete listing. began: by time.monotonic(); None for now."""
        self.builders = {builder.instance_id: builder for builder in builders}
        self.listed = {instance.instance_id: instance for instance in instances}
        asked = []
        new_since = time.time() - max(NEW_S, self._cloud.listing_lag_s)
        for instance_id, owned in self.owned.items():
            found = self.listed.get(instance_id)
            if found is not None:
                self._missing.discard(instance_id)
                self.learn(owned, found)
            elif owned.is_live and owned.described.launch_time <= new_since:
                asked.append(instance_id)
        self.meter.take([*self._known(), *self.builders.values()], self.owned.__contains__)
        verdict = self._rule.judge(asked, self.listed.keys(), len(self.owned), time.monotonic(), began=began)
        self._missing |= verdict.missing
        self.doubted = len(verdict.doubted - self._missing)
        for instance_id in verdict.missing:
            self.meter.missing(instance_id)
        if verdict.mass and verdict.doubted:
            self._metrics.mass_missing.labels("listing").inc()
            log.error(
                "the cloud does not know %d of %d instances: too many at once, none is taken for lost yet",
                len(verdict.doubted),
                len(self.owned),
            )
        self.on_listing()

    def _known(self) -> Iterable[Instance]:
        """What was listed, without what is known to be old."""
        for instance_id, found in self.listed.items():
            owned = self.owned.get(instance_id)
            yield owned.described if owned is not None else found

    def is_missing(self, instance_id: str) -> bool:
        """Whether the cloud does not list it any more."""
        return instance_id in self._missing

    def note_stop(self, owned: OwnedInstance) -> None:
        """The cloud has accepted to stop it: what a listing shows as running is old."""
        owned.described = replace(owned.described, state=InstanceState.STOPPING)
        self.meter.ended(owned.instance_id, InstanceState.STOPPING)

    def note_start(self, owned: OwnedInstance) -> None:
        """The cloud has accepted to start it: what a listing shows as stopped is old."""
        known = owned.described
        owned.described = replace(
            known, state=InstanceState.PENDING, launch_time=known.launch_time + JUST_AFTER_S, ended_at=0.0
        )
        self.meter.started(owned.described)

    def learn(self, owned: OwnedInstance, found: Instance) -> None:
        """What the cloud says of an instance, unless it was older than what is known."""
        known = owned.described
        if found is known or _is_older(found, known, may_start_again=bool(owned.pool)):
            return
        if known.primary_ip and not found.primary_ip and not found.state.is_terminated:
            return  # it is not there yet, where this answer comes from
        owned.described = found

    # --- notices -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the cloud's notices, for ever. One that is lost is found by a listing."""
        backoff = Backoff(NOTICES_AGAIN_S, NOTICES_AGAIN_MAX_S)
        while True:
            try:
                async for notice in self._cloud.notices():
                    backoff.reset()
                    self._take_notice(notice)
            except CloudError as error:
                log.warning("notices of the cloud are not followed: %s", error)
            else:
                await asyncio.sleep(NOTICES_AGAIN_MAX_S)  # a cloud without notices
            await asyncio.sleep(backoff.next_delay_s())

    def _take_notice(self, notice: Notice) -> None:
        owned = self.owned.get(notice.instance_id)
        if owned is None:
            return
        may_be_old = owned.pool and notice.state in (InstanceState.STOPPING, InstanceState.STOPPED)  # started since
        runs = (InstanceState.PENDING, InstanceState.RUNNING)
        if notice.state is not None and notice.state not in runs and not may_be_old:
            self.meter.told(notice.instance_id, notice.state)
        self._on_notice(owned, notice)

    async def close(self) -> None:
        self._is_closed = True
        tasks = list(self._listings)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_older(found: Instance, known: Instance, *, may_start_again: bool) -> bool:
    """may_start_again: whether we stop and start it; the launch time of others says nothing, and neither does that of
    an answer to a launch without an address: it is the time of the answer, and every listing is better."""
    if may_start_again and known.primary_ip and not (found.state.is_terminating or known.state.is_terminating):
        return (found.launch_time, _RANK[found.state]) < (known.launch_time, _RANK[known.state])
    return _RANK[found.state] < _RANK[known.state]
