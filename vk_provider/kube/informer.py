"""Keeps a local copy of a collection up to date: list in pages, then watch, and list again when the version expired."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json, share_text
from vk_provider.kube.answers import ReadItem, read_item
from vk_provider.kube.client import KubeClient

log = logging.getLogger(__name__)

OnEvent = Callable[[str, Json], None]

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
_QUICK_WATCH_S = 1.0
_EVENTS_AT_ONCE = 8
"""A burst brings a hundred events in one read; the tasks that they wake run after each group of this size."""
_TRY_AGAIN = (
    NO_ANSWER,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Statuses that do not mean that the requested resourceVersion is unusable."""


def drop_managed_fields(item: Json) -> Json:
    """Default trim: managedFields are a quarter of an object and are not used here."""
    item["metadata"].pop("managedFields", None)
    return item


def key_by_uid(item: Json) -> str:
    return str(item["metadata"]["uid"])


def key_by_name(item: Json) -> str:
    """Key `namespace/name`, or `name` of a cluster-scoped object."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What is kept of the objects.

    keep: False keeps of each object only what a DELETED event needs (uid, name, namespace, resourceVersion), as a
          `Stub` in `items`
    trim: changes an object before it is stored and passed on
    read: decodes an object of a list, trimmed already; None: as a whole, for `trim`
    key:  of an object in `items`
    """

    keep: bool = True
    trim: Callable[[Json], Json] = drop_managed_fields
    key: Callable[[Json], str] = key_by_uid
    read: ReadItem | None = None


@dataclass(frozen=True, slots=True)
class ReflectorOptions:
    """How the API server is asked.

    gate:     semaphore around each list, for many informers that start at once
    poll_s:   list at this interval instead of watching
    backoff:  between failures; None: 0.2 to 8 s
    on_error: called with each failure
    """

    gate: asyncio.Semaphore | None = None
    poll_s: float | None = None
    backoff: Backoff | None = None
    on_error: Callable[[KubeApiError], None] | None = None


class Informer:
    """Local copy of one collection.

    on_event(kind, object): ADDED, MODIFIED or DELETED, also for differences that a new list shows; called on the
        event loop, must not block. DELETED carries the last known object.
    `items` maps key to object; `synced` is set after the first complete list; `last_contact` is time.monotonic() of
    the last answer; `error` is the newest failure, None after a success, and `failing_since` is the time of the first
    failure since the last success (time.monotonic(); 0.0 while there is none).
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        query: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
        *,
        store: StoreOptions = StoreOptions(),
        reflector: ReflectorOptions = ReflectorOptions(),
    ) -> None:
        self._client, self._path, self._query = client, path, dict(query or {})
        self._on_event, self._on_error = on_event, reflector.on_error
        self._keep, self._trim, self._key, self._read = store.keep, store.trim, store.key, store.read
        self._gate, self._poll_s = reflector.gate, reflector.poll_s
        self._backoff = reflector.backoff or Backoff(first_s=0.2, max_s=8.0, jitter=0.3)
        self._resource_version = ""
        self.items: dict[str, Any] = {}
        self.synced = asyncio.Event()
        self.connected = False
        self.last_contact = 0.0
        self.error: KubeApiError | None = None
        self.failing_since = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                try:
                    if not self._resource_version:
                        await self._list()
                    await self._follow()
                except KubeApiError as error:
                    await self.recover(error)
        finally:
            self.connected = False

    async def recover(self, error: KubeApiError) -> None:
        """Note the failure, and wait until the next try."""
        self.connected = False
        if error.is_expired:
            log.info("%s: version %s expired, listing again", self._path, self._resource_version)
        elif self.error is None:
            log.warning("%s: %s", self.describe(), error)
        if error.status not in _TRY_AGAIN or error.reason in ("BrokenWatch", "Unreadable"):
            # 410, or a watch that would always fail at this version, such as after etcd was restored.
            self._resource_version = ""
        if self.error is None:
            self.failing_since = time.monotonic()
        self.error = error
        if self._on_error is not None:
            self._on_error(error)
        await asyncio.sleep(self._backoff.next_delay_s())

    def describe(self) -> str:
        """The collection, in a log."""
        selector = self._query.get("fieldSelector")
        return f"{self._path} ({selector})" if selector else self._path

    async def _list(self) -> None:
        gate: AbstractAsyncContextManager[Any] = self._gate or nullcontext()
        listed: set[str] = set()
        version = ""
        read = self._read or read_item
        async with gate, aclosing(self._client.list_pages(self._path, self._query, read=read)) as pages:
            async for items, page_version in pages:
                version = page_version
                self._alive()
                listed.update(self._apply_listed(item) for item in items)
        for key in [key for key in self.items if key not in listed]:
            self._remove(key, None)
        self._resource_version = version
        self.connected = True
        self.synced.set()

    def _apply_listed(self, item: Json) -> str:
        key = self._key(item)
        known = self.items.get(key)
        if known is None or _version(known) != item["metadata"].get("resourceVersion"):
            self._store(key, item if self._read is not None else self._trim(item))
        return key

    async def _follow(self) -> None:
        if self._poll_s is not None:
            self._backoff.reset()
            await asyncio.sleep(self._poll_s * random.uniform(0.8, 1.2))
            self._resource_version = ""
            return
        started, events = time.monotonic(), 0
        stream = self._client.watch(self._path, self._query, self._resource_version, self._alive)
        async with aclosing(stream):
            async for event in stream:
                events += 1
                self._alive()
                self._backoff.reset()
                self._apply(event["type"], event["object"])
                if events % _EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        if events or time.monotonic() - started >= _QUICK_WATCH_S:
            self._backoff.reset()
        else:
            await asyncio.sleep(self._backoff.next_delay_s())

    def _alive(self) -> None:
        self.last_contact = time.monotonic()
        self.connected = True
        if self.error is not None:
            log.info("%s: connected again", self.describe())
            self.error, self.failing_since = None, 0.0

    def _apply(self, kind: str, item: Json) -> None:
        self._resource_version = item["metadata"]["resourceVersion"]
        if kind == DELETED:
            self._remove(self._key(item), item)
        elif kind != "BOOKMARK":
            self._store(self._key(item), self._trim(item))

    def _store(self, key: str, item: Json) -> None:
        kind = MODIFIED if key in self.items else ADDED
        self.items[key] = item if self._keep else Stub.of(item)
        self._notify(kind, item, key)

    def _remove(self, key: str, item: Json | None) -> None:
        known = self.items.pop(key, None)
        if known is not None:
            last = known.to_object() if isinstance(known, Stub) else known
            self._notify(DELETED, self._trim(item) if item is not None else last, key)

    def _notify(self, kind: str, item: Json, key: str) -> None:
        """A fault about one object must not end the watch of all others."""
        if self._on_event is not None:
            with contained(f"{self._path}: {kind} of {key}"):
                self._on_event(kind, item)


async def follow(informer: Informer) -> None:
    """Run it until cancelled, again and again: for what one pod or one kind of object needs. What cannot be handled, an
    answer that is no object, say, is an error of this collection (`error`), and no reason to end all others."""
    while True:
        try:
            await informer.run()
        except Exception as error:
            log.exception("%s cannot be followed", informer.describe())
            await informer.recover(KubeApiError(NO_ANSWER, "Unreadable", f"{type(error).__name__}: {error}"))


class Stub(msgspec.Struct, frozen=True, gc=False):
    """What is left of an object that is not kept. A Struct, because a cluster has tens of thousands."""

    uid: str | None
    name: str
    namespace: str | None
    version: str | None

    @classmethod
    def of(cls, item: Json) -> Stub:
        metadata = item["metadata"]
        namespace = metadata.get("namespace")
        shared = share_text(namespace) if namespace is not None else None
        return cls(metadata.get("uid"), metadata["name"], shared, metadata.get("resourceVersion"))

    def to_object(self) -> Json:
        fields = {"uid": self.uid, "name": self.name, "namespace": self.namespace, "resourceVersion": self.version}
        return {"metadata": {name: value for name, value in fields.items() if value is not None}}


def _version(known: Any) -> str | None:
    return known.version if isinstance(known, Stub) else known["metadata"].get("resourceVersion")
