"""LocalCloud: the Cloud protocol over namespaces on this machine.

Nothing is kept in memory that a restart would need: records and addresses are files, process 1 of an instance is found
by pid and start time, and an instance id is derived from its client token and its number within the group.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence

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
    StateResult,
    TerminateResult,
    check_options,
    offering_key,
)
from vk_provider.cloud.local import catalog, cgroup, network, services
from vk_provider.cloud.local.claims import Claims
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.containerd import require_programs
from vk_provider.cloud.local.ends import InstanceEnds
from vk_provider.cloud.local.launcher import Launcher
from vk_provider.cloud.local.limit import find_instance_limit
from vk_provider.cloud.local.preparation import Preparation
from vk_provider.cloud.local.prepared import LocalImageStores
from vk_provider.cloud.local.shared import check_shared
from vk_provider.cloud.local.source_guard import SourceGuard
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore, instance_id_of
from vk_provider.cloud.local.template import check_instance_programs, check_machine, prepare
from vk_provider.cloud.local.view import LAUNCH_GRACE_S, InstanceView
from vk_provider.cloud.tags import check_tags
from vk_provider.cloud.userdata import check_user_data
from vk_provider.errors import BadStartError, CloudError, CloudRequestError

log = logging.getLogger(__name__)

_Member = Instance | CloudError
"""One instance of a group, or why there is none."""
_OBSERVED_AT_ONCE = 25


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
        self._claims = Claims(config, self._store)
        self._ends = InstanceEnds(self._store, self._lock, self._cgroup, self._release_images)
        self._view = InstanceView(config, self._store, self._ends, lambda instance_id: self._lock(instance_id).locked())
        self._launches: set[asyncio.Task[_Member]] = set()
        self._offerings: list[Offering] = []
        self._preparation: Preparation | None = None
        self._hierarchies: tuple[cgroup.Hierarchy, ...] = ()
        self._runtime: InstanceRuntime | None = None
        self._launcher = Launcher(
            services.build_environment(), config.root / "launcher.log", preload=config.preload_agent
        )

    async def start(self) -> None:
        check_machine()
        require_programs()  # before anything is created
        check_instance_programs(self.config)
        self._store.prepare()
        await asyncio.to_thread(network.ensure, self.config)
        await asyncio.to_thread(SourceGuard(self.config).ensure)
        launcher = asyncio.create_task(self._launcher.start(), name="launcher")
        try:
            await services.ensure_metadata(self.config)
            shared = await asyncio.to_thread(prepare, self.config)
            self._hierarchies, self._runtime = shared.hierarchies, shared.runtime
            await launcher
        except BaseException as error:
            launcher.cancel()
            await asyncio.gather(launcher, return_exceptions=True)
            await self._launcher.close()
            if isinstance(error, CloudError):
                raise BadStartError(str(error)) from None
            raise
        self._claims.limit = limit = find_instance_limit(self.config.max_instances, self._hierarchies)
        if limit.reason:
            log.warning(
                "local cloud: at most %d instances instead of %d: %s",
                limit.instances,
                self.config.max_instances,
                limit.reason,
            )
        stores = LocalImageStores(
            self.config.stores_dir,
            self.config.instances_dir,
            shared.images,
            shared.containerd,
            registries=self.config.registries,
        )
        self._preparation = Preparation(self.config, self._store, shared.spec, stores, self._cgroup)
        await asyncio.to_thread(stores.load)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._offerings = catalog.build_offerings(catalog.machine_architecture(), memory)
        await self._recover()

    @property
    def image_stores(self) -> LocalImageStores:
        """Known from `start` on. Raises CloudError before."""
        return self._started().image_stores

    def _started(self) -> Preparation:
        if self._preparation is None:
            raise CloudError("local cloud: not started")
        return self._preparation

    async def _recover(self) -> None:
        """Continue where an earlier process was killed: finish accepted launches, drop incomplete claims."""
        await asyncio.to_thread(self._store.drop_unclaimed, time.time() - LAUNCH_GRACE_S)
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
        await self._ends.close()
        await self._launcher.close()

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        self._started()
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
        await self._ends.wait_clean(instance_id)
        record = await asyncio.to_thread(self._claims.claim, instance_id, request, offering)
        if record.state != InstanceState.PENDING or self._store.identity(instance_id) is not None:
            return self._view.observe(instance_id) or record.to_instance(InstanceState.TERMINATED)
        await self._start_instance(record)
        return record.to_instance(InstanceState.PENDING)

    async def _start_instance(self, record: InstanceRecord) -> None:
        try:
            await asyncio.to_thread(self._started().prepare, record)
            await self._launcher.launch(self._store.directory(record.instance_id))
        except (CloudError, OSError, BadStartError) as error:
            await self._ends.end(record, f"Server.InternalError: {error}")
            raise

    def _lock(self, instance_id: str) -> asyncio.Lock:
        """Launch and terminate of one instance never overlap."""
        return self._locks.setdefault(instance_id, asyncio.Lock())

    def _cgroup(self, record: InstanceRecord) -> cgroup.InstanceCgroup:
        hierarchies = self._hierarchies or tuple(cgroup.find_hierarchies())
        return cgroup.InstanceCgroup(hierarchies, f"{self.config.cgroup}/{record.instance_id}")

    def _release_images(self, record: InstanceRecord) -> None:
        if record.image_store and self._preparation is not None:
            self._preparation.image_stores.release(record.image_store)

    async def list_page(self, page: str = "") -> InstancePage:
        """All on one page: they are files."""
        if self._preparation is not None:
            await self._ensure_metadata()  # restarted agents read it, too
        return InstancePage(tuple(i for i in await self.list_all() if i.tags.get(TAG_OWNER) == self._owner))

    async def list_all(self) -> list[Instance]:
        """All instances of this cloud, of all owners."""
        return await self.describe(await asyncio.to_thread(self._store.ids))

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        found = []
        for number, instance_id in enumerate(instance_ids, 1):
            if (instance := self._view.observe(instance_id)) is not None:
                found.append(instance)
            if number % _OBSERVED_AT_ONCE == 0:
                await asyncio.sleep(0)  # each reads some files: yield to the loop in between
        return found

    async def terminate(self, instance_ids: Sequence[str]) -> list[TerminateResult]:
        distinct = list(dict.fromkeys(instance_ids))
        results = dict(zip(distinct, await asyncio.gather(*map(self._ends.terminate, distinct)), strict=True))
        return [results[instance_id] for instance_id in instance_ids]

    async def stop_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        """Nothing would be saved: an idle sandbox costs nothing."""
        return [CloudRequestError("UnsupportedOperation: instances of the local cloud are not stopped")] * len(
            instance_ids
        )

    async def start_instances(self, instance_ids: Sequence[str]) -> list[StateResult]:
        return [CloudRequestError("UnsupportedOperation: instances of the local cloud are not started again")] * len(
            instance_ids
        )

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
