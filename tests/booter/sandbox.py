"""The sandboxes: processes of this machine in namespaces of their own, made of the local cloud's parts.

The state directory is laid out as the local cloud's own (vk_provider.cloud.local.store), so `vk-provider local-cloud
down` takes away what a killed booter has left, and the next booter finds it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.booter.machine import Machine, secondary_addresses
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.local import boot, cgroup, network, services, userns
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.launcher import Launcher
from vk_provider.cloud.local.preparation import make_disk
from vk_provider.cloud.local.process import end_process
from vk_provider.cloud.local.source_guard import _TABLE, SourceGuard
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore
from vk_provider.cloud.local.template import Template, check_instance_programs, check_machine, prepare
from vk_provider.errors import CloudError

log = logging.getLogger(__name__)

KILL_LIMIT_S = 10.0
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}

OnDeath = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """What an instance type has."""

    cpu_milli: int
    memory_bytes: int


class Sandboxes:
    """`start` first. Methods for one instance are not called side by side. on_death: a sandbox has ended, by whatever
    cause; it may be called for one that `end` has ended."""

    def __init__(self, config: LocalCloudConfig, on_death: OnDeath) -> None:
        self.config = config
        self.store = InstanceStore(config)
        self._on_death = on_death
        self._launcher = Launcher(
            services.build_environment(), config.root / "launcher.log", preload=config.preload_agent
        )
        self._slots = asyncio.Semaphore(config.launch_concurrency)
        self._watched: dict[str, int] = {}
        self._admitted: dict[str, tuple[str, ...]] = {}
        self._template: Template | None = None

    async def start(self) -> None:
        """Make the network and what all sandboxes share; watch those that an earlier booter has left running."""
        check_machine()
        check_instance_programs(self.config)
        self.store.prepare()
        await asyncio.to_thread(network.ensure, self.config)
        await asyncio.to_thread(SourceGuard(self.config).ensure)
        self._template = await asyncio.to_thread(prepare, self.config)
        await self._launcher.start()
        for instance_id in self.store.ids():
            self._watch(instance_id)

    async def close(self) -> None:
        """Let go of the sandboxes; they run on."""
        for descriptor in self._watched.values():
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
        await self._launcher.close()

    # --- one sandbox ---------------------------------------------------------------------------------------------

    def records(self) -> dict[str, InstanceRecord]:
        """What was booted and not forgotten, by instance ID."""
        found = {instance_id: self.store.load(instance_id) for instance_id in self.store.ids()}
        return {instance_id: record for instance_id, record in found.items() if record is not None}

    def is_alive(self, instance_id: str) -> bool:
        identity = self.store.identity(instance_id)
        return identity is not None and identity.is_alive()

    def was_started(self, instance_id: str) -> bool:
        return self.store.identity(instance_id) is not None

    def user_data(self, instance_id: str) -> bytes:
        try:
            return (self.store.directory(instance_id) / "user-data").read_bytes()
        except FileNotFoundError:
            return b""

    async def boot(self, machine: Machine, user_data: str, size: Size) -> None:
        """Start a sandbox, again after a stop: its disk is as it was. Raises CloudError, OSError."""
        async with self._slots:
            record = await asyncio.to_thread(self._prepare, machine, user_data, size)
            await self._launcher.launch(self.store.directory(record.instance_id))
            self._watch(record.instance_id)

    def _prepare(self, machine: Machine, user_data: str, size: Size) -> InstanceRecord:
        assert self._template is not None
        record = build_record(machine, size)
        if self.is_alive(record.instance_id):
            return record
        self.store.save_user_data(record.instance_id, user_data)
        self.store.save(record)
        directory = self.store.directory(record.instance_id)
        (directory / "pid").unlink(missing_ok=True)
        disk = directory / "disk"
        containerd, made = disk / "containerd", directory / "disk.made"
        if not made.exists():
            shutil.rmtree(containerd, ignore_errors=True)
            self._template.images.make_root(containerd)
            make_disk(disk)
            for name in boot.KEPT_DIRECTORIES:
                (disk / name).mkdir(exist_ok=True, mode=0o755)
            made.touch()
        group = self._cgroup(record.instance_id)
        group.create(record.memory_bytes)
        spec = boot.fill(self._spec(), record, str(directory), group)
        group.delegate(userns.host_id(spec.slot))
        self.admit(machine)
        (directory / "boot.json").write_text(spec.to_text())
        return record

    def _spec(self) -> boot.BootSpec:
        assert self._template is not None
        return replace(self._template.spec, images=str(self._template.images.path))

    def _cgroup(self, instance_id: str) -> cgroup.InstanceCgroup:
        return cgroup.InstanceCgroup(tuple(cgroup.find_hierarchies()), f"{self.config.cgroup}/{instance_id}")

    def refresh(self, machine: Machine) -> None:
        """The record of an instance that has got another address or other tags. Blocking, short."""
        record = self.store.load(machine.instance_id)
        if record is None:
            return
        addresses = replace(record.addresses, pod_ip=machine.pod_ip)
        changed = replace(record, addresses=addresses, tags=dict(machine.tags))
        if changed != record:
            self.store.save(changed)

    async def end(self, instance_id: str, *, keep_disk: bool) -> None:
        """Kill a sandbox now. With `keep_disk` it can be booted again, else nothing is left of it. Idempotent."""
        record = self.store.load(instance_id)
        if record is None:
            await asyncio.to_thread(self.store.forget, instance_id)
            return
        state = InstanceState.STOPPED if keep_disk else InstanceState.SHUTTING_DOWN
        if record.state != state:
            await asyncio.to_thread(self.store.mark, record, state, "")
        self._unwatch(instance_id)
        identity = self.store.identity(instance_id)
        if identity is not None and not await end_process(identity, signal.SIGKILL, KILL_LIMIT_S):
            raise CloudError(f"the sandbox of {instance_id} does not end")
        await asyncio.to_thread(self._remove, record, keep_disk)

    def _remove(self, record: InstanceRecord, keep_disk: bool) -> None:
        group = self._cgroup(record.instance_id)
        group.kill()
        if not group.remove():
            raise CloudError(f"the control group of {record.instance_id} is still busy")
        self._withdraw(record)
        if keep_disk:
            (self.store.directory(record.instance_id) / "pid").unlink(missing_ok=True)
        else:
            self.store.forget(record.instance_id)

    # --- what it may send ----------------------------------------------------------------------------------------

    def admit(self, machine: Machine) -> None:
        """Let the instance send from all its addresses, and no longer from those it has lost. Blocking."""
        primary = machine.primary_ip
        addresses = (primary, *secondary_addresses(machine.interface))
        known = self._admitted.get(primary, ())
        if known == addresses:
            return
        for verb, changed in (
            ("add", [each for each in addresses if each not in known]),
            ("delete", [each for each in known if each not in addresses]),
        ):
            if changed:
                self._nft(build_elements(verb, primary, changed))
        self._admitted[primary] = addresses

    def _withdraw(self, record: InstanceRecord) -> None:
        primary, pod = record.addresses.primary_ip, record.addresses.pod_ip
        addresses = self._admitted.pop(primary, (primary, pod) if pod else (primary,))
        # Added before: one that is not there could not be deleted.
        verbs = ("add", "delete")
        self._nft("".join(build_elements(verb, primary, addresses) for verb in verbs))

    def _nft(self, text: str) -> None:
        try:
            run_command(["nsenter", f"--net={self.config.namespace_path}", "nft", "-f", "-"], text=text)
        except CommandError as error:
            raise CloudError(f"the bridge's source guard: {error}") from None

    # --- deaths --------------------------------------------------------------------------------------------------

    def _watch(self, instance_id: str) -> None:
        identity = self.store.identity(instance_id)
        if identity is None or instance_id in self._watched:
            return
        descriptor = identity.open()
        loop = asyncio.get_running_loop()
        if descriptor is None:
            loop.call_soon(self._on_death, instance_id)
            return
        self._watched[instance_id] = descriptor
        loop.add_reader(descriptor, self._died, instance_id)

    def _died(self, instance_id: str) -> None:
        self._unwatch(instance_id)
        self._on_death(instance_id)

    def _unwatch(self, instance_id: str) -> None:
        descriptor = self._watched.pop(instance_id, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def build_record(machine: Machine, size: Size) -> InstanceRecord:
    """The instance as the local cloud's store writes it down."""
    return InstanceRecord(
        instance_id=machine.instance_id,
        client_token="",
        instance_type=machine.instance_type,
        zone=machine.zone,
        capacity_type="spot" if machine.spot else "on-demand",
        architecture=ARCHITECTURES.get(machine.architecture, machine.architecture),
        cpu_milli=size.cpu_milli,
        memory_bytes=size.memory_bytes,
        addresses=Addresses(machine.primary_ip, machine.pod_ip),
        launch_time=machine.launched or time.time(),
        tags=dict(machine.tags),
    )


def build_elements(verb: str, primary_ip: str, addresses: Sequence[str]) -> str:
    """`nft -f` input that adds addresses to what the instance's port on the bridge may send from, or deletes them."""
    port, mac = boot.port_name(primary_ip), boot.mac_address(primary_ip)
    sources = ", ".join(f"{port} . {mac} . {address}" for address in addresses)
    announcers = ", ".join(f"{port} . {mac} . {mac} . {address}" for address in addresses)
    return (
        f"{verb} element bridge {_TABLE} sources {{ {sources} }}\n"
        f"{verb} element bridge {_TABLE} announcers {{ {announcers} }}\n"
    )
