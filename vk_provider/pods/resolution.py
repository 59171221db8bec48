"""Reads what a pod refers to beside its worker: a ConfigMap or a TokenRequest that hangs holds nothing else up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from vk_provider.aiokit.backoff import Backoff
from vk_provider.jsontypes import Json
from vk_provider.kube.references import ReferenceStore
from vk_provider.podmodel.references import find_references
from vk_provider.pods.record import PodRecord
from vk_provider.wire.session import References, token_key

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0
NOT_READ = "it has not been read yet"


class ReferenceResolver:
    """At most one reading a pod; `wake(uid)` is called when it is done and when it would be answered differently."""

    def __init__(self, store: ReferenceStore, wake: Callable[[str], None]) -> None:
        self._store = store
        self._wake = wake

    def start(self, record: PodRecord) -> None:
        """Begin to read, unless somebody does."""
        if record.resolving is not None:
            return
        record.references_changed = False
        record.resolving_for = record.pod["metadata"].get("generation")
        self._store.subscribe(record.pod, lambda: self._changed(record))
        record.resolving = asyncio.create_task(self._resolve(record), name=f"references {record.uid}")
        record.resolving.add_done_callback(lambda task: self._done(record, task))

    def take(self, record: PodRecord) -> References | None:
        """What was read for the newest spec; None while it is being read: the worker is woken then."""
        task = record.resolving
        if task is not None and not task.done():
            return None
        record.resolving = None
        if task is None or task.cancelled() or record.resolving_for != record.pod["metadata"].get("generation"):
            self.start(record)
            return None
        if record.references_changed:
            self.start(record)  # what was read goes out; what changed since then follows
        return task.result()

    def _done(self, record: PodRecord, task: asyncio.Task[References]) -> None:
        """Before there is a session nobody waits for it."""
        if record.session is not None and not task.cancelled():
            self._wake(record.uid)

    async def _resolve(self, record: PodRecord) -> References:
        backoff = Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await self._store.resolve(record.pod)
            except Exception as error:
                log.warning("pod %s: what it refers to is read again later: %s", record.key, error)
            await asyncio.sleep(backoff.next_delay_s())

    def _changed(self, record: PodRecord) -> None:
        record.references_changed = True
        self._wake(record.uid)

    def release(self, record: PodRecord) -> None:
        """Nobody needs it any more."""
        if record.resolving is not None:
            record.resolving.cancel()
            record.resolving = None
        self._store.release(record.uid)


def unread_references(pod: Json) -> References:
    """References none of which has been read: the agent leaves as it is what it had."""
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
        services=[],
        trustBundles={},
        podCertificates={},
        runtimeHandler="",
        errors=dict.fromkeys(names, NOT_READ),
    )
