"""Views on the controller's records for the kubelet API, from memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vk_provider.aiokit.guard import contained
from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json
from vk_provider.pods.archive import LogArchive
from vk_provider.pods.controller import PodController
from vk_provider.pods.record import PodRecord


class ArchivedLogs:
    """Logs of one pod in the archive."""

    def __init__(self, archive: LogArchive, uid: str) -> None:
        self._archive = archive
        self._uid = uid

    def read(self, container: str, previous: bool) -> str | None:
        path = self._archive.path(self._uid, container, previous)
        return str(path) if path is not None else None


class RecordHandle:
    """kubelet.provider.PodHandle of one record."""

    def __init__(self, record: PodRecord, archive: LogArchive) -> None:
        self._record = record
        self._archive = archive

    @property
    def pod(self) -> Json:
        return self._record.pod

    @property
    def status(self) -> Json:
        return self._record.report.status or self._record.pod.get("status") or {}

    @property
    def instance(self) -> Instance | None:
        """Only an instance whose agent was given the pod."""
        record = self._record
        if (
            not record.has_instance
            or record.leaving.archived
            or not (record.report.from_agent or record.session is not None)
        ):
            return None
        return record.instance

    @property
    def archive(self) -> ArchivedLogs | None:
        return None if self.instance is not None else ArchivedLogs(self._archive, self._record.uid)

    @property
    def stats(self) -> Any:
        return self._record.report.stats


class ControllerPods:
    """kubelet.provider.PodSource over the controller."""

    def __init__(self, controller: PodController, archive: LogArchive) -> None:
        self._controller = controller
        self._archive = archive

    def pods(self, node: str) -> Iterable[Json]:
        for record in list(self._controller.records.values()):
            if record.node == node and record.exists:
                shown = record.pod
                with contained(f"the status of pod {record.uid}"):
                    if record.report.status is not None:
                        shown = {**record.pod, "status": {**(record.pod.get("status") or {}), **record.report.status}}
                yield shown

    def find(self, namespace: str, name: str, uid: str | None) -> RecordHandle | None:
        record = self._controller.find(namespace, name)
        if record is None or not record.exists or (uid and record.uid != uid):
            return None
        return RecordHandle(record, self._archive)
