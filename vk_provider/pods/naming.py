"""Whether a pod's status names an instance. Pure."""

from __future__ import annotations

from vk_provider.cloud.base import TAG_POD_UID, Instance
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.rfc3339 import parse_time


def is_named(record: PodRecord, instance: Instance) -> bool:
    """Whether the pod's status names the instance: by its primary address, and by the pod's unless that is the same. An
    address may have been another instance's before, so the namespace and the Node must be those of the launch; and a
    tag must not name another pod, unless that is what the instance was launched for before the pod started on it."""
    status = record.pod.get("status") or {}
    owned = OwnedInstance(instance)
    if not instance.primary_ip or status.get("hostIP") != instance.primary_ip:
        return False
    if owned.node != record.node or not (owned.is_for_anybody or owned.namespace == record.namespace):
        return False
    tag = instance.tags.get(TAG_POD_UID, record.uid)
    if tag != record.uid and not _has_started_since(status, instance.launch_time):
        return False
    return status.get("podIP", instance.pod_ip) in (instance.pod_ip, instance.primary_ip)


def _has_started_since(status: Json, moment: float) -> bool:
    """Whether a container has. moment: Unix seconds; the API's times are whole ones."""
    for field in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(field) or []:
            for state in ((item.get("state") or {}), (item.get("lastState") or {})):
                started = (state.get("running") or state.get("terminated") or {}).get("startedAt")
                if started and parse_time(started) >= int(moment):
                    return True
    return False
