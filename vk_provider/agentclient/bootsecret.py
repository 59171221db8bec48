"""The boot secret of one launch, by which an agent proves its identity until it has a certificate.

Every launch has its own, so a server that learns one cannot impersonate another instance:

    boot secret = HMAC-SHA256(master secret, "vk-provider boot secret\n" + launch ID)
    launch ID   = "<generation>/<client token>"      the tag TAG_LAUNCH, which is not secret
    generation  = HMAC-SHA256(master secret, "vk-provider generation"), the first 16 hex digits

The masters never leave the provider. The launch call itself writes the tag, so a restarted provider reads generation
and launch of each instance from the cloud's answer and keeps no state.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

from vk_provider.cloud.base import TAG_LAUNCH
from vk_provider.errors import AgentIdentityError

_GENERATION_DIGITS = 16


def build_launch_id(master: str, client_token: str) -> str:
    """The value of TAG_LAUNCH. master: hex; client_token: unique per launch request."""
    return f"{find_generation(master)}/{client_token}"


def derive_boot_secret(master: str, launch_id: str) -> str:
    """The boot secret (hex) of one launch."""
    return compute_hmac(master, f"vk-provider boot secret\n{launch_id}")


def find_boot_secret(masters: Sequence[str], instance_id: str, tags: Mapping[str, str]) -> str:
    """The boot secret of an instance, by its tags. Raises AgentIdentityError when it has none, because an earlier
    version of the provider launched it, or when its master was rotated away: such an instance can prove its identity
    only by a certificate."""
    launch_id = tags.get(TAG_LAUNCH, "")
    if not launch_id:
        raise AgentIdentityError(f"{instance_id}: launched without a boot secret of its own, and it has no certificate")
    generation = launch_id.partition("/")[0]
    for master in masters:
        if hmac.compare_digest(find_generation(master).encode(), generation.encode()):
            return derive_boot_secret(master, launch_id)
    raise AgentIdentityError(f"{instance_id}: its boot secret was rotated away, and it has no certificate")


def verify_proof(boot_secret: str, nonce: str, instance_id: str, csr_pem: str, proof: str) -> bool:
    """Whether `proof` is the HMAC that wire.routes.IDENTITY_REQUEST defines. All texts are ASCII."""
    message = b"\n".join((nonce.encode(), instance_id.encode(), csr_pem.encode()))
    return hmac.compare_digest(hmac.new(bytes.fromhex(boot_secret), message, hashlib.sha256).hexdigest(), proof)


@lru_cache(maxsize=8)
def find_generation(master: str) -> str:
    """Says which master something was derived from, without telling it."""
    return compute_hmac(master, "vk-provider generation")[:_GENERATION_DIGITS]


def compute_hmac(master: str, message: str) -> str:
    """HMAC-SHA256 (hex) by a master (hex)."""
    return hmac.digest(bytes.fromhex(master), message.encode(), "sha256").hex()
