"""Which pod a service account token is bound to, as the API server says."""

from __future__ import annotations

import asyncio

from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD_UID = "authentication.kubernetes.io/pod-uid"
"""In the extra of a user who is a bound token (pkg/serviceaccount: PodUIDKey)."""
_LIMIT_S = 5.0
_AT_ONCE = 8
"""Half of the connections that reviews have (foundation.REVIEW_CONNECTIONS): the tokens that pods show must not keep
clients of the kubelet API waiting."""


class TokenReviewer:
    """podidentity.answerer.Reviewer."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def find_pod(self, token: str, audience: str) -> str:
        """The pod's UID; "" when the token is not valid, has another audience or is bound to no pod. The API server
        knows whether the pod is still there. Raises KubeApiError."""
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        async with self._turns:
            review = await self._client.create(_PATH, body, timeout_s=_LIMIT_S)
        status = review.get("status") or {}
        if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
            return ""
        extra = (status.get("user") or {}).get("extra") or {}
        return str(next(iter(extra.get(_POD_UID) or ()), ""))
