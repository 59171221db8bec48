"""Bound service account tokens by TokenRequest, and when they are due for renewal (kubelet pkg/kubelet/token)."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from http import HTTPStatus

from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import token_request_path
from vk_provider.wire.session import TokenReference

MAX_AGE_S = 24 * 3600
MAX_JITTER_S = 10.0
_ATTEMPTS = 6
_CALL_TIMEOUT_S = 10.0
_FIRST_RETRY_S = 0.1
_RETRIED = (
    NO_ANSWER,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


@dataclass(frozen=True, slots=True)
class BoundToken:
    """A token with the Unix times of its renewal and its expiry."""

    reference: TokenReference
    refresh_at: float
    expires_at: float


def compute_refresh_at(issued_at: float, expires_at: float, jitter_s: float) -> float:
    """Renew after 80 % of the token's life or after 24 hours, whichever comes first, minus the jitter."""
    lifetime_s = max(0.0, expires_at - issued_at)
    return issued_at + max(0.0, min(0.8 * lifetime_s, MAX_AGE_S) - jitter_s)


async def request_token(client: KubeClient, pod: Json, audience: str, expiration_s: int) -> BoundToken:
    """Request a token bound to the pod; `audience` "" is the API server's own.

    Retried after a 403, as the node authorizer lags behind the bind, and after a lost request, as a second token does
    no harm. Raises KubeApiError.
    """
    metadata = pod["metadata"]
    account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
    body: Json = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [audience] if audience else [],
            "expirationSeconds": expiration_s,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }
    path = token_request_path(metadata["namespace"], account)
    for attempt in range(_ATTEMPTS):
        try:
            answer = await client.create(path, body, timeout_s=_CALL_TIMEOUT_S)
            break
        except KubeApiError as error:
            if attempt == _ATTEMPTS - 1 or error.status not in _RETRIED:
                raise
        await asyncio.sleep(_FIRST_RETRY_S * 2**attempt)
    status = answer["status"]
    seconds = int((answer.get("spec") or {}).get("expirationSeconds") or expiration_s)
    # By our own clock and the granted lifetime, since the API server's clock may differ.
    issued_at = time.time()
    jitter_s = random.uniform(0, min(MAX_JITTER_S, 0.05 * seconds))
    return BoundToken(
        TokenReference(token=status["token"], expirationTimestamp=status["expirationTimestamp"]),
        compute_refresh_at(issued_at, issued_at + seconds, jitter_s),
        issued_at + seconds,
    )
