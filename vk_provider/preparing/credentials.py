"""Which credentials a pod has for an image, within limits: whoever may create a Secret writes what is read here."""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.images import RegistryCredential, match_credentials, parse_pull_secret

PullSecrets = Mapping[str, Json | None]
"""The pod's imagePullSecrets by name; None for one that does not exist."""

MAX_SECRET_CHARACTERS = 128 << 10
"""Of all pull secrets of a pod, in base64. Those beyond count for nothing here, and the pod's agent uses them still."""
MAX_CREDENTIALS = 8
"""Of one image: each is a request to its registry."""


def find_credentials(reference: str, pull_secrets: PullSecrets) -> list[RegistryCredential]:
    """Those of a canonical reference, the best first; none for a name that is none."""
    configs, left = [], MAX_SECRET_CHARACTERS
    for secret in pull_secrets.values():
        left -= _count(secret)
        if secret is not None and left >= 0 and (config := parse_pull_secret(secret)):
            configs.append(config)
    try:
        return match_credentials(reference, configs)[:MAX_CREDENTIALS]
    except InvalidImageName:
        return []


def _count(secret: Json | None) -> int:
    data = (secret or {}).get("data") or {}
    return sum(len(value) for value in data.values() if isinstance(value, str))
