"""The simulated cloud with a real one's faults. It outlives every provider: instances, and what goes wrong with calls.
One provider process calls it by cloudclient.CloudClient."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.simulation.loop import outside_later
from tests.simulation.stores import StoreServer
from vk_provider.cloud.base import (
    TAG_POD_UID,
    Instance,
    InstancePage,
    InstanceRuntime,
    InstanceState,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    NoticeKind,
    Offering,
    StateResult,
    TerminateResult,
    offering_key,
)
from vk_provider.cloud.codes import build_error
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.faults import no_capacity
from vk_provider.errors import CloudError, CloudRequestError

OWNER = "simulation"
PENDING_S = 3.0
"""How long a new instance says `pending`."""
LAGS_S = (0.0, 4.0, 4.0, 15.0)
"""How long a new instance is missing from listings, by seed."""
GROUP_LIMIT = 4
PAGE_SIZE = 5
_STOPPED = "Client.UserInitiatedShutdown: stopped by request"
NOTICE_S = (0.05, 5.0)
"""How late a notice is."""
SHUTDOWN_S = (1.0, 45.0)
"""How long `shutting-down` lasts, and `stopping`."""


@dataclass
class CloudFaults:
    """What goes wrong now. Rates are probabilities of a call.

    throttled: RequestLimitExceeded, not carried out; lost: no answer, perhaps carried out; late: answered after late_s
    broken:    InternalError, perhaps carried out
    partial:   a launch brings fewer instances than were asked for, a start finds capacity for some
    marks:     tags are not taken, or nobody hears whether they were
    blind:     IDs that answers lack although the instances exist; all_blind: answers lack everything
    is_spared: which of `blind` are shown nevertheless
    stale:     answers show what was terminated as running
    boots:     (probability of a boot that never ends, seconds that the others take)
    """

    throttled: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    late_s: float = 40.0
    broken: float = 0.0
    partial: float = 0.0
    marks: float = 0.0
    blind: set[str] = field(default_factory=set)
    all_blind: bool = False
    is_spared: Callable[[str], bool] = lambda instance_id: False
    stale: bool = False
    failed_boots: float = 0.0
    boot_s: tuple[float, float] = (5.0, 15.0)

    @property
    def is_calm(self) -> bool:
        """Whether no call fails."""
        return not any((self.throttled, self.lost, self.late, self.broken, self.partial))


class _Model(SimulatedCloud):
    """left: how many instances can be made before a call fails; None for any number."""

    left: int | None = None
    refusal: Callable[[Offering], CloudError] = staticmethod(no_capacity)

    def _check(self, offering: Offering) -> None:
        super()._check(offering)
        if self.left is not None:
            if not self.left:
                raise self.refusal(offering)
            self.left -= 1


class CloudServer:
    """`on_launch(instance)` and `on_gone(instance_id)` tell the world; `on_shutdown(instance_id, ends_in_s)` when an
    instance begins to shut down, which its containers do not survive; `on_stop(instance_id, ends_in_s)` when one begins
    to stop, and `on_start(instance)` when it boots again."""

    def __init__(self, rng: random.Random) -> None:
        self.faults = CloudFaults()
        config = SimulationConfig(remember_s=3600.0, page_size=PAGE_SIZE)
        self.model = _Model(config, OWNER, lambda: time.time())
        self.model.on_gone = self._gone
        self.listing_lag_s = rng.choice(LAGS_S)
        self.on_launch: Callable[[Instance], None] = lambda instance: None
        self.on_gone: Callable[[str], None] = lambda instance_id: None
        self.on_shutdown: Callable[[str, float], None] = lambda instance_id, ends_in_s: None
        self.on_terminate: Callable[[str], None] = lambda instance_id: None
        self.on_stop: Callable[[str, float], None] = lambda instance_id, ends_in_s: None
        self.on_start: Callable[[Instance], None] = lambda instance: None
        self.stores = StoreServer(random.Random("prepared images"))
        self.calls = 0
        self.halted: set[str] = set()
        """IDs of those that somebody else than the provider has stopped."""
        self.ran: dict[str, tuple[float, float]] = {}
        """ID -> when it was launched, and when its end began; 0.0 for never."""
        self.stale_s = 0.0
        """The longest time in which answers were stale."""
        self._rng = rng
        self._ending: dict[str, str] = {}
        self._before: dict[str, Instance] = {}
        self._stopping: dict[str, float] = {}
        """ID -> since when."""
        self._pauses: dict[str, list[tuple[float, float]]] = {}
        """ID -> when it began to stop, and when it was started again; 0.0 for not yet."""
        self._shown_until: dict[str, tuple[Instance, float]] = {}
        """ID -> what listings show of it still."""
        self._tags_until: dict[str, tuple[Mapping[str, str], float]] = {}
        """ID -> the tags that listings show of it still."""
        self._listeners: list[asyncio.Queue[Notice]] = []

    # --- the world's view --------------------------------------------------------------------------------------------

    def live(self) -> list[Instance]:
        """Instances that exist, also those that shut down."""
        return [each for each in self.model._instances.values() if not each.state.is_terminated]

    def costing(self) -> list[Instance]:
        """Those that nobody has ended yet."""
        return [each for each in self.live() if each.instance_id not in self._ending]

    def pod_uid(self, instance: Instance) -> str:
        """By its tag, which may be missing or wrong."""
        return instance.tags.get(TAG_POD_UID, "")

    def pod_uid_of(self, instance_id: str) -> str:
        return self.pod_uid(self.model._instances[instance_id])

    def tags_of(self, instance_id: str) -> Mapping[str, str]:
        return self.model._instances[instance_id].tags

    def exists(self, instance_id: str) -> bool:
        found = self.model._instances.get(instance_id)
        return found is not None and not found.state.is_terminated

    def end(self, instance_id: str, reason: str) -> None:
        """Shut down, by a call or by the cloud itself."""
        if not self.exists(instance_id) or instance_id in self._ending:
            return
        self._stopping.pop(instance_id, None)
        self._ending[instance_id] = reason
        self.ran[instance_id] = self.ran[instance_id][0], time.time()
        self._before[instance_id] = self.model._instances[instance_id]
        ends_in_s = self._rng.uniform(*SHUTDOWN_S)
        self.on_shutdown(instance_id, ends_in_s)
        outside_later(ends_in_s, self.model._end, instance_id, reason)
        self._tell(Notice(NoticeKind.STATE, instance_id, reason, InstanceState.SHUTTING_DOWN))

    def billed_s(self, instance_id: str) -> float:
        """For how long it was pending or running."""
        launched_at, ended_at = self.ran[instance_id]
        ended_at = ended_at or time.time()
        paused_s = sum((until or ended_at) - since for since, until in self._pauses.get(instance_id, ()))
        return ended_at - launched_at - paused_s

    def is_resting(self, instance_id: str) -> bool:
        """Whether it stops, or has stopped."""
        return instance_id in self._stopping or self.model._instances[instance_id].state is InstanceState.STOPPED

    def announce(self, instance_id: str, at: float | None = None, *, surely: bool = False) -> None:
        """The cloud will take the instance back. at: see Notice; surely: whoever listens hears it."""
        self._tell(Notice(NoticeKind.INTERRUPTION, instance_id, "the cloud takes it back", at=at), surely=surely)

    def halt(self, instance_id: str) -> None:
        """Somebody else stops the instance: its disks, and what they cost, stay."""
        self.halted.add(instance_id)
        self._stop(instance_id)

    def _gone(self, instance_id: str) -> None:
        self._ending.pop(instance_id, None)
        self.on_gone(instance_id)
        self._tell(Notice(NoticeKind.STATE, instance_id, "it has ended", InstanceState.TERMINATED))

    # --- notices -----------------------------------------------------------------------------------------------------

    def listen(self) -> asyncio.Queue[Notice]:
        queue: asyncio.Queue[Notice] = asyncio.Queue()
        self._listeners.append(queue)
        return queue

    def _tell(self, notice: Notice, *, surely: bool = False) -> None:
        """Some are lost, all are late."""
        for listener in self._listeners:
            if self._rng.random() < 0.7 or surely:
                outside_later(self._rng.uniform(*NOTICE_S), listener.put_nowait, notice)

    @property
    def protected(self) -> set[str]:
        """IDs that cannot be terminated."""
        return self.model.failures.protected

    def offerings(self) -> list[Offering]:
        return list(self.model._offerings)

    def set_capacity(self, without: Sequence[Offering]) -> None:
        self.model.failures.no_capacity = {offering_key(offering) for offering in without}

    def set_quota(self, more: int | None) -> None:
        """How many more instances may be launched; None for as many as anybody wants."""
        limit = 100_000 if more is None else self.model._limits._count + more
        self.model._limits._max_instances = limit

    # --- what calls do -----------------------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        known = set(self.model._instances)
        answer = await self.model.launch(request)
        for instance in answer.instances:
            if instance.instance_id not in known:
                self.ran[instance.instance_id] = instance.launch_time, 0.0
                self.on_launch(instance)
        return LaunchAnswer(tuple(map(self._show, answer.instances)), answer.failures)

    async def launch_in_part(self, request: LaunchRequest) -> LaunchAnswer:
        is_short = self.coin()
        self.model.left = self._rng.randrange(request.count)
        self.model.refusal = no_capacity if is_short else _not_made
        try:
            return await self.launch(request)
        finally:
            self.model.left = None

    async def list_page(self, page: str) -> InstancePage:
        answer = await self.model.list_page(page)
        return InstancePage(tuple(self._shown(answer.instances)), answer.next_page)

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        for instance_id in instance_ids:
            if self.exists(instance_id):
                # By randomness of its own: all else of a seed is as without.
                lag_s = random.Random(f"tags of {instance_id} at {time.time()}").uniform(0.0, self.listing_lag_s)
                self._tags_until[instance_id] = self.tags_of(instance_id), time.time() + lag_s
        await self.model.create_tags(instance_ids, tags)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return self._shown(await self.model.describe(instance_ids))

    def _shown(self, instances: Sequence[Instance]) -> list[Instance]:
        if self.faults.all_blind:
            return []
        newest = time.time() - self.listing_lag_s
        return [
            self._show(each)
            for each in instances
            if (each.instance_id not in self.faults.blind or self.faults.is_spared(each.instance_id))
            and self.ran[each.instance_id][0] <= newest
        ]

    def _show(self, instance: Instance) -> Instance:
        tags, until = self._tags_until.get(instance.instance_id, (instance.tags, 0.0))
        if time.time() < until:
            instance = replace(instance, tags=tags)
        reason = self._ending.get(instance.instance_id)
        if reason is not None and not instance.state.is_terminated:
            ended_at = self.ran[instance.instance_id][1]
            return replace(instance, state=InstanceState.SHUTTING_DOWN, state_reason=reason, ended_at=ended_at)
        old, until = self._shown_until.get(instance.instance_id, (instance, 0.0))
        if time.time() < until and not instance.state.is_terminated:
            return replace(old, tags=instance.tags)
        if (since := self._stopping.get(instance.instance_id)) is not None:
            return replace(instance, state=InstanceState.STOPPING, state_reason=_STOPPED, ended_at=since)
        if instance.state.is_terminated and self.faults.stale:
            return replace(self._before[instance.instance_id], tags=instance.tags)
        if instance.state.is_terminated:
            return replace(instance, ended_at=self.ran[instance.instance_id][1])
        if instance.state is InstanceState.RUNNING and time.time() - instance.launch_time < PENDING_S:
            return replace(instance, state=InstanceState.PENDING)
        return instance

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        results: list[TerminateResult] = []
        for instance_id in instance_ids:
            if instance_id in self.protected:
                text = f"OperationNotPermitted: {instance_id} may not be terminated"
                results.append(CloudRequestError(text))
                continue
            self.on_terminate(instance_id)
            self.end(instance_id, "Client.UserInitiatedShutdown: terminated by request")
            results.append(None)
        return results

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return [self._stop(instance_id) for instance_id in instance_ids]

    def _stop(self, instance_id: str) -> StateResult:
        if not self.exists(instance_id) or instance_id in self._ending:
            return CloudRequestError(f"IncorrectInstanceState: {instance_id} has ended")
        if not self.is_resting(instance_id):
            now, ends_in_s = time.time(), self._rng.uniform(*SHUTDOWN_S)
            self._lag(instance_id)
            self._stopping[instance_id] = now
            self._pauses.setdefault(instance_id, []).append((now, 0.0))
            self.on_stop(instance_id, ends_in_s)
            outside_later(ends_in_s, self._stopped, instance_id)
            self._tell(Notice(NoticeKind.STATE, instance_id, _STOPPED, InstanceState.STOPPING))
        return None

    def _stopped(self, instance_id: str) -> None:
        since = self._stopping.pop(instance_id, None)
        if since is not None:
            self.model._stop(instance_id)
            stopped = self.model._instances[instance_id]
            self.model._instances[instance_id] = replace(stopped, ended_at=since)
            self._tell(Notice(NoticeKind.STATE, instance_id, _STOPPED, InstanceState.STOPPED))

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return [self._start(instance_id) for instance_id in instance_ids]

    async def start_in_part(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return [
            self._start(instance_id) if self.coin() else build_error("InternalError", "not started")
            for instance_id in instance_ids
        ]

    def _start(self, instance_id: str) -> StateResult:
        if not self.exists(instance_id) or instance_id in self._ending or instance_id in self._stopping:
            return CloudRequestError(f"IncorrectInstanceState: {instance_id} is not stopped")
        was_resting = self.is_resting(instance_id)
        before = self.model._instances[instance_id]
        failure = self.model._start(instance_id)
        if failure is None and was_resting:
            self._lag(instance_id, before)
            started = self.model._instances[instance_id]
            (*earlier, (since, _)) = self._pauses[instance_id]
            self._pauses[instance_id] = [*earlier, (since, started.launch_time)]
            self.on_start(started)
        return failure

    def _lag(self, instance_id: str, before: Instance | None = None) -> None:
        """Listings show the state before for a while."""
        shown = before or self.model._instances[instance_id]
        self._shown_until[instance_id] = shown, time.time() + self._rng.uniform(0.0, self.listing_lag_s)

    async def describe_offerings(self) -> list[Offering]:
        return await self.model.describe_offerings()

    async def describe_runtime(self) -> InstanceRuntime:
        return await self.model.describe_runtime()

    def draw(self, method: str) -> str:
        """The fault of one call; "" for none."""
        if method == "create_tags" and self.faults.marks and self._rng.random() < self.faults.marks:
            return self._rng.choice(("throttled", "lost", "broken"))
        faults, number = self.faults, self._rng.random()
        rates = (
            ("throttled", faults.throttled),
            ("lost", faults.lost),
            ("late", faults.late),
            ("broken", faults.broken),
            ("partial", faults.partial),
        )
        for name, rate in rates:
            if number < rate:
                return name
            number -= rate
        return ""

    def latency_s(self) -> float:
        return self._rng.uniform(0.02, 0.4)

    def coin(self) -> bool:
        return self._rng.random() < 0.5


def _not_made(offering: Offering) -> CloudError:
    return build_error("InternalError", f"an instance of {offering.instance_type} could not be made")
