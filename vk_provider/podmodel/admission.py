"""What this node refuses before anything is started: no field that cannot be honoured is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.podmodel.security import find_apparmor
from vk_provider.podmodel.spec import regular_containers, spec_of
from vk_provider.podmodel.sysctl import find_forbidden_sysctl

SUPPORTED_VOLUMES = frozenset({"emptyDir", "configMap", "secret", "downwardAPI", "projected", "hostPath", "image"})
IMAGE_VOLUMES, USER_NAMESPACES, APPARMOR = "imageVolumes", "userNamespaces", "appArmor"
SUPPLEMENTAL_GROUPS_POLICY, RECURSIVE_READ_ONLY = "supplementalGroupsPolicy", "recursiveReadOnlyMounts"
"""Names of what an instance's runtime and kernel may or may not be able to do; see `refuse`."""


@dataclass(frozen=True)
class Refusal:
    """Why a pod is rejected: event reason and message; the status message is `Pod was rejected: <message>`."""

    reason: EventReason
    message: str


def refuse(
    pod: Json, features: frozenset[str] = frozenset(), allowed_unsafe_sysctls: tuple[str, ...] = ()
) -> Refusal | None:
    """Return why the pod cannot run on an instance, None when every field can be honoured.

    features: what the instances' runtime can do besides containerd 1.6 (names above)
    """
    spec = spec_of(pod)
    metadata = pod.get("metadata") or {}
    if (metadata.get("labels") or {}).get("kubernetes.io/os", "linux") != "linux":
        message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Refusal(eventreasons.POD_OS_SELECTOR, message)
    operating_system = (spec.get("os") or {}).get("name")
    if operating_system not in (None, "", "linux"):
        return Refusal(eventreasons.POD_OS_NOT_SUPPORTED, "Failed to admit pod as the OS field doesn't match node OS")
    sysctl = find_forbidden_sysctl(pod, allowed_unsafe_sysctls)
    if sysctl:
        return Refusal(eventreasons.SYSCTL_FORBIDDEN, sysctl)
    if APPARMOR not in features and _wants_apparmor(pod):
        return Refusal(eventreasons.APP_ARMOR, "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    policy = (spec.get("securityContext") or {}).get("supplementalGroupsPolicy")
    if policy == "Strict" and SUPPLEMENTAL_GROUPS_POLICY not in features:
        return Refusal(
            eventreasons.SUPPLEMENTAL_GROUPS_POLICY_NOT_SUPPORTED,
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        )
    unsupported = next(_find_unsupported(pod, features), None)
    if unsupported:
        return Refusal(eventreasons.POD_FEATURE_UNSUPPORTED, f"{unsupported} is not supported by this node")
    return None


def _wants_apparmor(pod: Json) -> bool:
    containers = (*(spec_of(pod).get("initContainers") or []), *regular_containers(pod))
    profiles = [find_apparmor(pod, container) for container in containers]
    return any(profile is not None and profile.type != "Unconfined" for profile in profiles)


def _find_unsupported(pod: Json, features: frozenset[str]) -> Iterator[str]:
    """Yield the paths of fields that cannot be honoured."""
    spec = spec_of(pod)
    for index, volume in enumerate(spec.get("volumes") or []):
        sources = [kind for kind, value in volume.items() if kind != "name" and value is not None]
        for kind in sources:
            if kind not in SUPPORTED_VOLUMES or (kind == "image" and IMAGE_VOLUMES not in features):
                yield f"spec.volumes[{index}].{kind}"
        medium = (volume.get("emptyDir") or {}).get("medium") or ""
        if medium not in ("", "Memory"):
            yield f"spec.volumes[{index}].emptyDir.medium={medium}"
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            yield from _find_unsupported_of(container, f"spec.{kind}[{index}]", features)
    if spec.get("hostUsers") is False and USER_NAMESPACES not in features:
        yield "spec.hostUsers=false"
    if spec.get("resourceClaims"):
        yield "spec.resourceClaims"
    if (pod.get("status") or {}).get("extendedResourceClaimStatus"):
        yield "an extended resource of a resource claim (status.extendedResourceClaimStatus)"


def _find_unsupported_of(container: Json, path: str, features: frozenset[str]) -> Iterator[str]:
    if container.get("volumeDevices"):
        yield f"{path}.volumeDevices"
    if (container.get("resources") or {}).get("claims"):
        yield f"{path}.resources.claims"
    if ((container.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess"):
        yield f"{path}.securityContext.windowsOptions"
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("recursiveReadOnly") == "Enabled" and RECURSIVE_READ_ONLY not in features:
            yield f"{path}.volumeMounts[{index}].recursiveReadOnly=Enabled"
        if mount.get("bindMountOptions"):
            yield f"{path}.volumeMounts[{index}].bindMountOptions"
