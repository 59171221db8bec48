"""Dispatches messages from the provider."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from vk_provider.agent.metadata_guard import ALLOW_METADATA_ANNOTATION, MetadataGuard
from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import is_host_network
from vk_provider.wire.blobs import SourcesMessage
from vk_provider.wire.identity import CredentialsMessage
from vk_provider.wire.session import PodMessage, ReferencesMessage, ServicesMessage, StopMessage
from vk_provider.wire.tables import TableMessage

log = logging.getLogger(__name__)


class PodReceiver(Protocol):
    """The pod worker."""

    @property
    def pod(self) -> Json | None: ...

    def update(self, message: PodMessage | ReferencesMessage | ServicesMessage | StopMessage) -> None: ...


class TableReceiver(Protocol):
    """The keeper of the tables."""

    def receive(self, message: TableMessage) -> None: ...

    def set_host_network(self, is_used: bool) -> None: ...


class NoticeTeller(Protocol):
    """The session's outbox."""

    def tell_notices(self, pod_uid: str) -> None: ...


class SourcesReceiver(Protocol):
    """The book of blobs."""

    def receive(self, message: SourcesMessage) -> None: ...


class RoleReceiver(Protocol):
    """What answers containers that ask for their role."""

    def take_pod(self, pod: Json, is_on: bool) -> None: ...

    def receive(self, message: CredentialsMessage) -> None: ...


class Inbox:
    """Takes the messages of any session. An instance runs one pod: another one is refused. `on_new_pod` is called with
    its UID when it comes."""

    def __init__(
        self,
        worker: PodReceiver,
        guard: MetadataGuard,
        tables: TableReceiver,
        notices: NoticeTeller,
        blobs: SourcesReceiver | None = None,
        roles: RoleReceiver | None = None,
    ) -> None:
        self._blobs, self._roles = blobs, roles
        self._worker = worker
        self._notices = notices
        self._tables = tables
        self._guard = guard
        self.on_new_pod: Callable[[str], None] = lambda uid: None

    def pod_uid(self) -> str:
        """UID of the instance's pod, "" while it has none."""
        return _uid(self._worker.pod or {})

    def receive(self, message: Json) -> None:
        """Never blocks; unknown types are logged and ignored, a newer provider may send them."""
        kind = message["type"]
        if kind == "pod":
            self._receive_pod(cast(PodMessage, message))
        elif kind == "references":
            self._worker.update(cast(ReferencesMessage, message))
        elif kind == "services":
            self._worker.update(cast(ServicesMessage, message))
        elif kind == "stop":
            self._worker.update(cast(StopMessage, message))
        elif kind == "table":
            self._receive_table(message)
        elif kind == "sources" and self._blobs is not None:
            self._blobs.receive(cast(SourcesMessage, message))
        elif kind == "credentials" and self._roles is not None:
            self._roles.receive(cast(CredentialsMessage, message))
        else:
            log.warning("message of unknown type %s ignored", kind)

    def _receive_pod(self, message: PodMessage) -> None:
        uid, current = _uid(message["pod"]), self.pod_uid()
        if current and uid != current:
            log.error("pod %s refused: this instance belongs to pod %s", uid, current)
            return
        annotations = message["pod"]["metadata"].get("annotations") or {}
        self._guard.set_allowed(annotations.get(ALLOW_METADATA_ANNOTATION) == "true")
        self._tables.set_host_network(is_host_network(message["pod"]))
        if message["node"].get("tellNotices"):
            self._notices.tell_notices(uid)
        if self._roles is not None:
            self._roles.take_pod(message["pod"], message["node"].get("podIdentity") is True)
        self._worker.update(message)
        if not current:
            self.on_new_pod(uid)

    def _receive_table(self, message: Json) -> None:
        try:
            self._tables.receive(msgspec.convert(message, TableMessage))
        except msgspec.ValidationError as error:  # a table that a newer provider has, say
            log.warning("table %s ignored: %s", message.get("name"), error)


def _uid(pod: Json) -> str:
    return (pod.get("metadata") or {}).get("uid") or ""
