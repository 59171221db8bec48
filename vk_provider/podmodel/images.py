"""Images of containers: default tag, default pull policy, and the registry credentials that fit.

Source: the kubelet's image manager and credential provider keyring; "Pull an Image from a Private Registry".
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import parse_image

_DOCKER_CONFIG_KEYS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_DEFAULT_REGISTRY = "index.docker.io"


@dataclass(frozen=True)
class RegistryCredential:
    """What CRI's AuthConfig takes, and `server`, the entry's key; secrets never show in repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    server: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


def normalize_image(image: str) -> str:
    """Return the reference with `:latest` added when it has neither tag nor digest; never adds a domain.

    Raises InvalidImageName: its text follows `Failed to apply default image tag "I": ` in the event.
    """
    reference = parse_image(image)
    return image if reference.tag or reference.digest else f"{image}:latest"


def default_pull_policy(container: Json) -> str:
    """Return imagePullPolicy, or the API's default: Always for :latest, else IfNotPresent."""
    policy = container.get("imagePullPolicy")
    if policy:
        return str(policy)
    try:
        reference = parse_image(container.get("image") or "")
    except InvalidImageName:
        return "IfNotPresent"
    latest = reference.tag == "latest" or not (reference.tag or reference.digest)
    return "Always" if latest else "IfNotPresent"


def parse_pull_secret(secret: Json) -> Json | None:
    """Return the docker config document ({"auths": {...}} or {host: {...}}) in a Secret's data, or None.

    secret: {"data": {".dockerconfigjson": base64} | {".dockercfg": base64}}
    """
    for key in _DOCKER_CONFIG_KEYS.values():
        encoded = (secret.get("data") or {}).get(key)
        if encoded is None:
            continue
        try:
            document = json.loads(base64.b64decode(encoded))
        except (ValueError, binascii.Error, RecursionError):
            return None
        return document if isinstance(document, dict) else None
    return None


def match_credentials(image: str, docker_configs: Iterable[Json]) -> list[RegistryCredential]:
    """Return the credentials for an image, the longest matching entry first; [] pulls anonymously.

    Entries match by host (with `*` in host labels), port, and path prefix; Docker Hub falls back to its legacy name.
    """
    entries: dict[str, list[RegistryCredential]] = {}
    for config in docker_configs:
        auths = config.get("auths", config) if isinstance(config, dict) else {}
        for server, entry in (auths or {}).items():
            if isinstance(entry, dict):
                entries.setdefault(_index_key(server), []).append(_credential(server, entry))
    reference = parse_image(image)
    found = [
        credential
        for key in sorted(entries, reverse=True)
        if _matches(key, reference.repository)
        for credential in entries[key]
    ]
    if not found and reference.domain == "docker.io":
        return entries.get(_DEFAULT_REGISTRY, [])
    return found


def _index_key(server: str) -> str:
    parsed = urlsplit(server if server.startswith(("https://", "http://")) else f"https://{server}")
    path = parsed.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parsed.netloc + (path if path not in ("", "/") else "")


def _matches(key: str, repository: str) -> bool:
    pattern, target = urlsplit(f"https://{key}"), urlsplit(f"https://{repository}")
    pattern_host, _, pattern_port = pattern.netloc.partition(":")
    target_host, _, target_port = target.netloc.partition(":")
    pattern_labels, target_labels = pattern_host.split("."), target_host.split(".")
    return (
        pattern_port == target_port
        and len(pattern_labels) == len(target_labels)
        and target.path.startswith(pattern.path)
        and all(fnmatch.fnmatchcase(label, glob) for glob, label in zip(pattern_labels, target_labels, strict=True))
    )


def _credential(server: str, entry: Json) -> RegistryCredential:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            # Encoders differ in padding; docker's own accepts both.
            text = base64.b64decode(entry["auth"].rstrip("=") + "==").decode("utf-8", "replace")
        except (ValueError, binascii.Error):
            text = ""
        if ":" in text:
            username, _, password = text.partition(":")
    return RegistryCredential(
        username=username,
        password=password.strip("\x00"),
        server=server,
        identity_token=entry.get("identitytoken") or "",
        registry_token=entry.get("registrytoken") or "",
    )
