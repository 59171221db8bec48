"""The tags of an instance, which identify its provider and its pod. EC2's rules apply to every backend."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vk_provider.cloud import base
from vk_provider.errors import CloudRequestError

MAX_TAGS = 50
MAX_KEY = 128
MAX_VALUE = 256
_FORBIDDEN = re.compile(r"[^\w .:/=+\-@]")


def build_tags(
    *,
    owner: str,
    node: str,
    pod_uid: str,
    pod_namespace: str,
    pod_name: str,
    attempt: int,
    launch: str = "",
    extra: Mapping[str, str] = {},
) -> dict[str, str]:
    """All tags of a pod's instance. `extra` (the user's) cannot override ours; its values are made valid, and tags
    beyond the cloud's limit are dropped: a pod is not refused for its labels."""
    own = {
        base.TAG_OWNER: clean_tag(owner, MAX_VALUE),
        base.TAG_NODE: node,
        base.TAG_POD_UID: pod_uid,
        base.TAG_POD_NAMESPACE: pod_namespace,
        base.TAG_POD_NAME: pod_name,
        base.TAG_ATTEMPT: str(attempt),
        base.TAG_LAUNCH: launch,
        base.TAG_NAME: clean_tag(f"{pod_namespace}/{pod_name}", MAX_VALUE),
    }
    wanted = {clean_tag(key, MAX_KEY): clean_tag(value, MAX_VALUE) for key, value in sorted(extra.items())}
    others = [(key, value) for key, value in wanted.items() if key not in own and not key.lower().startswith("aws:")]
    tags = {**own, **dict(others[: MAX_TAGS - len(own)])}
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
