"""Which fields of a pod's spec the grammar draws, and why some are never drawn. Pure.

podspec.json holds the fields of PodSpec and of all types below it, as the API server of the version under test
describes them (/openapi/v2): type -> field -> type of the field, "" where it is not an object of core/v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.differential.case import Case
from vk_provider.jsontypes import Json

TYPES: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "podspec.json").read_text())

_ATTACHED = "a kind of storage that no instance attaches: refused by name, as persistentVolumeClaim, ephemeral and csi"
_GONE = "Kubernetes has no code for it any more, its kubelet mounts nothing"
_ALPHA = "alpha and off in 1.37: the API server drops it"
_SCHEDULER = "the scheduler's alone: no node reads it"
_WINDOWS = "of Windows: `windowsOptions.runAsUserName` stands for what a node on Linux does not read"
_DEPRECATED = "the API server's copy of serviceAccountName"
_CLAIM = "of a claim that the API server makes of it: read by no node"

LEFT_OUT: dict[str, str] = {
    "PodSpec.ephemeralContainers": "refused in a new pod; drawn as the action `ephemeral`",
    "PodSpec.evictionResponders": _ALPHA,
    "PodSpec.resourceClaims": "needs a driver of its own on each node (DRA); refused here by name",
    "PodSpec.schedulerName": "with another one than the default's no node ever sees the pod",
    "PodSpec.schedulingGroup": _ALPHA,
    "PodSpec.serviceAccount": _DEPRECATED,
    **{f"Volume.{name}": _GONE for name in ("flocker", "gitRepo", "photonPersistentDisk", "quobyte", "scaleIO")},
    **{f"Volume.{name}": _GONE for name in ("cephfs", "glusterfs", "rbd", "storageos")},
    **{
        f"Volume.{name}": _ATTACHED
        for name in (
            "awsElasticBlockStore",
            "azureDisk",
            "azureFile",
            "cinder",
            "fc",
            "flexVolume",
            "gcePersistentDisk",
            "iscsi",
            "nfs",
            "portworxVolume",
            "vsphereVolume",
        )
    },
    "Container.volumeDevices": "needs a block device from a claim; refused here by name",
    "ResourceRequirements.claims": "needs spec.resourceClaims",
    "VolumeMount.bindMountOptions": _ALPHA,
    "EmptyDirVolumeSource.mode": _ALPHA,
    "PodSpec.overhead": "admission alone writes it, from the RuntimeClass: drawn as the feature `runtime-class`",
    **{
        f"PersistentVolumeClaimSpec.{name}": _CLAIM
        for name in (
            "dataSource",
            "dataSourceRef",
            "selector",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
            "volumeName",
        )
    },
    "PersistentVolumeClaimTemplate.metadata": _CLAIM,
    "VolumeResourceRequirements.limits": _CLAIM,
    "PersistentVolumeClaimVolumeSource.readOnly": "of a claim; the volume is refused here by name",
    **{
        f"CSIVolumeSource.{name}": "read by a driver alone; the volume is refused here by name"
        for name in ("fsType", "nodePublishSecretRef", "readOnly", "volumeAttributes")
    },
    "PodAffinity.requiredDuringSchedulingIgnoredDuringExecution": _SCHEDULER,
    "PodAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution": _SCHEDULER,
    **{
        f"PodAffinityTerm.{name}": _SCHEDULER
        for name in ("matchLabelKeys", "mismatchLabelKeys", "namespaceSelector", "namespaces")
    },
    **{
        f"TopologySpreadConstraint.{name}": _SCHEDULER
        for name in ("matchLabelKeys", "minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy")
    },
    **{
        f"WindowsSecurityContextOptions.{name}": _WINDOWS
        for name in ("gmsaCredentialSpec", "gmsaCredentialSpecName", "hostProcess")
    },
    "GRPCAction.mode": _ALPHA,
    "HTTPGetAction.protocol": _ALPHA,
    "PodCertificateProjection.userAnnotations": "read by a signer alone",
    **{
        f"{kind}.user": _ALPHA
        for kind in (
            "ClusterTrustBundleProjection",
            "DownwardAPIVolumeFile",
            "KeyToPath",
            "PodCertificateProjection",
            "ServiceAccountTokenProjection",
        )
    },
    **{
        f"{kind}.defaultUser": _ALPHA
        for kind in (
            "ConfigMapVolumeSource",
            "SecretVolumeSource",
            "DownwardAPIVolumeSource",
            "ProjectedVolumeSource",
        )
    },
}
"""Type.field -> why no case has it."""


def reachable(kind: str = "PodSpec") -> set[str]:
    """Every Type.field below a type, but for what is below those that are left out."""
    found: set[str] = set()
    waiting = [kind]
    while waiting:
        current = waiting.pop()
        for name, below in TYPES[current].items():
            field = f"{current}.{name}"
            if field in found:
                continue
            found.add(field)
            if below and field not in LEFT_OUT:
                waiting.append(below)
    return found


def drawn(case: Case) -> set[str]:
    """Every Type.field that the case's pod has, from its creation or by an action."""
    found = set(_walk(case.pod["spec"], "PodSpec"))
    for action in case.actions:
        if action.verb == "ephemeral":
            found.update(_walk(action.arguments["container"], "EphemeralContainer"))
        body = action.arguments.get("body") or {}
        if action.verb == "patch" and "spec" in body:
            found.update(_walk(body["spec"], "PodSpec"))
    return found


def _walk(value: Any, kind: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, kind)
        return
    if not isinstance(value, dict):
        return
    item: Json = value
    for name, below in item.items():
        yield f"{kind}.{name}"
        if TYPES[kind].get(name):
            yield from _walk(below, TYPES[kind][name])


def describe(definitions: Json, prefix: str = "io.k8s.api.core.v1.") -> dict[str, dict[str, str]]:
    """TYPES of the definitions of an API server."""
    found: dict[str, dict[str, str]] = {}
    waiting = ["PodSpec"]
    while waiting:
        kind = waiting.pop()
        if kind in found:
            continue
        found[kind] = {}
        for name, schema in sorted(definitions[prefix + kind].get("properties", {}).items()):
            reference = schema.get("$ref") or schema.get("items", {}).get("$ref") or ""
            below = reference.rpartition("/")[2]
            found[kind][name] = below.removeprefix(prefix) if below.startswith(prefix) else ""
            waiting += [found[kind][name]] if found[kind][name] else []
    return found
