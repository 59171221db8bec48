"""Records of instances, made up."""

from __future__ import annotations

from vk_provider.cloud.local.store import InstanceRecord

IPV6_SUBNET = "fd00:9::/64"


def record(instance_id: str = "i-1", primary: str = "10.9.0.16", pod: str = "10.9.0.17") -> InstanceRecord:
    return InstanceRecord(
        instance_id, "t", "l1.small", "a", "spot", "amd64", 1000, 2**30, primary, pod, 1.0, {"k": "v"}
    )
