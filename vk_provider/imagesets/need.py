"""The images that a pod needs, by its spec."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import parse_image
from vk_provider.podmodel.images import default_pull_policy


@dataclass(frozen=True, slots=True)
class ImageNeed:
    """references: canonical, of containers, init containers and image volumes; an invalid name is left out.
    never_pulled: those that no container may pull (policy Never): the registry is not asked for them."""

    references: frozenset[str]
    never_pulled: frozenset[str]


def find_need(pod: Json) -> ImageNeed:
    """Ephemeral containers come later than the instance, so they do not count."""
    spec = pod["spec"]
    users = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    for volume in spec.get("volumes") or ():
        image = volume.get("image")
        if image:
            users.append({"image": image.get("reference"), "imagePullPolicy": image.get("pullPolicy")})
    pulled: set[str] = set()
    never: set[str] = set()
    for user in users:
        try:
            reference = parse_image(user.get("image") or "").canonical
        except InvalidImageName:
            continue
        (never if default_pull_policy(user) == "Never" else pulled).add(reference)
    return ImageNeed(frozenset(pulled | never), frozenset(never - pulled))
