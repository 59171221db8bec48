"""Images of containers: default tag, default pull policy, and the registry credentials that fit.

Source: the kubelet's image manager and credential provider keyring; "Pull an Image from a Private Registry".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.glob import matches_glob
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
    entries: dict[str, list[tuple[str, Json]]] = {}
    for config in docker_configs:
        auths = config.get("auths", config)
        for server, entry in auths.items() if isinstance(auths, dict) else ():
            if isinstance(entry, dict):
                entries.setdefault(_index_key(server), []).append((server, entry))
    reference = parse_image(image)
    target = _Place.of(reference.repository)
    chosen = sorted((key for key in entries if _Place.of(key).covers(target)), reverse=True)
    if not chosen and reference.domain == "docker.io":
        chosen = [_DEFAULT_REGISTRY]
    return [_credential(*found) for key in chosen for found in entries.get(key, ())]


def _index_key(server: str) -> str:
    """Host, port and path, as an entry is found by."""
    place = _Place.of(server.removeprefix("https://").removeprefix("http://"))
    path = place.path[3:] if place.path.startswith(("/v1/", "/v2/")) else place.path
    port = f":{place.port}" if place.port else ""
    return f"{place.host}{port}{path if path != '/' else ''}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Of an entry or an image. path: with its first slash, "" for none."""

    host: str
    port: str
    path: str

    @classmethod
    def of(cls, text: str) -> _Place:
        authority, slash, path = text.partition("/")
        host, _, port = authority.partition(":")
        return cls(host, port, slash + path)

    def covers(self, target: _Place) -> bool:
        """Whether an entry of this place, whose host may have wildcards, is for an image of that one."""
        if self.port != target.port or not target.path.startswith(self.path):
            return False
        labels, wanted = self.host.split("."), target.host.split(".")
        return len(labels) == len(wanted) and all(map(matches_glob, wanted, labels))


def _credential(server: str, entry: Json) -> RegistryCredential:
    """What is no text is left out: users write the entries."""

    def text_of(name: str) -> str:
        value = entry.get(name)
        return value if isinstance(value, str) else ""

    username, password = text_of("username"), text_of("password")
    if auth := text_of("auth"):
        try:
            # Encoders differ in padding; docker's own accepts both.
            text = base64.b64decode(auth.rstrip("=") + "==").decode("utf-8", "replace")
        except (ValueError, binascii.Error):
            text = ""
        if ":" in text:
            username, _, password = text.partition(":")
    return RegistryCredential(
        username=username,
        password=password.strip("\x00"),
        server=server,
        identity_token=text_of("identitytoken"),
        registry_token=text_of("registrytoken"),
    )
