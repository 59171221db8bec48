"""Compares what the server says with the sandboxes there are, several times a second, and does what follows.

Level-triggered: every decision is made from the server's newest listing and the records on disk, so a booter that was
killed goes on where it was, and a server that did not answer is asked again.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.booter.api import ApiError, Birth, Ec2Api
from tests.booter.imds import Guest, SpotNotice
from tests.booter.imdsserver import MetadataServer, listen_in
from tests.booter.machine import ALIVE, ENDED, Machine, secondary_addresses
from tests.booter.sandbox import Sandboxes
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local import boot
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceRecord
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

POLL_S = 0.2


class Step(StrEnum):
    """What is to be done about one instance."""

    BOOT = "boot"
    REPORT = "report"
    STOP = "stop"
    REMOVE = "remove"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is known of a sandbox. stopped: because the server said so; started: it had a first process."""

    stopped: bool
    started: bool
    alive: bool


def decide(state: str | None, sandbox: Sandbox | None) -> Step:
    """The next step. state: of the instance in the server's words, None for one that the server does not know."""
    if state is None or state in ENDED:
        return Step.REMOVE if sandbox is not None else Step.NONE
    if state in ALIVE:
        if sandbox is None or sandbox.stopped or not sandbox.started:
            return Step.BOOT
        return Step.NONE if sandbox.alive else Step.REPORT
    if sandbox is None or (sandbox.stopped and not sandbox.alive):
        return Step.NONE
    return Step.STOP


class Booter:
    """`run` until it is cancelled; the sandboxes run on then. `end_all` ends them."""

    def __init__(self, api: Ec2Api, config: LocalCloudConfig) -> None:
        self._api = api
        self._config = config
        self._wake = asyncio.Event()
        self._sandboxes = Sandboxes(config, lambda _: self._wake.set())
        self._metadata = MetadataServer(self._find_guest)
        self._guests: dict[str, Guest] = {}
        self._by_address: dict[str, str] = {}
        self._births: dict[str, Birth] = {}
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Raises BadStartError when this machine does not allow it."""
        await self._sandboxes.start()
        try:
            listener = await asyncio.to_thread(listen_in, self._config.namespace_path)
            await self._metadata.serve(listener)
            self.ready.set()
            await self._follow()
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._at_work.values():
                task.cancel()
            await asyncio.gather(*self._at_work.values(), return_exceptions=True)
            await self._metadata.close()
            await self._sandboxes.close()

    async def end_all(self) -> None:
        """Kill all sandboxes, and forget them. The server is not told."""
        results = await asyncio.gather(
            *(self._sandboxes.end(instance_id, keep_disk=False) for instance_id in self._sandboxes.store.ids()),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                log.error("%s", result)

    async def _follow(self) -> None:
        told = ""
        while True:
            self._wake.clear()
            try:
                machines = await self._api.list_machines()
                self._take({machine.instance_id: machine for machine in machines})
                told = ""
            except ApiError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the server does not answer: %s", error)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
                await asyncio.sleep(0)
            except TimeoutError:
                pass

    def _take(self, machines: Mapping[str, Machine]) -> None:
        """A complete listing."""
        records = self._sandboxes.records()
        self._show(machines)
        for instance_id in machines.keys() | records.keys() | set(self._sandboxes.store.ids()):
            if instance_id in self._at_work:
                continue
            machine = machines.get(instance_id)
            state = machine.state if machine is not None else None
            sandbox = self._describe(instance_id, records.get(instance_id))
            step = decide(state, sandbox)
            if step is Step.NONE and machine is not None and sandbox is not None and sandbox.alive:
                self._update(machine)
            elif step is not Step.NONE and (step is not Step.BOOT or (machine is not None and self._is_ours(machine))):
                self._begin(step, instance_id, machine)

    def _describe(self, instance_id: str, record: InstanceRecord | None) -> Sandbox | None:
        if record is None:
            left = self._sandboxes.store.directory(instance_id).exists()  # of a booter that was killed early
            return Sandbox(stopped=False, started=False, alive=False) if left else None
        return Sandbox(
            stopped=record.state == InstanceState.STOPPED,
            started=self._sandboxes.was_started(instance_id),
            alive=self._sandboxes.is_alive(instance_id),
        )

    def _is_ours(self, machine: Machine) -> bool:
        """Whether this machine's bridge has the instance's address; said once where not."""
        address = machine.primary_ip
        if address and ipaddress.IPv4Address(address) in self._config.network:
            return True
        if address and machine.state in ALIVE and machine.instance_id not in self._refused:
            self._refused.add(machine.instance_id)
            log.error(
                "%s is not booted: its address %s is not in %s", machine.instance_id, address, self._config.subnet
            )
        return False

    # --- what instances see of themselves ------------------------------------------------------------------------

    def _show(self, machines: Mapping[str, Machine]) -> None:
        """Bring the metadata up to date."""
        for instance_id in self._guests.keys() - machines.keys():
            del self._guests[instance_id]
        for instance_id, guest in self._guests.items():
            self._guests[instance_id] = replace(guest, machine=machines[instance_id])
        for instance_id, machine in machines.items():
            if instance_id in self._guests or machine.state not in ALIVE or not machine.primary_ip:
                continue
            if self._sandboxes.is_alive(instance_id):  # an earlier booter's
                user_data = self._sandboxes.user_data(instance_id)
                self._guests[instance_id] = Guest(machine, user_data, boot.mac_address(machine.primary_ip))
        self._by_address = {
            address: guest.machine.instance_id
            for guest in self._guests.values()
            if guest.machine.state in ALIVE
            for address in (guest.machine.primary_ip, *secondary_addresses(guest.machine.interface))
        }

    def _find_guest(self, source: str) -> Guest | None:
        return self._guests.get(self._by_address.get(source, ""))

    def _update(self, machine: Machine) -> None:
        self._sandboxes.refresh(machine)
        try:
            self._sandboxes.admit(machine)
        except CloudError as error:
            log.error("%s: %s", machine.instance_id, error)

    # --- work ----------------------------------------------------------------------------------------------------

    def _begin(self, step: Step, instance_id: str, machine: Machine | None) -> None:
        task = asyncio.create_task(self._work(step, instance_id, machine), name=f"{step} {instance_id}")
        self._at_work[instance_id] = task
        task.add_done_callback(lambda _: self._done(instance_id))

    def _done(self, instance_id: str) -> None:
        self._at_work.pop(instance_id, None)
        self._wake.set()

    async def _work(self, step: Step, instance_id: str, machine: Machine | None) -> None:
        try:
            if step is Step.BOOT and machine is not None:
                await self._boot(machine)
            elif step is Step.REPORT:
                await self._report(instance_id)
            else:
                log.info("%s is ended: the server says so", instance_id)
                await self._sandboxes.end(instance_id, keep_disk=step is Step.STOP)
        except (ApiError, CloudError, OSError) as error:
            log.error("%s of %s (tried again): %s", step, instance_id, error)
            await asyncio.sleep(1.0)

    async def _boot(self, machine: Machine) -> None:
        instance_id = machine.instance_id
        birth, size = await asyncio.gather(
            self._api.describe_birth(instance_id), self._api.size_of(machine.instance_type)
        )
        self._births[instance_id] = birth
        self._guests[instance_id] = Guest(machine, birth.user_data.encode(), boot.mac_address(machine.primary_ip))
        self._by_address[machine.primary_ip] = instance_id
        await self._sandboxes.boot(machine, birth.user_data, size)
        log.info("%s (%s, %s) boots", instance_id, machine.instance_type, machine.primary_ip)

    async def _report(self, instance_id: str) -> None:
        """Its first process has ended: the instance has shut itself down."""
        birth = self._births.get(instance_id) or await self._api.describe_birth(instance_id)
        log.info("%s has shut itself down: %s", instance_id, birth.on_shutdown)
        if birth.on_shutdown == "terminate":
            await self._api.terminate([instance_id])
        else:
            await self._api.stop([instance_id])

    # --- what the cloud does to spot instances -------------------------------------------------------------------

    def interrupt(self, instance_id: str, after_s: float, action: str = "terminate") -> bool:
        """Announce that a spot instance will be taken back, and do it then. False for an instance that is none."""
        guest = self._guests.get(instance_id)
        if guest is None or not guest.machine.spot:
            return False
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after_s)
        self._guests[instance_id] = replace(guest, spot_notice=SpotNotice(action, at))
        loop = asyncio.get_running_loop()
        self._timers.add(loop.call_later(after_s, self._take_back, instance_id, action))
        return True

    def recommend_rebalance(self, instance_id: str) -> bool:
        """Say that a spot instance is at a higher risk of interruption. False for an instance that is none."""
        guest = self._guests.get(instance_id)
        if guest is None or not guest.machine.spot:
            return False
        self._guests[instance_id] = replace(guest, rebalance=datetime.datetime.now(datetime.UTC))
        return True

    def _take_back(self, instance_id: str, action: str) -> None:
        name = f"take back {instance_id}"
        self._at_work[name] = asyncio.create_task(self._call(instance_id, action), name=name)
        self._at_work[name].add_done_callback(lambda _: self._done(name))

    async def _call(self, instance_id: str, action: str) -> None:
        try:
            await (self._api.terminate if action == "terminate" else self._api.stop)([instance_id])
        except ApiError as error:
            log.error("%s is not taken back: %s", instance_id, error)

    def states(self) -> Iterable[tuple[str, bool]]:
        """(instance ID, whether its sandbox lives)."""
        return [(instance_id, self._sandboxes.is_alive(instance_id)) for instance_id in self._sandboxes.store.ids()]
