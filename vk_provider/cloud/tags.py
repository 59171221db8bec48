"""The tags of an instance, which identify its provider, its group and its pod. EC2's rules apply to every backend."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vk_provider.cloud import base
from vk_provider.errors import CloudRequestError

MAX_TAGS = 50
MAX_KEY = 128
MAX_VALUE = 256
POD_TAGS = 4
"""Room that a launch for many pods leaves for the tags of the one that an instance is given to."""
_MILLI_DIGITS = 9
_OF_CLOUD = (base.TAG_DISKS, base.TAG_FAMILIES, base.TAG_STEADY_CPU)
"""What is written with the launch or for its cloud: there is room for it."""
_FORBIDDEN = re.compile(r"[^\w .:/=+\-@]")


def build_group_tags(
    *,
    owner: str,
    node: str,
    namespace: str,
    group: str,
    launch: str = "",
    labels: Mapping[str, str] = {},
    disks: str = "",
    steady_cpu_milli: int = 0,
) -> dict[str, str]:
    """What all instances of one launch call have, from their first moment on. The pods' labels stand under a prefix and
    are made valid; those beyond the cloud's limit are left out: a pod is not refused for its labels."""
    own = {
        base.TAG_OWNER: clean_tag(owner, MAX_VALUE),
        base.TAG_NODE: node,
        base.TAG_POD_NAMESPACE: namespace,
        base.TAG_GROUP: group,
        base.TAG_LAUNCH: launch,
    }
    wanted = {
        clean_tag(base.TAG_LABEL_PREFIX + key, MAX_KEY): clean_tag(value, MAX_VALUE) for key, value in labels.items()
    }
    room = MAX_TAGS - len(own) - len(_OF_CLOUD) - POD_TAGS
    tags = {**own, **dict(sorted(wanted.items())[:room])}
    if disks:
        tags[base.TAG_DISKS] = disks
    if steady_cpu_milli:
        tags[base.TAG_STEADY_CPU] = str(steady_cpu_milli)
    check_tags(tags)
    return tags


def build_pool_tags(
    *, owner: str, node: str, group: str, launch: str, pool: str, disks: str = "", image_store: str = ""
) -> dict[str, str]:
    """What an instance of a pool has from its first moment on."""
    tags = build_group_tags(owner=owner, node=node, namespace="", group=group, launch=launch, disks=disks)
    del tags[base.TAG_POD_NAMESPACE]
    tags |= {base.TAG_POOL: clean_tag(pool, MAX_VALUE), base.TAG_NAME: clean_tag(f"pool {pool}", MAX_VALUE)}
    if image_store:
        tags[base.TAG_IMAGE_STORE] = image_store
    check_tags(tags)
    return tags


def build_taken_tags(namespace: str, labels: Mapping[str, str], steady_cpu_milli: int = 0) -> dict[str, str]:
    """What an instance of a pool gets beside the tags of the pod that has taken it: what others have from their launch
    on, and the bill is made of."""
    tags = build_group_tags(owner="", node="", namespace=namespace, group="", labels=labels)
    own = {base.TAG_POD_NAMESPACE: namespace}
    if steady_cpu_milli:
        own[base.TAG_STEADY_CPU] = str(steady_cpu_milli)
    of_pool = (base.TAG_POOL, base.TAG_IMAGE_STORE, *_OF_CLOUD)
    room = MAX_TAGS - len(tags) + sum(map(_is_of_label, tags)) - POD_TAGS - len(of_pool)
    kept = sorted(key for key in tags if _is_of_label(key))[:room]
    return own | {key: tags[key] for key in kept}


def _is_of_label(key: str) -> bool:
    return key.startswith(base.TAG_LABEL_PREFIX)


def read_steady_cpu(tags: Mapping[str, str]) -> int:
    """Millicores of TAG_STEADY_CPU; 0 where the tag is missing, or is none of ours."""
    text = tags.get(base.TAG_STEADY_CPU, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MILLI_DIGITS else 0


def build_pod_tags(*, pod_uid: str, pod_namespace: str, pod_name: str, attempt: int) -> dict[str, str]:
    """Which pod an instance serves, for people and for the bill: in the launch call where that is for one pod, else
    soon after it."""
    tags = {
        base.TAG_POD_UID: pod_uid,
        base.TAG_POD_NAME: pod_name,
        base.TAG_ATTEMPT: str(attempt),
        base.TAG_NAME: clean_tag(f"{pod_namespace}/{pod_name}", MAX_VALUE),
    }
    check_tags(tags)
    return tags


def clean_tag(text: str, limit: int) -> str:
    """Replace what EC2 does not allow in tags by '_' and cut to `limit` characters."""
    return _FORBIDDEN.sub("_", text)[:limit]


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise CloudRequestError when EC2 would refuse the tags."""
    if len(tags) > MAX_TAGS:
        raise CloudRequestError(f"TagLimitExceeded: {len(tags)} tags, at most {MAX_TAGS}")
    for key, value in tags.items():
        if not key or len(key) > MAX_KEY or key.lower().startswith("aws:") or _FORBIDDEN.search(key):
            raise CloudRequestError(f"InvalidParameterValue: tag key {key!r} is not allowed")
        if len(value) > MAX_VALUE or _FORBIDDEN.search(value):
            raise CloudRequestError(f"InvalidParameterValue: value {value!r} of tag {key} is not allowed")
