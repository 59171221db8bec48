"""Publishes a pod's status: one PATCH at a time, from the published to the desired status.

`record.publication.held` is taken from the newest answer or watch event of the API server, never from the PATCH that
was sent: another writer may have changed the status, and its event may arrive before the answer to our PATCH.
"""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from vk_provider import eventreasons
from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.metrics import PodMetrics
from vk_provider.pods.provider_status import instance_condition
from vk_provider.pods.record import OnEvent, PodRecord
from vk_provider.pods.state import desired_status, is_unaccepted
from vk_provider.pods.status_patch import (
    as_sent,
    build_status_patch,
    find_altered,
    is_same_status,
    keep_transition_times,
    owned_status,
)
from vk_provider.rfc3339 import format_time

log = logging.getLogger(__name__)

_OUTAGE = (
    NO_ANSWER,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Answers that are no refusal of the status: the API server is away, overloaded, or rejects our credentials."""
_MINIMAL_FIELDS = ("phase", "reason", "message")


class StatusPublisher:
    """`publish` returns when the API server has accepted or refused the newest status, or raises KubeApiError."""

    def __init__(self, client: KubeClient, metrics: PodMetrics, event: OnEvent) -> None:
        self._client = client
        self._metrics = metrics
        self._event = event

    async def publish(self, record: PodRecord) -> None:
        """One PATCH with the desired status; a newer one is published by the next call."""
        desired = desired_status(record)
        if desired is None:
            return
        status = _complete(record, desired)
        try:
            await self._patch(record, status)
        except KubeApiError as error:
            if error.is_not_found or error.is_other_uid:
                record.publication.held = status  # the pod is gone, or another one has its name
                return
            if error.is_invalid:
                await self._fall_back(record, desired, error)
                return
            self._note_unaccepted(record, error)
            raise
        record.publication.refused = None
        if record.publication.restoring:
            record.publication.restoring, record.publication.restored_at = False, time.monotonic()
        record.publication.unaccepted_since, record.publication.unaccepted_reported = 0.0, False
        if status.get("phase") == "Running" and not record.publication.reached_running:
            record.publication.reached_running = True
            self._metrics.running_seconds.observe(time.monotonic() - record.bound_at)

    async def _patch(self, record: PodRecord, status: Json) -> None:
        patch = build_status_patch(record.uid, record.publication.held, status)
        if not patch["status"]:
            record.publication.held = status
            return
        try:
            answer = await self._client.patch_strategic(pod_path(record.namespace, record.name, "status"), patch)
        except KubeApiError as error:
            self._metrics.status_patches.labels(str(error.status)).inc()
            raise
        self._metrics.status_patches.labels("ok").inc()
        held = owned_status(answer.get("status") or {})
        named = {(name, "") for name in patch["status"]}
        named |= {("conditions", item["type"]) for item in patch["status"].get("conditions") or []}
        kept = {key: value for key, value in record.publication.altered.items() if key not in named}
        record.publication.altered = kept | find_altered(patch["status"], status, held)
        note_held(record, answer, status)

    async def _fall_back(self, record: PodRecord, desired: Json, error: KubeApiError) -> None:
        """Publish only a terminal phase with its reason, since the API server can never accept the whole status."""
        log.error("pod %s: the API server refuses the status: %s", record.key, error)
        self._event(record, "Warning", eventreasons.FAILED_STATUS, f"the API server refuses the pod's status: {error}")
        if desired.get("phase") in TERMINAL_PHASES and record.api_phase not in TERMINAL_PHASES:
            minimal = {name: desired[name] for name in _MINIMAL_FIELDS if desired.get(name)}
            try:
                await self._patch(record, {**(record.publication.held or {}), **minimal})
            except KubeApiError as again:
                if not (again.is_invalid or again.is_not_found):
                    self._note_unaccepted(record, again)
                    raise
                log.error("pod %s: its phase %s is refused, too: %s", record.key, desired["phase"], again)
        # The next status is compared with what the API server holds, not with what it refused.
        record.publication.refused = desired

    def _note_unaccepted(self, record: PodRecord, error: KubeApiError) -> None:
        now = time.monotonic()
        if error.status in _OUTAGE:
            record.publication.unaccepted_since = 0.0
            return
        record.publication.unaccepted_since = record.publication.unaccepted_since or now
        if is_unaccepted(record, now) and not record.publication.unaccepted_reported:
            record.publication.unaccepted_reported = True
            text = (
                f"the pod's status has not been accepted for {now - record.publication.unaccepted_since:.0f} s: {error}"
            )
            log.error("pod %s: %s", record.key, text)
            self._event(record, "Warning", eventreasons.FAILED_STATUS, text)


def note_held(record: PodRecord, pod: Json, sent: Json | None = None) -> None:
    """Record what the API server holds, from an answer or a watch event; older versions are ignored.

    sent: the status of the PATCH that this answers
    """
    version = resource_version(pod)
    if version < record.publication.version:
        return
    record.publication.version = version
    held = as_sent(owned_status(pod.get("status") or {}), record.publication.altered)
    # A status that says the same stays the same object: it is judged once (state.is_current), and each pod's is kept
    # once, as what was sent shares its parts with the agent's status.
    known = record.publication.held if sent is None else sent
    record.publication.held = known if known is not None and is_same_status(held, known) else held


def resource_version(pod: Json) -> int:
    """resourceVersion as a number, which is ordered within a resource (KEP-5504); 0 when it is no number."""
    text = str(pod["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def _complete(record: PodRecord, desired: Json) -> Json:
    status = dict(keep_transition_times(desired, record.publication.held, format_time()))
    if record.assignment.message:
        generation = int(record.pod["metadata"].get("generation") or 0)
        condition = instance_condition(record.assignment.message, generation, record.start_time)
        status["conditions"] = [*status.get("conditions", []), condition]
    return status
