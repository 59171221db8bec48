"""The Node's Lease: its heartbeat (KEP-589), renewed every 10 s."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import NODE_LEASE_NAMESPACE, lease_path
from vk_provider.rfc3339 import format_micro_time

log = logging.getLogger(__name__)


LEASE_S = 40
RENEW_S = 10.0
_JITTER = 0.04
_CALL_TIMEOUT_S = 5.0


class NodeLease:
    """Creates and renews the Lease of one Node.

    node_uid: the Node's UID, "" while unknown: the owner of the Lease is not changed
    create:   False only renews a Lease that exists
    `renewed_at` is the time.monotonic() of the last renewal, `answering_since` that of the first renewal since the last
    failure (0.0 after a failure).
    """

    def __init__(
        self, client: KubeClient, node_name: str, node_uid: Callable[[], str] = str, *, create: bool = True
    ) -> None:
        self._client, self._node_name, self._node_uid, self._create = client, node_name, node_uid, create
        self._lease: Json | None = None
        self._wake = asyncio.Event()
        self.renewed_at = 0.0
        self.answering_since = 0.0

    def wake(self) -> None:
        """Renew now: the Node was registered again, and its Lease was deleted with the old Node."""
        self._lease = None
        self._wake.set()

    async def run(self) -> None:
        backoff = Backoff(first_s=0.2, max_s=7.0)
        while True:
            try:
                await self.renew(time.time())
            except KubeApiError as error:
                self.answering_since = 0.0
                log.warning("lease of node %s not renewed: %s", self._node_name, error)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            self.renewed_at = time.monotonic()
            self.answering_since = self.answering_since or self.renewed_at
            try:
                await asyncio.wait_for(self._wake.wait(), RENEW_S * (1 + random.uniform(0, _JITTER)))
            except TimeoutError:
                pass
            self._wake.clear()

    async def renew(self, now: float) -> None:
        """Renew once; a Lease that is unknown or was changed by another writer is read or created first."""
        path = lease_path(self._node_name)
        if self._lease is None:
            self._lease = await self._read()
        if self._lease is None:
            if not self._create:
                return
            self._lease = await self._client.create(lease_path(), self._build({}, now), timeout_s=_CALL_TIMEOUT_S)
            return
        wanted = self._build(self._lease, now)
        try:
            self._lease = await self._client.put(path, wanted, timeout_s=_CALL_TIMEOUT_S)
        except KubeApiError as error:
            self._lease = None
            if not (error.is_not_found or error.is_conflict):
                raise
            await self.renew(now)

    async def _read(self) -> Json | None:
        try:
            return await self._client.get(lease_path(self._node_name), timeout_s=_CALL_TIMEOUT_S)
        except KubeApiError as error:
            if error.is_not_found:
                return None
            raise

    def _build(self, lease: Json, now: float) -> Json:
        metadata = {**(lease.get("metadata") or {}), "name": self._node_name, "namespace": NODE_LEASE_NAMESPACE}
        uid = self._node_uid()
        if uid:
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node_name, "uid": uid}
            metadata["ownerReferences"] = [owner]
        spec = {
            **(lease.get("spec") or {}),
            "holderIdentity": self._node_name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": format_micro_time(now),
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
