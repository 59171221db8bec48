"""Single objects watched by name, shared by all pods that refer to them.

A node may read only the Secrets and ConfigMaps that its pods name, so each is listed and watched by
`fieldSelector metadata.name=X`. A watch is a connection: beyond `max_watches` further objects are listed once a
minute instead, and immutable objects are not followed at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, ReflectorOptions, StoreOptions, drop_managed_fields, follow
from vk_provider.kube.paths import field_selector

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name)."""

_POLL_S = 60.0
_LINGER_S = 60.0
_FRESH_S = 1.0
_FIRST_RETRY_S = 0.05
_PATIENCE_S = 4.0
_LIMIT_S = 60.0


@dataclass(slots=True)
class _Entry:
    """polled: listed at intervals; task None: immutable and read; before: the object before the last new reading."""

    informer: Informer
    polled: bool
    holders: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    served: bool = False
    expiry: asyncio.TimerHandle | None = None
    before: Json | None = None

    @property
    def item(self) -> Json | None:
        return next(iter(self.informer.items.values()), None)


class SharedObjects:
    """Objects of one resource by (namespace, name), kept while they have holders and a minute more.

    collection: namespace -> path of the collection
    on_change:  called with the holders of an object that changed after it was first served
    """

    def __init__(
        self,
        client: KubeClient,
        collection: Callable[[str], str],
        on_change: Callable[[set[str]], None],
        *,
        gate: asyncio.Semaphore | None = None,
        max_watches: int = 200,
        trim: Callable[[Json], Json] = drop_managed_fields,
    ) -> None:
        self._client, self._collection = client, collection
        self._on_change = on_change
        self._gate, self._max_watches, self._trim = gate, max_watches, trim
        self._entries: dict[Key, _Entry] = {}
        self._held: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def hold(self, holder: str, keys: set[Key]) -> None:
        """Make `keys` exactly the objects that `holder` holds; new ones are read at once in the background."""
        before = self._held.get(holder, set())
        for key in keys - before:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._open(key)
            elif entry.task is None or entry.polled:
                self._read_anew(key, entry)
            entry.holders.add(holder)
            if entry.expiry is not None:
                entry.expiry.cancel()
                entry.expiry = None
        for key in before - keys:
            self._let_go(key, holder)
        if keys:
            self._held[holder] = set(keys)
        else:
            self._held.pop(holder, None)

    async def fetch(self, key: Key) -> Json | None:
        """The object now, None when it does not exist. It must be held.

        Raises KubeApiError when it still cannot be read after a few seconds: right after a bind the node authorizer
        answers 403 for some milliseconds. on_change is called when it can be read later.
        """
        entry = self._entries.get(key)
        if entry is None:
            raise KubeApiError(NO_ANSWER, "Closed", f"{self._collection(key[0])} {key[1]} is not held")
        synced = entry.informer.synced
        for timeout_s in (_PATIENCE_S, _LIMIT_S):
            try:
                await asyncio.wait_for(synced.wait(), timeout_s)
                break
            except TimeoutError:
                if entry.informer.error is not None:
                    break
        entry.served = True
        if not synced.is_set():
            if entry.before is not None:
                return entry.before
            raise entry.informer.error or KubeApiError(
                NO_ANSWER, "Timeout", f"{self._collection(key[0])} {key[1]} not read"
            )
        entry.before = None
        return entry.item

    def is_read(self, key: Key) -> bool:
        """Whether `fetch` would answer without waiting."""
        entry = self._entries.get(key)
        return entry is not None and entry.informer.synced.is_set()

    def peek(self, key: Key) -> Json | None:
        """What `fetch` would return, when `is_read`."""
        entry = self._entries[key]
        entry.served = True
        return entry.item

    def close(self) -> None:
        for key in list(self._entries):
            self._close(key)
        self._held.clear()

    def _open(self, key: Key) -> _Entry:
        watches = sum(1 for entry in self._entries.values() if entry.task is not None and not entry.polled)
        polled = watches >= self._max_watches
        entry = self._entries[key] = _Entry(self._build_informer(key, polled), polled)
        self._start(key, entry)
        return entry

    def _build_informer(self, key: Key, polled: bool) -> Informer:
        return Informer(
            self._client,
            self._collection(key[0]),
            field_selector(metadata__name=key[1]),
            lambda kind, item: self._changed(key, kind, item),
            store=StoreOptions(trim=self._trim),
            reflector=ReflectorOptions(
                gate=self._gate,
                poll_s=_POLL_S if polled else None,
                backoff=Backoff(first_s=_FIRST_RETRY_S, max_s=15.0, jitter=0.3),
            ),
        )

    def _start(self, key: Key, entry: _Entry) -> None:
        entry.task = asyncio.create_task(follow(entry.informer), name=f"watch {self._collection(key[0])} {key[1]}")

    def _read_anew(self, key: Key, entry: _Entry) -> None:
        """Read again for a new pod, as a kubelet does: what was polled may be a minute old, and an immutable object
        may have been replaced. Pods that start together share one reading."""
        informer = entry.informer
        if not informer.synced.is_set() or time.monotonic() - informer.last_contact < _FRESH_S:
            return
        entry.before = entry.item
        entry.informer = self._build_informer(key, entry.polled)
        if entry.task is not None:
            entry.task.cancel()
            entry.informer.items = informer.items
        self._start(key, entry)

    def _changed(self, key: Key, kind: str, item: Json) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        if item.get("immutable") and kind != "DELETED" and entry.task is not None:
            asyncio.get_running_loop().call_soon(self._freeze, key)
        if entry.served:
            self._on_change(set(entry.holders))

    def _freeze(self, key: Key) -> None:
        """Stop following an immutable object once it was read."""
        entry = self._entries.get(key)
        if entry is not None and entry.task is not None:
            entry.informer.synced.set()
            entry.task.cancel()
            entry.task = None

    def _let_go(self, key: Key, holder: str) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.holders.discard(holder)
        if not entry.holders and entry.expiry is None:
            # The next pod of a Job needs the same objects a moment later.
            entry.expiry = asyncio.get_running_loop().call_later(_LINGER_S, self._close, key)

    def _close(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        if entry.expiry is not None:
            entry.expiry.cancel()
        if entry.task is not None:
            entry.task.cancel()
