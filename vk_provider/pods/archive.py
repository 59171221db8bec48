"""Logs of finished pods, copied from the instance before it is terminated, kept until the pod object is gone.

Files hold the CRI log lines as containerd wrote them, so that every log option still works on them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vk_provider.agentclient.base import AgentConnector
from vk_provider.cloud.base import Instance
from vk_provider.wire import routes

log = logging.getLogger(__name__)

_PARALLEL = 8
_POD_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def container_names(status: dict[str, Any]) -> list[tuple[str, bool]]:
    """(name, has a previous instance) of every container that ever ran, by a PodStatus."""
    found = []
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for item in status.get(field) or []:
            if item.get("containerID"):
                found.append((item["name"], bool((item.get("lastState") or {}).get("terminated"))))
    return found


class LogArchive:
    """One directory per pod UID: <container>.log and <container>.previous.log."""

    def __init__(self, directory: str, max_bytes: int, timeout_s: float) -> None:
        self._root = Path(directory)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._gate = asyncio.Semaphore(_PARALLEL)

    def path(self, uid: str, container: str, previous: bool) -> Path | None:
        """Where the archived log stands, or None."""
        path = self._path(uid, container, previous)
        return path if path.exists() else None

    def _path(self, uid: str, container: str, previous: bool) -> Path:
        return self._root / uid / f"{container}{'.previous' if previous else ''}.log"

    async def fetch(self, uid: str, instance: Instance, connector: AgentConnector, status: dict[str, Any]) -> None:
        """Copy all logs of the pod; raises AgentError or OSError (disk full), then nothing half is left."""
        async with self._gate, asyncio.timeout(self._timeout_s):
            for container, has_previous in container_names(status):
                for previous in (False, True) if has_previous else (False,):
                    await self._fetch_one(uid, instance, connector, container, previous)

    async def _fetch_one(
        self, uid: str, instance: Instance, connector: AgentConnector, container: str, previous: bool
    ) -> None:
        query = [("container", container), ("raw", "true"), ("maxBytes", str(self._max_bytes))]
        if previous:
            query.append(("previous", "true"))
        response = await connector.request(instance, "GET", routes.LOGS, query)
        try:
            if response.status != 200:
                return
            path = self._path(uid, container, previous)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(".part")
            try:
                with temporary.open("wb") as file:
                    async for chunk in response.iter_any():
                        file.write(chunk)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        finally:
            await response.close()

    async def remove(self, uid: str) -> None:
        """The pod object is gone."""
        directory = self._root / uid
        if directory.exists():
            await asyncio.to_thread(shutil.rmtree, directory, True)

    async def keep_only(self, uids: Iterable[str]) -> None:
        """Remove archives of pods that went while the provider was down. What is not named like a pod is not ours."""
        wanted = set(uids)
        if self._root.is_dir():
            for directory in self._root.iterdir():
                if directory.name not in wanted and _POD_UID.fullmatch(directory.name):
                    await asyncio.to_thread(shutil.rmtree, directory, True)
