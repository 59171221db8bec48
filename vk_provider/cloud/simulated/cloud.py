"""SimulatedCloud: the Cloud protocol in memory, with the latencies and the faults of a real one on request."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from vk_provider.aiokit.timers import Timers
from vk_provider.cloud.base import (
    Instance,
    InstancePage,
    InstanceRuntime,
    InstanceState,
    LaunchAnswer,
    LaunchFailure,
    LaunchRequest,
    Notice,
    NoticeKind,
    Offering,
    StateResult,
    TerminateResult,
    check_options,
    offering_key,
)
from vk_provider.cloud.local.catalog import build_offerings, machine_architecture
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.cloud.simulated.calls import Calls
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.faults import AccountLimits, Failures, FaultDice, no_capacity
from vk_provider.cloud.simulated.notices import NoticeBoard
from vk_provider.cloud.simulated.view import ListingView
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import CloudError, CloudQuotaError, CloudRequestError

GROUP_LIMIT = 1000
"""EC2's default limit of instances in one call."""

_RUNTIME = InstanceRuntime(
    "simulated",
    "1.0.0",
    ("",),
    image_volumes=True,
    recursive_read_only_mounts=True,
    supplemental_groups_policy=True,
)
_FIRST_ADDRESS = int(ipaddress.IPv4Address("100.64.0.16"))
_IPV6_NETWORK = int(ipaddress.IPv6Address("fd00:64::"))


class SimulatedCloud:
    """See cloud.base.Cloud. Its instances exist as long as the process. `clock`: Unix seconds.

    on_gone, on_stopped: called with the ID of each instance that ends or has stopped, for the connector.
    """

    name = "simulated"
    shares_host_paths = False

    def __init__(self, config: SimulationConfig, owner: str, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.failures = Failures()
        self.group_limit = min(GROUP_LIMIT, config.max_instances)
        self.listing_lag_s = max(config.visible_after_s, config.faults.listing_lag_s)
        self._owner = owner
        self._clock = clock
        self._offerings = build_offerings(machine_architecture())
        self._by_key = {offering_key(offering): offering for offering in self._offerings}
        self._dice = FaultDice(config.faults, clock())
        self._calls = Calls(self.failures, self._dice, clock)
        self._limits = AccountLimits(config.faults, config.max_instances)
        self._instances: dict[str, Instance] = {}
        self._tokens: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Client token -> digest of its parameters, IDs of its instances."""
        self._view = ListingView(config, self._dice, clock)
        self._boot_delays_s: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._timers = Timers()
        self._board = NoticeBoard(config.faults.notices)
        self._next_address = _FIRST_ADDRESS
        self.on_gone: Callable[[str], None] = lambda instance_id: None
        self.on_stopped: Callable[[str], None] = lambda instance_id: None

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nobody is interrupted any more."""
        self._timers.cancel()

    # --- launching -----------------------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        self._calls.check("RunInstances", request.count)
        if self.config.launch_latency_s:
            await asyncio.sleep(self.config.launch_latency_s)
        answer = self._launch(request)
        await self._calls.answer("RunInstances")
        return answer

    def _launch(self, request: LaunchRequest) -> LaunchAnswer:
        digest = digest_parameters(request)
        known = self._tokens.get(request.client_token)
        if known is not None:
            check_same_parameters(request, known[0])
            return LaunchAnswer(tuple(self._instances[each] for each in known[1] if each in self._instances))
        check_tags(request.tags)
        check_user_data(request.user_data)
        check_options(request)
        if request.shared_host_paths:
            raise CloudRequestError("Unsupported: instances of the simulated cloud share no directories")
        tags = dict(request.tags)
        made: list[Instance] = []
        failures: list[LaunchFailure] = []
        for offering in request.offerings:
            try:
                while len(made) < request.count:
                    self._check(offering)
                    made.append(self._make(f"{request.client_token}#{len(made)}", offering, tags))
            except CloudError as error:
                failures.append(LaunchFailure(offering, error))
                if isinstance(error, CloudQuotaError) and not error.family:
                    break
                continue
            break
        if made:
            self._tokens[request.client_token] = digest, tuple(instance.instance_id for instance in made)
        return LaunchAnswer(tuple(made), tuple(failures))

    def _make(self, name: str, offering: Offering, tags: Mapping[str, str]) -> Instance:
        primary, self._next_address = self._next_address, self._next_address + 2
        instance = Instance(
            instance_id="i-" + hashlib.sha256(name.encode()).hexdigest()[:17],
            state=InstanceState.RUNNING,
            instance_type=offering.instance_type,
            zone=offering.zone,
            capacity_type=offering.capacity_type,
            architecture=offering.architecture,
            primary_ip=str(ipaddress.IPv4Address(primary)),
            pod_ip=str(ipaddress.IPv4Address(primary + 1)),
            launch_time=self._clock(),
            tags=tags,
            primary_ipv6=self._ipv6(primary),
            pod_ipv6=self._ipv6(primary + 1),
        )
        self._limits.add(offering)
        self._set(instance, None)
        if delay_s := self._dice.boot_delay_s():
            self._boot_delays_s[instance.instance_id] = delay_s
        life_s = self._dice.life_s(instance)
        if life_s is not None:
            self._timers.later(life_s, lambda: self.interrupt(instance.instance_id))
        return instance

    def _ipv6(self, ipv4: int) -> str:
        return str(ipaddress.IPv6Address(_IPV6_NETWORK + ipv4)) if self.config.ipv6 else ""

    def _check(self, offering: Offering) -> None:
        if offering_key(offering) not in self._by_key:
            raise CloudRequestError(f"Unsupported: {offering.instance_type} is not offered in {offering.zone}")
        if offering_key(offering) in self.failures.no_capacity or self._dice.has_no_capacity(offering):
            raise no_capacity(offering)
        self._limits.check(offering)

    def is_booted(self, instance_id: str) -> bool:
        """Whether the agent of an instance answers; it does while the instance stops or shuts down."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.state.has_stopped:
            return False
        latency_s = self.config.boot_latency_s + self._boot_delays_s.get(instance_id, 0.0)
        return self._clock() - instance.launch_time >= latency_s

    # --- looking -------------------------------------------------------------------------------------------------

    async def list_page(self, page: str = "") -> InstancePage:
        self._calls.check("DescribeInstances")
        self._forget_old()
        listed = self._view.list_owned(self._instances.values(), self._owner)
        await self._calls.answer("DescribeInstances")
        first = int(page or 0)
        last = first + self.config.page_size
        return InstancePage(tuple(listed[first:last]), str(last) if last < len(listed) else "")

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        self._calls.check("DescribeInstances")
        self._forget_old()
        return [self._instances[instance_id] for instance_id in instance_ids if instance_id in self._instances]

    # --- stopping and starting -----------------------------------------------------------------------------------

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        self._calls.check("StopInstances", len(instance_ids))
        results = [self._stop(instance_id) for instance_id in instance_ids]
        await self._calls.answer("StopInstances")
        return results

    def _stop(self, instance_id: str) -> StateResult:
        instance = self._instances.get(instance_id)
        if instance is None:
            return CloudRequestError(f"InvalidInstanceID.NotFound: the instance ID '{instance_id}' does not exist")
        if instance.state.is_terminating:
            return CloudRequestError(f"IncorrectInstanceState: the instance '{instance_id}' is {instance.state}")
        if instance.capacity_type == "spot":
            return CloudRequestError(f"UnsupportedOperation: the spot instance '{instance_id}' cannot be stopped")
        if instance.state in (InstanceState.STOPPING, InstanceState.STOPPED):
            return None
        reason = "Client.UserInitiatedShutdown: stopped by request"
        stopping = replace(instance, state=InstanceState.STOPPING, state_reason=reason, ended_at=self._clock())
        self._set(stopping, instance)
        if shutdown_s := self.config.faults.shutdown_s:
            self._timers.later(shutdown_s, lambda: self._stopped(instance_id))
        else:
            self._stopped(instance_id)
        return None

    def _stopped(self, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.state is not InstanceState.STOPPING:
            return
        self._limits.add(self._offering_of(instance), -1)
        self._set(replace(instance, state=InstanceState.STOPPED), instance)
        self.on_stopped(instance_id)
        self._board.tell(Notice(NoticeKind.STATE, instance_id, instance.state_reason, InstanceState.STOPPED))

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        self._calls.check("StartInstances", len(instance_ids))
        results = [self._start(instance_id) for instance_id in instance_ids]
        await self._calls.answer("StartInstances")
        return results

    def _start(self, instance_id: str) -> StateResult:
        instance = self._instances.get(instance_id)
        if instance is None:
            return CloudRequestError(f"InvalidInstanceID.NotFound: the instance ID '{instance_id}' does not exist")
        if instance.state in (InstanceState.PENDING, InstanceState.RUNNING):
            return None
        if instance.state is not InstanceState.STOPPED:
            return CloudRequestError(f"IncorrectInstanceState: the instance '{instance_id}' is {instance.state}")
        offering = self._offering_of(instance)
        try:
            self._check(offering)
        except CloudError as error:
            return error
        self._limits.add(offering)
        now = self._clock()
        self._set(
            replace(instance, state=InstanceState.RUNNING, launch_time=now, state_reason="", ended_at=0.0), instance
        )
        return None

    def _offering_of(self, instance: Instance) -> Offering:
        return self._by_key[(instance.instance_type, instance.zone, instance.capacity_type)]

    # --- ending --------------------------------------------------------------------------------------------------

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        self._calls.check("TerminateInstances", len(instance_ids))
        results = [self._terminate(instance_id) for instance_id in instance_ids]
        await self._calls.answer("TerminateInstances")
        return results

    def _terminate(self, instance_id: str) -> TerminateResult:
        if instance_id in self.failures.protected or not self._dice.may_terminate(instance_id):
            return CloudRequestError(f"OperationNotPermitted: the instance '{instance_id}' may not be terminated")
        self._end(instance_id, "Client.UserInitiatedShutdown: terminated by request")
        return None

    def interrupt(self, instance_id: str) -> None:
        """What a spot interruption does: announced first, ended later."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.state.is_terminating:
            return
        text = f"the cloud takes {instance_id} back in {self.config.faults.notice_s:.0f} s"
        self._board.tell(Notice(NoticeKind.INTERRUPTION, instance_id, text))
        self._timers.later(self.config.faults.notice_s, lambda: self.vanish(instance_id))

    def vanish(self, instance_id: str, reason: str = "Server.SpotInstanceTermination: reclaimed") -> None:
        """The cloud terminates an instance by itself, as a spot interruption does."""
        self._terminated(instance_id, reason)
        self._board.tell(Notice(NoticeKind.STATE, instance_id, reason, InstanceState.TERMINATED))

    def _end(self, instance_id: str, reason: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.state.is_terminating:
            return
        shutdown_s = self.config.faults.shutdown_s
        if not shutdown_s or instance.state is InstanceState.STOPPED:
            self._terminated(instance_id, reason)
            return
        self._set(
            replace(instance, state=InstanceState.SHUTTING_DOWN, state_reason=reason, ended_at=self._clock()), instance
        )
        self._timers.later(shutdown_s, lambda: self._terminated(instance_id, reason))

    def _terminated(self, instance_id: str, reason: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.state.is_terminated:
            return
        ended = replace(
            instance,
            state=InstanceState.TERMINATED,
            state_reason=reason,
            primary_ip="",
            pod_ip="",
            primary_ipv6="",
            pod_ipv6="",
            ended_at=instance.ended_at or self._clock(),
        )
        if instance.state is not InstanceState.STOPPED:
            self._limits.add(self._offering_of(instance), -1)
        self._set(ended, instance)
        self._ended[instance_id] = self._clock()
        self.on_gone(instance_id)

    def _set(self, instance: Instance, before: Instance | None) -> None:
        """A change, which listings show later if they lag."""
        self._instances[instance.instance_id] = instance
        self._view.note_change(instance.instance_id, before)

    def _forget_old(self) -> None:
        limit = self._clock() - self.config.remember_s
        for instance_id in [i for i, ended in self._ended.items() if ended < limit]:
            del self._ended[instance_id], self._instances[instance_id]
            self._boot_delays_s.pop(instance_id, None)
            self._view.forget(instance_id)

    # --- tags and notices ----------------------------------------------------------------------------------------

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        self._calls.check("CreateTags")
        check_tags(tags)
        for instance_id in instance_ids:
            instance = self._instances.get(instance_id)
            if instance is not None and not instance.state.is_terminating:
                both = {**instance.tags, **tags}
                check_tags(both)
                self._set(replace(instance, tags=both), instance)
        await self._calls.answer("CreateTags")

    def notices(self) -> AsyncIterator[Notice]:
        return self._board.listen()

    # --- what it has ---------------------------------------------------------------------------------------------

    async def describe_offerings(self) -> list[Offering]:
        self._calls.check("DescribeInstanceTypeOfferings")
        return list(self._offerings)

    async def describe_runtime(self) -> InstanceRuntime:
        """A runtime with all features: nothing is mounted, so no pod is refused."""
        self._calls.check("DescribeImages")
        return _RUNTIME
