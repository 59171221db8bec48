"""The request that makes a pod's instance, and its client token.

The token stands for the whole request: whatever differs (offering, labels, generation of the boot secret, registries)
is another launch with another token, and what is equal has the same one. So a request that is repeated after a crash
finds its instance, and a changed one is never refused as a token used twice; should the first launch have made an
instance that the cloud did not list yet, it is the surplus that the orphan sweep takes away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vk_provider.cloud.base import TAG_LAUNCH, LaunchRequest, Offering
from vk_provider.cloud.parameters import digest_parameters
from vk_provider.cloud.tags import build_tags
from vk_provider.pods.record import PodRecord

BootData = Callable[[str], tuple[str, str]]
"""client token -> (launch ID for TAG_LAUNCH, user data with the boot secret of that launch)."""
_DIGEST_DIGITS = 20


def build_request(
    record: PodRecord, owner: str, offering: Offering, disk_bytes: int, boot_data: BootData
) -> LaunchRequest:
    """The request for the pod as it is now."""
    launch_id, user_data = boot_data("")  # for the token: they change with all that is told but the token itself
    tags = build_tags(
        owner=owner,
        node=record.node,
        pod_uid=record.uid,
        pod_namespace=record.namespace,
        pod_name=record.name,
        attempt=record.attempt,
        launch=launch_id,
        extra=record.pod["metadata"].get("labels") or {},
    )
    draft = LaunchRequest("", offering, tags, user_data, disk_bytes)
    token = f"{record.uid}-{record.attempt}-{digest_parameters(draft)[:_DIGEST_DIGITS]}"
    launch_id, user_data = boot_data(token)
    return replace(draft, client_token=token, tags={**tags, TAG_LAUNCH: launch_id}, user_data=user_data)
