"""Service account tokens as the API server shapes them, with a signature that nobody has made."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

AUDIENCE = "pods.eks.amazonaws.com"


def _part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def make_token(uid: str, *, audience: Any = AUDIENCE, expires_in_s: float = 3600.0, mark: str = "x") -> str:
    """mark: makes tokens of one pod differ."""
    claims = {
        "aud": [audience] if isinstance(audience, str) else audience,
        "exp": int(time.time() + expires_in_s),
        "jti": mark,
        "kubernetes.io": {"namespace": "ns", "pod": {"name": "p", "uid": uid}, "serviceaccount": {"name": "default"}},
        "sub": "system:serviceaccount:ns:default",
    }
    return f"{_part({'alg': 'RS256', 'kid': 'k'})}.{_part(claims)}.{_part('signature')}"
