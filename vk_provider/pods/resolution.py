"""Reads a pod's references in a task of its own, so that a ConfigMap or TokenRequest that hangs delays nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from vk_provider.agentclient.session import AgentSession
from vk_provider.aiokit.backoff import Backoff
from vk_provider.jsontypes import Json
from vk_provider.kube.references import ReferenceStore
from vk_provider.podmodel.references import find_references
from vk_provider.pods.record import PodRecord
from vk_provider.wire.session import SERVICES_FEATURE, References, token_key

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0
NOT_READ = "it has not been read yet"


class ReferenceResolver:
    """At most one reading per pod; `wake(uid)` is called when it is done and when a reference has changed."""

    def __init__(self, store: ReferenceStore, wake: Callable[[str], None]) -> None:
        self._store = store
        self._wake = wake

    def start(self, record: PodRecord) -> None:
        """Start to read unless a reading is running."""
        if record.reading.task is not None:
            return
        record.reading.references_changed = False
        record.reading.generation = record.pod["metadata"].get("generation")
        self._store.subscribe(record.pod, partial(self._changed, record), partial(self._services_changed, record))
        known = self._store.peek(record.pod)
        if known is not None:
            record.reading.task = asyncio.get_running_loop().create_future()
            record.reading.task.set_result(known)
            return
        record.reading.task = asyncio.create_task(self._resolve(record), name=f"references {record.uid}")
        record.reading.task.add_done_callback(partial(self._done, record))

    def take(self, record: PodRecord) -> References | None:
        """The references of the newest spec; None while they are being read: the worker is woken then."""
        task = record.reading.task
        if task is not None and not task.done():
            return None
        record.reading.task = None
        if task is None or task.cancelled() or record.reading.generation != record.pod["metadata"].get("generation"):
            self.start(record)
            task = record.reading.task
            if task is None or not task.done():
                return None  # else there was nothing to read
            record.reading.task = None
        if record.reading.references_changed:
            self.start(record)  # return what was read; the change follows
        return task.result()

    def _done(self, record: PodRecord, task: asyncio.Future[References]) -> None:
        """Wake the worker, which waits for the references once there is a session, and with a Pending status."""
        waits = record.session is not None or time.monotonic() >= record.publication.pending_due
        if waits and not task.cancelled():
            self._wake(record.uid)

    async def _resolve(self, record: PodRecord) -> References:
        backoff = Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await self._store.resolve(record.pod)
            except Exception as error:
                log.warning("pod %s: its references are read again later: %s", record.key, error)
            await asyncio.sleep(backoff.next_delay_s())

    def _changed(self, record: PodRecord) -> None:
        record.reading.references_changed = True
        self._wake(record.uid)

    def _services_changed(self, record: PodRecord) -> None:
        record.reading.services_changed = True
        self._wake(record.uid)

    def services(self, record: PodRecord) -> list[Json] | None:
        """For the pod's environment; None before they are known."""
        record.reading.services_changed = False
        return self._store.services.entries(record.pod)

    def release(self, record: PodRecord) -> None:
        """Stop reading and following the pod's references."""
        if record.reading.task is not None:
            record.reading.task.cancel()
            record.reading.task = None
        self._store.release(record.uid)


def references_for(session: AgentSession, references: References, services: list[Json] | None) -> Json:
    """The members `references` and `services` of a message to this agent; an earlier one has both in `references`."""
    if not session.has(SERVICES_FEATURE):
        return {"references": {**references, "services": services or []}}
    return {"references": references, **({"services": services} if services is not None else {})}


def unread_references(pod: Json) -> References:
    """References of which none was read: the agent keeps those that it had."""
    found = find_references(pod)
    names = [f"configmap/{name}" for name in found.config_maps]
    names += [f"secret/{name}" for name in found.secrets]
    names += [f"token/{token_key(audience, seconds)}" for audience, seconds in found.tokens]
    names += [f"trustbundle/{bundle.key}" for bundle in found.trust_bundles]
    names += [f"podcertificate/{each.key}" for each in found.pod_certificates]
    if found.runtime_class:
        names.append(f"runtimeclass/{found.runtime_class}")
    return References(
        configMaps={},
        secrets={},
        tokens={},
        trustBundles={},
        podCertificates={},
        runtimeHandler="",
        errors=dict.fromkeys(names, NOT_READ),
    )
