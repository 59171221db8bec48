"""Logs of finished pods, copied from the instance before it is terminated, kept until the pod object is gone.

Files hold the CRI log lines as containerd wrote them, so that every log option works on them. The pod's owner may
control the agent: the names of the logs come from the pod's spec, their size is limited here, and a slow or silent
agent delays only its own pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from vk_provider.agentclient.base import AgentConnector, AgentResponse
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.pods.archive_store import ArchiveStore, UnsafeNameError
from vk_provider.wire import routes

__all__ = ["ArchiveLimits", "LogArchive", "UnsafeNameError", "logs_to_keep"]

log = logging.getLogger(__name__)

SLOTS = 16
SLOT_S = 0.25
"""At most SLOTS pods start to be archived in SLOT_S, which spreads the termination of a thousand pods. A pod that takes
longer continues without a slot, so that an agent that hangs delays no other pod."""
STALL_S = 5.0
"""Archiving fails when the agent sends no byte for so long."""

_SPEC_AND_STATUS = (
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """container_bytes, pod_bytes, total_bytes: limits per log, per pod and in total; pod_s: time limit per pod."""

    container_bytes: int
    pod_bytes: int
    total_bytes: int
    pod_s: float


class LogTooLongError(AgentError):
    """The agent sends more of a log than it was asked for."""


def logs_to_keep(pod: Json, status: Json) -> Iterator[tuple[str, bool]]:
    """(container, previous) of every log that may exist. Names come from the spec; `status`, which the agent reports,
    only excludes containers that never ran and logs of previous runs that did not happen."""
    for spec_field, status_field in _SPEC_AND_STATUS:
        reported = {}
        for item in _list(status.get(status_field)):
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                reported[item["name"]] = item
        for container in pod["spec"].get(spec_field) or []:
            item = reported.get(container["name"], {})
            if item.get("containerID"):
                yield container["name"], False
                last = item.get("lastState")
                if isinstance(last, dict) and last.get("terminated"):
                    yield container["name"], True


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class LogArchive:
    """One directory per pod UID: <container>.log and <container>.previous.log."""

    def __init__(self, directory: str, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._store = ArchiveStore(Path(directory), limits.total_bytes)
        self._slots = asyncio.Semaphore(SLOTS)

    def path(self, uid: str, container: str, previous: bool) -> Path | None:
        """Path of the archived log, or None. Raises UnsafeNameError."""
        path = self._store.path(uid, container, previous)
        return path if path.exists() else None

    async def fetch(self, pod: Json, status: Json, instance: Instance, connector: AgentConnector) -> None:
        """Copy all logs of the pod. A file is complete or does not exist.

        Raises AgentError (also when the agent is too slow, or sent too much), or OSError (disk or archive full).
        """
        async with self._slot():
            try:
                async with asyncio.timeout(self._limits.pod_s):
                    await self._fetch_all(pod, status, instance, connector)
            except TimeoutError:
                limit = f"within {self._limits.pod_s:g} s"
                raise AgentError(f"{instance.instance_id}: the agent did not send all logs {limit}") from None

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        await self._slots.acquire()
        held = contextlib.ExitStack()
        held.callback(self._slots.release)
        timer = asyncio.get_running_loop().call_later(SLOT_S, held.close)
        try:
            yield
        finally:
            timer.cancel()
            held.close()

    async def _fetch_all(self, pod: Json, status: Json, instance: Instance, connector: AgentConnector) -> None:
        uid, left = str(pod["metadata"]["uid"]), self._limits.pod_bytes
        too_long: LogTooLongError | None = None
        for container, previous in logs_to_keep(pod, status):
            limit = min(left, self._limits.container_bytes)
            if limit <= 0:
                log.warning("pod %s: the logs of its further containers are not kept: archive_pod_bytes", uid)
                break
            try:
                left -= await self._fetch_one(uid, container, previous, limit, instance, connector)
            except LogTooLongError as error:
                too_long = error  # the other containers' logs are not affected
        if too_long is not None:
            raise too_long

    async def _fetch_one(
        self, uid: str, container: str, previous: bool, limit: int, instance: Instance, connector: AgentConnector
    ) -> int:
        """Bytes kept."""
        query = [("container", container), ("raw", "true"), ("maxBytes", str(limit))]
        if previous:
            query.append(("previous", "true"))
        try:
            async with asyncio.timeout(STALL_S):
                response = await connector.request(instance, "GET", routes.LOGS, query)
        except TimeoutError:
            raise _silent(instance, container) from None
        try:
            if response.status != HTTPStatus.OK:
                return 0
            file = await self._store.create(uid, container, previous)
            try:
                async for chunk in _chunks(response, instance, container):
                    if file.size + len(chunk) > limit:
                        what = f"the agent sends more than {limit} bytes as log of container {container}"
                        raise LogTooLongError(f"{instance.instance_id}: {what}")
                    await file.write(chunk)
                await file.keep()
            finally:
                await file.close()
            return file.size
        finally:
            await response.close()

    async def remove(self, uid: str) -> None:
        """Remove the logs of a pod whose object is gone."""
        await self._store.remove(uid)

    async def keep_only(self, uids: Iterable[str]) -> None:
        """Remove archives of pods that were deleted while the provider was down. Files of other names are kept."""
        await self._store.keep_only(uids)


async def _chunks(response: AgentResponse, instance: Instance, container: str) -> AsyncIterator[bytes]:
    """The body in chunks; raises AgentError when the agent sends nothing for STALL_S."""
    chunks = aiter(response.iter_any())
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise _silent(instance, container) from None
        if chunk is None:
            return
        yield chunk


def _silent(instance: Instance, container: str) -> AgentError:
    return AgentError(f"{instance.instance_id}: no byte of the log of container {container} for {STALL_S:g} s")
