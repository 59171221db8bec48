"""Proves that the provider has given a pod to an instance, without a memory of it.

Nothing of a launch says which pod an instance was given in the end: one call brings many, and a pool's are launched for
no namespace. With the pod its agent is sent a grant, which it keeps and repeats in its greetings: whoever controls an
instance cannot claim another pod after a restart of the provider.

    grant = "<generation>/" HMAC-SHA256(master secret, "vk-provider grant\n" + instance ID + "\n" + pod UID)
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from vk_provider.agentclient.bootsecret import compute_hmac, find_generation


class Grants:
    """masters: the provider's master secrets (hex) as they are now, the newest last. A grant is good as long as its
    master is kept; by then the instance's tags say whose it is."""

    def __init__(self, masters: Callable[[], Sequence[str]]) -> None:
        self._masters = masters

    def sign(self, instance_id: str, pod_uid: str) -> str:
        return _sign(self._masters()[-1], instance_id, pod_uid)

    def is_genuine(self, grant: str, instance_id: str, pod_uid: str) -> bool:
        """Whether this provider, or an earlier process of it, has given the pod to the instance."""
        given = grant.encode()
        return any(hmac.compare_digest(_sign(each, instance_id, pod_uid).encode(), given) for each in self._masters())


def _sign(master: str, instance_id: str, pod_uid: str) -> str:
    signed = compute_hmac(master, f"vk-provider grant\n{instance_id}\n{pod_uid}")
    return f"{find_generation(master)}/{signed}"
