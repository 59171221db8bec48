"""Extended resources: countable things that a device plugin or an administrator puts on a Node.

Source: pkg/apis/core/v1/helper (IsExtendedResourceName), the task page "Advertise Extended Resources for a Node".
"""

from __future__ import annotations

_NATIVE = "kubernetes.io/"
_QUOTA_PREFIX = "requests."
HUGE_PAGES_PREFIX = "hugepages-"


def is_extended_resource(name: str) -> bool:
    """Whether the name is outside of the kubernetes.io domain: counted on a Node, and nothing else is known of it."""
    return "/" in name and _NATIVE not in name and not name.startswith(_QUOTA_PREFIX)
