"""What the sweep of instances asks about pods: the API server itself, not a cache."""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.errors import KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import pod_path
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.record import PodRecord


class ApiWitness:
    """instances.sweep.PodWitness over the controller's records and the API server."""

    def __init__(self, records: Mapping[str, PodRecord], client: KubeClient) -> None:
        self._records = records
        self._client = client

    def claims(self) -> set[str]:
        return {record.owned.instance_id for record in self._records.values() if record.owned is not None}

    async def needs(self, uid: str, namespace: str, name: str, instance_id: str) -> bool:
        record = self._records.get(uid)
        if record is not None:
            # Surplus: the pod has another instance, or is terminal and needs none. A pod without an instance may be
            # waiting for this one's launch.
            if record.owned is None:
                return record.phase not in TERMINAL_PHASES
            return record.owned.instance_id == instance_id
        if not (namespace and name):
            return False
        try:
            pod = await self._client.get(pod_path(namespace, name))
        except KubeApiError as error:
            if error.is_not_found:
                return False
            raise
        if pod["metadata"]["uid"] != uid:
            return False
        return (pod.get("status") or {}).get("phase") not in TERMINAL_PHASES
