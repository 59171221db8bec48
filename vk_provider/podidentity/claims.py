"""What a service account token says of itself. Its signature is not looked at: the API server and the cloud do that.

Source: eks-pod-identity-agent, internal/validation/request.go, for the words of refusals; KEP-1205 for the claims.
"""

from __future__ import annotations

import base64
import binascii

import msgspec


class _Pod(msgspec.Struct):
    uid: str = ""


class _Kubernetes(msgspec.Struct):
    pod: _Pod = msgspec.field(default_factory=_Pod)


class _Claims(msgspec.Struct):
    exp: float
    aud: str | list[str] = ""
    nbf: float = 0.0
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io", default_factory=_Kubernetes)


_DECODER = msgspec.json.Decoder(_Claims)


def find_fault(token: str, pod_uid: str, audience: str, now: float) -> tuple[int, str]:
    """(HTTP status, why the pod may not use the token); (0, "") when its claims allow it. now: Unix time."""
    try:
        text = token.split(".")[1]
        claims = _DECODER.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (IndexError, binascii.Error, UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return 400, "Service account token cannot be parsed"
    if now >= claims.exp or now + _SKEW_S < claims.nbf:
        return 400, "Service account token failed basic claim validations: token is expired or not valid yet"
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if audience not in audiences:
        return 400, f"Service account token failed basic claim validations: its audience is not {audience}"
    if not pod_uid or claims.kubernetes.pod.uid != pod_uid:
        return 403, "Access Denied. The service account token is another pod's"
    return 0, ""


_SKEW_S = 60.0
"""Between the API server's clock and ours."""
