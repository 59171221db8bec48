"""Launches of single instances, for tests that look at something else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from vk_provider.cloud.base import Cloud, Instance, LaunchRequest
from vk_provider.cloud.tags import build_group_tags, build_pod_tags
from vk_provider.errors import CloudError


async def launch_one(cloud: Cloud, request: LaunchRequest) -> Instance | CloudError:
    """The instance of a request for one, or why there is none."""
    try:
        answer = await cloud.launch(request)
    except CloudError as error:
        return error
    return answer.instances[0] if answer.instances else answer.failures[-1].error


async def launch_each(cloud: Cloud, requests: Iterable[LaunchRequest]) -> list[Instance | CloudError]:
    """One call for each request, at the same time; results in order."""
    return list(await asyncio.gather(*(launch_one(cloud, request) for request in requests)))


def tags_of_pod(owner: str, node: str, uid: str, name: str, namespace: str = "default") -> dict[str, str]:
    """The tags of an instance that was launched for one pod."""
    return {
        **build_group_tags(owner=owner, node=node, namespace=namespace, group=""),
        **build_pod_tags(pod_uid=uid, pod_namespace=namespace, pod_name=name, attempt=0),
    }
