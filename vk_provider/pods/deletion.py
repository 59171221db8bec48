"""The final DELETE of a pod that has ended."""

from __future__ import annotations

import logging
import time

from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.pods.record import PodRecord

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0
"""One that was not accepted is sent again after so long at most: the interval of a kubelet's syncBatch."""


class FinalDelete:
    """Sends it until it is accepted, and then no more, as a kubelet's status manager (syncPod and deletePodStatus,
    pkg/kubelet/status/status_manager.go, v1.37): an object that a finalizer still holds has a grace period of 0 since,
    and the API server removes it with its last finalizer."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def send(self, record: PodRecord) -> None:
        """One try. One that is not accepted is due again later (Deletion.due_at)."""
        deletion = record.leaving.deletion
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": record.uid}}
        try:
            await self._client.delete(pod_path(record.namespace, record.name), body)
        except KubeApiError as error:
            if not (error.is_not_found or error.is_other_uid):
                deletion.backoff = deletion.backoff or Backoff(RETRY_FIRST_S, RETRY_MAX_S)
                delay_s = min(RETRY_MAX_S, deletion.backoff.next_delay_s())
                deletion.due_at = time.monotonic() + delay_s
                log.warning("pod %s is not deleted yet, again in %.1f s: %s", record.key, delay_s, error)
                return
        deletion.accepted = True
