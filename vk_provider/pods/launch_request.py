"""The request that makes a pod's instance, and its client token.

The token is derived from the whole request: equal requests have the same token, any difference (offering, labels,
generation of the boot secret, registries) makes another one. So a request that is repeated after a crash returns its
instance, and a changed request is never refused for a reused token; if the first request has launched an instance that
the cloud did not list yet, the orphan sweep terminates it as surplus.
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
    record: PodRecord,
    owner: str,
    offering: Offering,
    disk_bytes: int,
    boot_data: BootData,
    shared_host_paths: tuple[str, ...] = (),
    image_store: str = "",
) -> LaunchRequest:
    """The request for the current state of the pod. shared_host_paths: of its Node. The token does not depend on
    image_store: what a pod may start from changes with what others have pulled."""
    launch_id, user_data = boot_data("")  # part of the token's digest; the token itself is not known yet
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
    draft = LaunchRequest("", offering, tags, user_data, disk_bytes, shared_host_paths, image_store)
    token = f"{record.uid}-{record.attempt}-{digest_parameters(draft)[:_DIGEST_DIGITS]}"
    launch_id, user_data = boot_data(token)
    return replace(draft, client_token=token, tags={**tags, TAG_LAUNCH: launch_id}, user_data=user_data)
