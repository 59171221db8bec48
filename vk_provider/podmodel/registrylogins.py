"""The Node's own logins at the registries of a pod's images, which need no imagePullSecrets.

Source: pkg/credentialprovider (v1.37): the keyring of the pod's secrets is asked first, then the one of the kubelet's
credential providers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import parse_image
from vk_provider.podmodel.spec import all_containers, spec_of

NODE_LOGINS = "/node"
"""Stands for the Node's logins among a pod's pull secrets by name: no Secret can be called so."""


@dataclass(frozen=True, slots=True)
class FoundLogins:
    """logins:    as in wire.session.References.registryLogins
    errors:      by registry, why there is no login at it
    fresh_for_s: when to look again
    """

    logins: Mapping[str, Json] = field(default_factory=dict, repr=False)
    errors: Mapping[str, str] = field(default_factory=dict)
    fresh_for_s: float = float("inf")


def find_registries(pod: Json) -> frozenset[str]:
    """Hosts of the registries of the pod's images, those of image volumes among them."""
    return frozenset(_hosts(pod))


def _hosts(pod: Json) -> Iterator[str]:
    images = [container.get("image") for container in all_containers(pod)]
    images += [(volume.get("image") or {}).get("reference") for volume in spec_of(pod).get("volumes") or ()]
    for image in images:
        if image:
            try:
                yield parse_image(image).domain
            except InvalidImageName:
                continue


def build_pull_secret(logins: Mapping[str, Json]) -> Json:
    """The logins as a Secret of type kubernetes.io/dockerconfigjson has them."""
    config = json.dumps({"auths": dict(logins)}).encode()
    return {"data": {".dockerconfigjson": base64.b64encode(config).decode()}}
