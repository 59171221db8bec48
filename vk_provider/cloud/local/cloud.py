"""LocalCloud: the Cloud protocol over namespaces on this machine.

Nothing is kept in memory that a restart would need: records and addresses are files, process 1 of an instance is found
by pid and start time, and an instance id is derived from its client token and its number within the group.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import threading
import time
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vk_provider.cloud.base import (
    TAG_OWNER,
    Instance,
    InstancePage,
    InstanceRuntime,
    InstanceState,
    LaunchAnswer,
    LaunchFailure,
    LaunchRequest,
    Notice,
    Offering,
    TerminateResult,
    check_options,
    offering_key,
)
from vk_provider.cloud.local import boot, catalog, cgroup, network, services, userns
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.containerd import require_programs
from vk_provider.cloud.local.images import SharedImages
from vk_provider.cloud.local.ipv6 import translate
from vk_provider.cloud.local.launcher import Launcher
from vk_provider.cloud.local.limit import InstanceLimit, find_instance_limit
from vk_provider.cloud.local.prepared import LocalImageStores
from vk_provider.cloud.local.process import end_process
from vk_provider.cloud.local.shared import check_shared, share_directories
from vk_provider.cloud.local.source_guard import SourceGuard
from vk_provider.cloud.local.spare import SpareRoots
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore, instance_id_of
from vk_provider.cloud.local.template import check_instance_programs, check_machine, prepare
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import BadStartError, CloudError, CloudQuotaError, CloudRequestError

log = logging.getLogger(__name__)

_Member = Instance | CloudError
"""One instance of a group, or why there is none."""
_KILL_TIMEOUT_S = 10.0
_OBSERVED_AT_ONCE = 25
_LAUNCH_GRACE_S = 30.0
"""A pending instance without a first process is terminated after this (its launcher died before starting it)."""


class LocalCloud:
    """See cloud.base.Cloud. `owner` is the value of TAG_OWNER that listings filter by.

    A launch call is answered when all its instances were started, so a group is no larger than what starts at once.
    """

    name = "local"
    shares_host_paths = True
    listing_lag_s = 0.0

    def __init__(self, config: LocalCloudConfig, owner: str) -> None:
        self.config = config
        self.group_limit = max(1, config.launch_concurrency)
        self._owner = owner
        self._store = InstanceStore(config)
        self._slots = asyncio.Semaphore(max(1, config.launch_concurrency))
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._claiming = threading.Lock()
        self._limit = InstanceLimit(config.max_instances)
        self._cleanups: dict[str, asyncio.Task[None]] = {}
        self._launches: set[asyncio.Task[_Member]] = set()
        self._offerings: list[Offering] = []
        self._spares: SpareRoots | None = None
        self._image_stores: LocalImageStores | None = None
        self._template: boot.BootSpec | None = None
        self._hierarchies: tuple[cgroup.Hierarchy, ...] = ()
        self._runtime: InstanceRuntime | None = None
        self._guard = SourceGuard(config)
        self._launcher = Launcher(
            services.build_environment(), config.root / "launcher.log", preload=config.preload_agent
        )

    async def start(self) -> None:
        check_machine()
        require_programs()  # before anything is created
        check_instance_programs(self.config)
        self._store.prepare()
        await asyncio.to_thread(network.ensure, self.config)
        await asyncio.to_thread(self._guard.ensure)
        launcher = asyncio.create_task(self._launcher.start(), name="launcher")
        try:
            await services.ensure_metadata(self.config)
            shared = await asyncio.to_thread(prepare, self.config)
            self._template, self._hierarchies, self._runtime = shared.spec, shared.hierarchies, shared.runtime
            await launcher
        except BaseException as error:
            launcher.cancel()
            await asyncio.gather(launcher, return_exceptions=True)
            await self._launcher.close()
            if isinstance(error, CloudError):
                raise BadStartError(str(error)) from None
            raise
        self._limit = find_instance_limit(self.config.max_instances, self._hierarchies)
        if self._limit.reason:
            log.warning(
                "local cloud: at most %d instances instead of %d: %s",
                self._limit.instances,
                self.config.max_instances,
                self._limit.reason,
            )
        self._spares = SpareRoots(shared.images, self.config.root / "spare", self.config.launch_concurrency)
        self._spares.refill()
        self._image_stores = LocalImageStores(
            self.config.stores_dir, self.config.instances_dir, shared.images, shared.containerd
        )
        await asyncio.to_thread(self._image_stores.load)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._offerings = catalog.build_offerings(catalog.machine_architecture(), memory)
        await self._recover()

    @property
    def image_stores(self) -> LocalImageStores:
        """Known from `start` on. Raises CloudError before."""
        if self._image_stores is None:
            raise CloudError("local cloud: not started")
        return self._image_stores

    async def _recover(self) -> None:
        """Continue where an earlier process was killed: finish accepted launches, drop incomplete claims."""
        await asyncio.to_thread(self._store.drop_unclaimed, time.time() - _LAUNCH_GRACE_S)
        resumed = []
        for instance in await self.list_all():
            record = self._store.load(instance.instance_id)
            if record is not None and instance.state is InstanceState.PENDING:
                resumed.append(self._resume(record))
        for result in await asyncio.gather(*resumed, return_exceptions=True):
            if isinstance(result, BaseException):
                log.warning("an interrupted launch cannot be finished: %s", result)

    async def _resume(self, record: InstanceRecord) -> None:
        async with self._lock(record.instance_id), self._slots:
            if self._store.identity(record.instance_id) is None:
                await self._start_instance(record)

    async def close(self) -> None:
        for launch in self._launches:
            launch.cancel()  # the next start continues from its record
        await asyncio.gather(*self._launches, return_exceptions=True)
        await asyncio.gather(*self._cleanups.values(), return_exceptions=True)
        if self._spares is not None:
            await self._spares.close()
        await self._launcher.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        if self._template is None:
            raise CloudError("local cloud: not started")
        await self._ensure_metadata()
        check_tags(request.tags)
        check_user_data(request.user_data)
        check_options(request)
        check_shared(request)
        failures = []
        for offering in request.offerings:
            if offering_key(offering) not in map(offering_key, self._offerings):
                failures.append(LaunchFailure(offering, _not_offered(offering)))
                continue
            begun = [self._begin(request, offering, member) for member in range(request.count)]
            results = await asyncio.gather(*map(asyncio.shield, begun))
            for result in results:
                if isinstance(result, CloudRequestError):
                    raise result  # of the token: the same for each of the group
                if isinstance(result, CloudError):
                    failures.append(LaunchFailure(offering, result))
            return LaunchAnswer(tuple(each for each in results if isinstance(each, Instance)), tuple(failures))
        return LaunchAnswer((), tuple(failures))

    def _begin(self, request: LaunchRequest, offering: Offering, member: int) -> asyncio.Task[_Member]:
        """A launch is not cancelled with its caller: threads write its files, and a second try waits for its lock."""
        name = f"launch {request.client_token} {member}"
        task = asyncio.create_task(self._launch(request, offering, member), name=name)
        self._launches.add(task)
        task.add_done_callback(self._launches.discard)
        return task

    async def _ensure_metadata(self) -> None:
        if services.metadata_running(self.config):
            return
        try:
            await services.ensure_metadata(self.config)
        except (BadStartError, OSError) as error:
            raise CloudError(str(error)) from None

    async def _launch(self, request: LaunchRequest, offering: Offering, member: int) -> _Member:
        instance_id = instance_id_of(request.client_token, member)
        try:
            async with self._lock(instance_id), self._slots:
                return await self._launch_once(instance_id, request, offering)
        except CloudError as error:
            return error
        except (OSError, BadStartError) as error:
            return CloudError(f"local cloud: cannot launch {instance_id}: {error}")

    async def _launch_once(self, instance_id: str, request: LaunchRequest, offering: Offering) -> Instance:
        """Claim, prepare, start. A launch that a crash interrupted continues from its record."""
        if (cleanup := self._cleanups.get(instance_id)) is not None:
            await asyncio.wait([cleanup])  # it was terminated a moment ago
        record = await asyncio.to_thread(self._claim, instance_id, request, offering)
        if record.state != InstanceState.PENDING or self._store.identity(instance_id) is not None:
            return self._observe(instance_id) or record.to_instance(InstanceState.TERMINATED)
        await self._start_instance(record)
        return record.to_instance(InstanceState.PENDING)

    async def _start_instance(self, record: InstanceRecord) -> None:
        try:
            await asyncio.to_thread(self._prepare_instance, record)
            await self._launcher.launch(self._store.directory(record.instance_id))
        except (CloudError, OSError, BadStartError) as error:
            await self._end(record, f"Server.InternalError: {error}")
            raise
        finally:
            if self._spares is not None:
                self._spares.refill()

    def _lock(self, instance_id: str) -> asyncio.Lock:
        """Launch and terminate of one instance never overlap."""
        return self._locks.setdefault(instance_id, asyncio.Lock())

    def _claim(self, instance_id: str, request: LaunchRequest, offering: Offering) -> InstanceRecord:
        """Find the record of the token or write it, before anything else of the instance is created."""
        record = self._store.load(instance_id)
        if record is not None:
            if record.parameters:
                check_same_parameters(request, record.parameters)
            return record
        with self._claiming:
            if len(os.listdir(self.config.addresses_dir)) >= self._limit.instances:
                raise CloudQuotaError(
                    f"InstanceLimitExceeded: local cloud {self.config.name} has its limit of "
                    f"{self._limit.instances} instances" + (f" ({self._limit.reason})" if self._limit.reason else "")
                )
            primary_ip, pod_ip = self._store.allocate_addresses(instance_id)
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
            parameters=digest_parameters(request),
            shared_host_paths=request.shared_host_paths,
            ipv6_subnet=self.config.ipv6_subnet,
            primary_ipv6=self._to_ipv6(primary_ip),
            pod_ipv6=self._to_ipv6(pod_ip),
            image_store=request.image_store,
        )
        try:
            self._store.save_user_data(instance_id, request.user_data)
            self._store.save(record)
        except OSError:
            self._store.forget(instance_id)
            self._store.release_addresses(instance_id, primary_ip)
            raise
        return record

    def _to_ipv6(self, address: str) -> str:
        config = self.config
        return translate(config.subnet, config.ipv6_subnet, address) if config.ipv6_subnet else ""

    def _prepare_instance(self, record: InstanceRecord) -> None:
        """Write and link everything that the first process needs (blocking)."""
        assert self._template is not None and self._spares is not None
        directory = self._store.directory(record.instance_id)
        if self._store.identity(record.instance_id) is not None:
            return  # a launcher of an earlier process was faster
        disk = directory / "disk"
        for name in boot.DISK_DIRECTORIES:
            (disk / name).mkdir(parents=True, exist_ok=True, mode=0o755)
        with self.image_stores.use(record.image_store) as images:
            self._take_root(images, disk / "containerd")
            self._write_boot(record, directory, images)

    def _take_root(self, images: SharedImages, target: Path) -> None:
        assert self._spares is not None
        shutil.rmtree(target)
        if images is self._spares.images:
            self._spares.take(target)
        else:
            images.make_root(target)

    def _write_boot(self, record: InstanceRecord, directory: Path, images: SharedImages) -> None:
        assert self._template is not None
        disk = directory / "disk"
        (disk / "log" / "pods").mkdir(exist_ok=True)
        (disk / "log" / "containers").mkdir(exist_ok=True)
        group = self._cgroup(record)
        group.create(record.memory_bytes)
        template = replace(self._template, images=str(images.path), image_binds=images.binds)
        spec = boot.fill(template, record, str(directory), group, share_directories(self.config, record))
        group.delegate(userns.host_id(spec.slot))
        self._guard.admit(record.primary_ip)
        (directory / "boot.json").write_text(spec.to_text())

    def _cgroup(self, record: InstanceRecord) -> cgroup.InstanceCgroup:
        hierarchies = self._hierarchies or tuple(cgroup.find_hierarchies())
        return cgroup.InstanceCgroup(hierarchies, f"{self.config.cgroup}/{record.instance_id}")

    async def list_page(self, page: str = "") -> InstancePage:
        """All on one page: they are files."""
        if self._template is not None:
            await self._ensure_metadata()  # restarted agents read it, too
        return InstancePage(tuple(i for i in await self.list_all() if i.tags.get(TAG_OWNER) == self._owner))

    async def list_all(self) -> list[Instance]:
        """All instances of this cloud, of all owners."""
        return await self.describe(await asyncio.to_thread(self._store.ids))

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        found = []
        for number, instance_id in enumerate(instance_ids, 1):
            if (instance := self._observe(instance_id)) is not None:
                found.append(instance)
            if number % _OBSERVED_AT_ONCE == 0:
                await asyncio.sleep(0)  # each reads some files: yield to the loop in between
        return found

    def _observe(self, instance_id: str) -> Instance | None:
        """The instance by record and process table; also records its death and removes old records."""
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
        if identity is None and (
            self._lock(instance_id).locked() or time.time() - record.launch_time < _LAUNCH_GRACE_S
        ):
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
        if lines and "Error" in lines[-1]:
            said = [line for line in lines if not line.startswith(("Traceback", " "))]
            return f"Server.InternalError: {'; '.join(said[-3:])}"
        return "Client.InstanceInitiatedShutdown: the instance's first process ended"

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        distinct = list(dict.fromkeys(instance_ids))
        results = dict(zip(distinct, await asyncio.gather(*map(self._try_terminate, distinct)), strict=True))
        return [results[instance_id] for instance_id in instance_ids]

    async def _try_terminate(self, instance_id: str) -> TerminateResult:
        try:
            await self._terminate(instance_id)
        except CloudError as error:
            return error
        except OSError as error:
            return CloudError(f"local cloud: cannot terminate {instance_id}: {error}")
        return None

    async def _terminate(self, instance_id: str) -> None:
        async with self._lock(instance_id):
            # Read again under the lock: its last holder may have terminated this instance.
            record = await asyncio.to_thread(self._store.load, instance_id)
            if record is None or record.state == InstanceState.TERMINATED:
                return
            if record.state == InstanceState.SHUTTING_DOWN:
                self._clean_up(record, record.state_reason)
            else:
                await self._end(record, "Client.UserInitiatedShutdown: terminated by request")

    async def _end(self, record: InstanceRecord, reason: str) -> None:
        """Stop the instance now; its files are removed in the background."""
        try:
            ending = await asyncio.to_thread(self._store.mark, record, InstanceState.SHUTTING_DOWN, reason)
        except OSError as error:  # a full disk must not prevent termination, which frees space
            log.warning("instance %s: its state cannot be written: %s", record.instance_id, error)
            ending = record
        identity = self._store.identity(record.instance_id)
        if identity is not None and not await end_process(identity, signal.SIGKILL, _KILL_TIMEOUT_S):
            raise CloudError(f"local cloud: {record.instance_id} does not end")
        self._clean_up(ending, reason)

    def _clean_up(self, record: InstanceRecord, reason: str) -> None:
        """Start to remove the files of a terminated instance, once."""
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
        group.kill()
        if not group.remove():
            raise CloudError("its control group is still busy")
        self._store.release_addresses(record.instance_id, record.primary_ip)
        try:
            self._store.mark(record, InstanceState.TERMINATED, reason, terminated_time=time.time())
        except OSError:
            self._store.clear_disk(record.instance_id)  # frees space; the record stays until the end is reported
            self._store.mark(record, InstanceState.TERMINATED, reason, terminated_time=time.time())
        self._store.clear_directory(record.instance_id)
        if record.image_store and self._image_stores is not None:
            self._image_stores.release(record.image_store)

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        check_tags(tags)
        for instance_id in instance_ids:
            try:
                await asyncio.to_thread(self._store.add_tags, instance_id, tags)
            except OSError as error:
                raise CloudError(f"local cloud: cannot tag {instance_id}: {error}") from None

    async def notices(self) -> AsyncIterator[Notice]:
        """None: nothing here announces the end of a process."""
        return
        yield

    async def describe_offerings(self) -> list[Offering]:
        return list(self._offerings)

    async def describe_runtime(self) -> InstanceRuntime:
        if self._runtime is None:
            raise CloudError("local cloud: not started")
        return self._runtime


def _not_offered(offering: Offering) -> CloudRequestError:
    return CloudRequestError(
        f"Unsupported: {offering.instance_type} ({offering.capacity_type}) is not offered in {offering.zone}"
    )
