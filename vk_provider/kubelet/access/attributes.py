"""Authorization attributes of a request to the kubelet API: verb and `nodes` subresources (kubelet server/auth.go).

Pure.
"""

from __future__ import annotations

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# Checked before the general ones: the narrower permissions of KubeletFineGrainedAuthz.
_FINE_GRAINED = (("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods"))
_GENERAL = (
    ("/stats", "stats"),
    ("/metrics", "metrics"),
    ("/logs", "log"),
    ("/checkpoint", "checkpoint"),
    ("/statusz", "statusz"),
    ("/flagz", "configz"),
)


def find_verb(method: str) -> str:
    """API verb of an HTTP method; "" when it has none."""
    return _VERBS.get(method, "")


def find_subresources(path: str) -> list[str]:
    """Subresources of `nodes` in the order in which they are checked: permission for any one of them is enough."""
    found = [subresource for root, subresource in _FINE_GRAINED if _is_subpath(path, root)][:1]
    general = next((subresource for root, subresource in _GENERAL if _is_subpath(path, root)), "proxy")
    return [*found, general]


def _is_subpath(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")
