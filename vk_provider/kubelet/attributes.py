"""What a request to the kubelet API asks leave for: verb and `nodes` subresources (kubelet server/auth.go). Pure."""

from __future__ import annotations

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# Tried before the general ones: narrower permissions that exist since KubeletFineGrainedAuthz.
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
    """API verb of an HTTP method; "" for methods without one."""
    return _VERBS.get(method, "")


def find_subresources(path: str) -> list[str]:
    """Candidate subresources, in order: leave for any one of them is enough."""
    found = [subresource for root, subresource in _FINE_GRAINED if _is_subpath(path, root)][:1]
    general = next((subresource for root, subresource in _GENERAL if _is_subpath(path, root)), "proxy")
    return [*found, general]


def _is_subpath(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")
