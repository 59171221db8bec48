"""Looks objects up in the References of the pod; the texts about missing ones are the kubelet's."""

from __future__ import annotations

import base64

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import MissingReferenceError
from vk_provider.wire.session import References


def find_config_map(references: References, name: str) -> Json:
    """Return {"data", "binaryData"} of a ConfigMap; raises MissingReferenceError."""
    return _find(references.get("configMaps") or {}, references.get("errors") or {}, "configmap", name)


def find_secret(references: References, name: str) -> Json:
    """Return {"data"} (base64 values) of a Secret; raises MissingReferenceError."""
    return _find(references.get("secrets") or {}, references.get("errors") or {}, "secret", name)


def _find(objects: dict[str, Json | None], errors: dict[str, str], kind: str, name: str) -> Json:
    found = objects.get(name)
    if found is not None:
        return found
    message = errors.get(f"{kind}/{name}")
    if message:
        raise MissingReferenceError(message)
    if name in objects:
        raise MissingReferenceError(f'{kind} "{name}" not found', not_found=True)
    raise MissingReferenceError(f"failed to sync {kind} cache: timed out waiting for the condition")


def decode_secret_value(value: str) -> bytes:
    """Return the bytes of one Secret value."""
    return base64.b64decode(value or "")
