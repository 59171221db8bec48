"""LocalCloud: the Cloud protocol over namespaces on this machine.

Nothing is kept in memory that a restart would need: records and addresses are files, process 1 of an instance is found
by pid and start time, and an instance id is derived from its client token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vk_provider.cloud.base import TAG_OWNER, Instance, InstanceState, LaunchRequest, LaunchResult, Offering
from vk_provider.cloud.local import boot, catalog, cgroup, containerd, golden, layer, network, services
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.launcher import Launcher
from vk_provider.cloud.local.process import end_process
from vk_provider.cloud.local.spare import SpareRoots
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore, instance_id_of
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import BadStartError, CloudError, CloudQuotaError, CloudRequestError

log = logging.getLogger(__name__)

_KILL_TIMEOUT_S = 10.0
_LAUNCH_GRACE_S = 30.0
"""A pending instance without a first process is given up after this (its launcher died before starting it)."""


class LocalCloud:
    """See cloud.base.Cloud. `owner` is the value of TAG_OWNER that list_owned filters by."""

    name = "local"

    def __init__(self, config: LocalCloudConfig, owner: str) -> None:
        self.config = config
        self._owner = owner
        self._store = InstanceStore(config)
        self._slots = asyncio.Semaphore(max(1, config.parallel_launches))
        self._launches: dict[str, asyncio.Lock] = {}
        self._cleanups: dict[str, asyncio.Task[None]] = {}
        self._offerings: list[Offering] = []
        self._spares: SpareRoots | None = None
        self._template: boot.BootSpec | None = None
        self._hierarchies: tuple[cgroup.Hierarchy, ...] = ()
        self._launcher = Launcher(
            services.build_environment(), config.root / "launcher.log", preload=config.preload_agent
        )

    async def start(self) -> None:
        check_machine()
        self._store.prepare()
        await asyncio.to_thread(network.ensure, self.config)
        launcher = asyncio.create_task(self._launcher.start(), name="launcher")
        try:
            await services.ensure_metadata(self.config)
            root, self._template = await asyncio.to_thread(self._prepare)
            await launcher
        except BaseException:
            launcher.cancel()
            await asyncio.gather(launcher, return_exceptions=True)
            await self._launcher.close()
            raise
        self._spares = SpareRoots(root, self.config.root / "spare", self.config.parallel_launches)
        self._spares.refill()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._offerings = catalog.build_offerings(catalog.machine_architecture(), memory)
        for instance_id in await asyncio.to_thread(self._store.ids):
            await self._observe(instance_id)

    def _prepare(self) -> tuple[golden.GoldenRoot, boot.BootSpec]:
        """Everything that all instances share (blocking)."""
        config = self.config
        self._hierarchies = tuple(cgroup.find_hierarchies())
        runtime = containerd.find_containerd()
        root = golden.ensure_golden(
            runtime, golden_directory(config), config.images, config.sandbox_image, config.registries
        )
        config_text = containerd.build_config(
            runtime.version,
            root.sandbox_image,
            config.cni_bin_dir,
            restrict_oom_score_adj=containerd.lacks_sys_resource(),
            apparmor=containerd.apparmor_enabled(),
        )
        resolv_conf = layer.read_resolv_conf(config.nameservers)
        upper = layer.ensure_layer(config.root / "layers", config_text, resolv_conf, config.state_dir)
        needed = [
            "/usr",
            "/etc",
            sys.prefix,
            sys.base_prefix,
            services.project_root(),
            config.cni_bin_dir,
            runtime.path,
        ]
        agent = [sys.executable, "-m", "vk_provider", "agent", "--metadata-url", boot.METADATA_URL]
        agent += ["--containerd-address", containerd.ADDRESS, "--state-dir", "/var/lib/vk-agent"]
        template = boot.BootSpec(
            instance_id="",
            hostname="",
            directory="",
            layer=str(upper),
            binds=layer.find_binds(needed, layer.hidden_directories(config.state_dir)),
            primary_ip="",
            pod_ip="",
            subnet=config.subnet,
            gateway=config.host_ip,
            bridge_namespace=config.namespace_path,
            bridge=network.BRIDGE,
            cgroup={},
            cpu_milli=0,
            boot_credit_s=config.boot_credit_s,
            containerd=(runtime.path, "--config", containerd.CONFIG_PATH),
            agent=tuple(agent),
            environment=services.build_environment(),
        )
        return root, template

    async def close(self) -> None:
        await asyncio.gather(*self._cleanups.values(), return_exceptions=True)
        if self._spares is not None:
            await self._spares.close()
        await self._launcher.close()

    async def launch(self, requests: Sequence[LaunchRequest]) -> list[LaunchResult]:
        if self._template is None:
            raise CloudError("local cloud: not started")
        if not services.metadata_running(self.config):
            await services.ensure_metadata(self.config)
        return list(await asyncio.gather(*(self._launch(request) for request in requests)))

    async def _launch(self, request: LaunchRequest) -> LaunchResult:
        instance_id = instance_id_of(request.client_token)
        try:
            check_tags(request.tags)
            check_user_data(request.user_data)
            if request.offering not in self._offerings:
                raise CloudRequestError(
                    f"Unsupported: {request.offering.instance_type} ({request.offering.capacity_type}) "
                    f"is not offered in {request.offering.zone}"
                )
            lock = self._launches.setdefault(instance_id, asyncio.Lock())
            try:
                async with lock, self._slots:
                    return await self._launch_once(instance_id, request)
            finally:
                if not lock.locked():
                    self._launches.pop(instance_id, None)
        except CloudError as error:
            return error
        except OSError as error:
            return CloudError(f"local cloud: cannot launch {instance_id}: {error}")

    async def _launch_once(self, instance_id: str, request: LaunchRequest) -> Instance:
        """Claim, prepare, start. A launch that a crash interrupted goes on where its record says."""
        record = await asyncio.to_thread(self._claim, instance_id, request)
        if record.state != InstanceState.PENDING or self._store.identity(instance_id) is not None:
            return await self._observe(instance_id) or record.to_instance(InstanceState.TERMINATED)
        try:
            await asyncio.to_thread(self._prepare_instance, record, request.user_data)
            await self._launcher.launch(self._store.directory(instance_id))
        except (CloudError, OSError) as error:
            await self._end(record, f"Server.InternalError: {error}")
            raise
        finally:
            if self._spares is not None:
                self._spares.refill()
        return record.to_instance(InstanceState.PENDING)

    def _claim(self, instance_id: str, request: LaunchRequest) -> InstanceRecord:
        """Find the record of the token or write it; nothing of the instance exists before its record does."""
        record = self._store.load(instance_id)
        if record is not None:
            return record
        if len(self._live_ids()) >= self.config.max_instances:
            raise CloudQuotaError(
                f"InstanceLimitExceeded: local cloud {self.config.name} has its limit of "
                f"{self.config.max_instances} instances"
            )
        primary_ip, pod_ip = self._store.allocate_addresses(instance_id)
        offering = request.offering
        record = InstanceRecord(
            instance_id=instance_id,
            client_token=request.client_token,
            instance_type=offering.instance_type,
            zone=offering.zone,
            capacity_type=offering.capacity_type,
            architecture=offering.architecture,
            cpu_milli=offering.cpu_milli,
            memory_bytes=offering.memory_bytes,
            primary_ip=primary_ip,
            pod_ip=pod_ip,
            launch_time=time.time(),
            tags=dict(request.tags),
        )
        self._store.save(record)
        return record

    def _live_ids(self) -> list[str]:
        return [path.read_text() for path in self.config.addresses_dir.iterdir()]

    def _prepare_instance(self, record: InstanceRecord, user_data: str) -> None:
        """Write and link everything that the first process needs (blocking)."""
        assert self._template is not None and self._spares is not None
        directory = self._store.directory(record.instance_id)
        if self._store.identity(record.instance_id) is not None:
            return  # a launcher of an earlier life of this process was faster
        descriptor = os.open(directory / "user-data", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(user_data)
        disk = directory / "disk"
        for name in boot.DISK_DIRECTORIES:
            (disk / name).mkdir(parents=True, exist_ok=True, mode=0o755)
        shutil.rmtree(disk / "containerd")
        self._spares.take(disk / "containerd")
        (disk / "log" / "pods").mkdir(exist_ok=True)
        (disk / "log" / "containers").mkdir(exist_ok=True)
        group = self._cgroup(record)
        group.create(record.memory_bytes)
        spec = boot.fill(self._template, record, str(directory), group)
        (directory / "boot.json").write_text(spec.to_text())

    def _cgroup(self, record: InstanceRecord) -> cgroup.InstanceCgroup:
        hierarchies = self._hierarchies or tuple(cgroup.find_hierarchies())
        return cgroup.InstanceCgroup(hierarchies, f"{self.config.cgroup}/{record.instance_id}")

    async def list_owned(self) -> list[Instance]:
        return [i for i in await self.list_all() if i.tags.get(TAG_OWNER) == self._owner]

    async def list_all(self) -> list[Instance]:
        """All instances of this cloud, whoever owns them."""
        return await self.describe(await asyncio.to_thread(self._store.ids))

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return [found for instance_id in instance_ids if (found := await self._observe(instance_id)) is not None]

    async def _observe(self, instance_id: str) -> Instance | None:
        """What the record and the process table say together; also notices deaths and forgets old ones."""
        record = self._store.load(instance_id)
        if record is None:
            return None
        if record.state == InstanceState.TERMINATED:
            if time.time() - record.terminated_time > self.config.remember_s:
                self._store.forget(instance_id)
                return None
            return record.to_instance(InstanceState.TERMINATED)
        if record.state == InstanceState.SHUTTING_DOWN:
            self._clean_up(record, record.state_reason)
            return record.to_instance(InstanceState.SHUTTING_DOWN)
        identity = self._store.identity(instance_id)
        if identity is not None and identity.is_alive():
            return record.to_instance(InstanceState.RUNNING)
        if identity is None and (instance_id in self._launches or time.time() - record.launch_time < _LAUNCH_GRACE_S):
            return record.to_instance(InstanceState.PENDING)
        reason = self._death_reason(instance_id, never_started=identity is None)
        self._clean_up(record, reason)
        return record.to_instance(InstanceState.TERMINATED, reason)

    def _death_reason(self, instance_id: str, *, never_started: bool) -> str:
        if never_started:
            return "Server.InternalError: the launch was interrupted before the instance started"
        try:
            lines = (self._store.directory(instance_id) / "console.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        if lines and lines[-1].startswith(("OSError", "PermissionError", "FileNotFoundError")):
            return f"Server.InternalError: {lines[-1]}"
        return "Client.InstanceInitiatedShutdown: the instance's first process ended"

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        await asyncio.gather(*(self._terminate(instance_id) for instance_id in dict.fromkeys(instance_ids)))

    async def _terminate(self, instance_id: str) -> None:
        record = await asyncio.to_thread(self._store.load, instance_id)
        if record is None or record.state == InstanceState.TERMINATED:
            return
        async with self._launches.setdefault(instance_id, asyncio.Lock()):
            await self._end(record, "Client.UserInitiatedShutdown: terminated by request")
        self._launches.pop(instance_id, None)

    async def _end(self, record: InstanceRecord, reason: str) -> None:
        """Stop the instance now; what it leaves is removed in the background."""
        ending = await asyncio.to_thread(self._store.mark, record, InstanceState.SHUTTING_DOWN, reason)
        identity = self._store.identity(record.instance_id)
        if identity is not None and not await end_process(identity, signal.SIGKILL, _KILL_TIMEOUT_S):
            raise CloudError(f"local cloud: {record.instance_id} does not end")
        self._clean_up(ending, reason)

    def _clean_up(self, record: InstanceRecord, reason: str) -> None:
        """Start removing what a dead instance leaves, once."""
        if record.instance_id not in self._cleanups:
            task = asyncio.create_task(self._run_clean_up(record, reason), name=f"clean up {record.instance_id}")
            self._cleanups[record.instance_id] = task
            task.add_done_callback(lambda _: self._cleanups.pop(record.instance_id, None))

    async def _run_clean_up(self, record: InstanceRecord, reason: str) -> None:
        identity = self._store.identity(record.instance_id)
        try:
            if identity is not None and not await end_process(identity, signal.SIGKILL, _KILL_TIMEOUT_S):
                raise CloudError("its first process does not end")
            await asyncio.to_thread(self._remove_leftovers, record, reason)
        except (OSError, CloudError) as error:
            log.warning("cannot clean up instance %s (tried again later): %s", record.instance_id, error)

    def _remove_leftovers(self, record: InstanceRecord, reason: str) -> None:
        group = self._cgroup(record)
        for pid in group.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not group.remove():
            raise CloudError("its control group is still busy")
        self._store.mark(record, InstanceState.TERMINATED, reason, terminated_time=time.time())
        self._store.release_addresses(record.instance_id, record.primary_ip)
        self._store.clear_directory(record.instance_id)

    async def describe_offerings(self) -> list[Offering]:
        return list(self._offerings)


def golden_directory(config: LocalCloudConfig) -> Path:
    """Golden roots live in the cache, unless that is on another file system, where instances could not link to them."""
    cache = Path(config.cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    config.root.mkdir(parents=True, exist_ok=True)
    same = cache.stat().st_dev == config.root.stat().st_dev
    return (cache if same else config.root) / "golden"


def check_machine() -> None:
    """Raise BadStartError with one line when instances cannot run here."""
    if sys.platform != "linux":
        raise BadStartError("local cloud: needs Linux")
    if os.geteuid() != 0:
        raise BadStartError("local cloud: needs root (namespaces, mounts, control groups)")
    for command, package in {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}.items():
        if shutil.which(command) is None:
            raise BadStartError(f"local cloud: {command} is not on PATH; install the package {package}")
