"""Annotations, labels, taints and tags that this program sets or heeds."""

from __future__ import annotations

from tests.reference.docstrings import read_constants
from tests.reference.markdown import code, table
from vk_provider.agent import metadata_guard
from vk_provider.agent.worker.rules import spec as agent_spec
from vk_provider.cloud import launchoptions
from vk_provider.cloud.aws.stores.record import TAG_PART, TAG_SIZE, StoreRecord, build_record_tags
from vk_provider.cloud.base import TAG_FAMILIES, TAG_IMAGE_SET, TAG_STEADY_CPU
from vk_provider.cloud.tags import build_group_tags, build_pod_tags, build_pool_tags
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.node.object import build_annotations, build_labels
from vk_provider.node.spec import NodeSpec
from vk_provider.pods import admission
from vk_provider.serviceproxy import endpoint, service
from vk_provider.settings import NodeSettings
from vk_provider.sizing import requirement

_SPEC = NodeSpec("<name>", "", {}, zone="<zone>", region="<region>", architecture="<architecture>")
_HEEDED = (
    (metadata_guard, "ALLOW_METADATA_ANNOTATION"),
    (requirement, "GPU_MEMORY_ANNOTATION"),
    (requirement, "LOCAL_DISK_ANNOTATION"),
    (requirement, "ROOT_VOLUME_ANNOTATION"),
    (admission, "MIRROR_ANNOTATION"),
    (service, "PROXY_NAME_LABEL"),
    (endpoint, "SERVICE_NAME_LABEL"),
    (endpoint, "HEADLESS_LABEL"),
)


def build() -> str:
    choice = read_constants(requirement)
    chosen = [(code(name), f"{code(label)} of the instance") for name, label in requirement.ANNOTATIONS.items()]
    heeded = [(code(getattr(module, name)), read_constants(module)[name]) for module, name in _HEEDED]
    local = agent_spec.with_local_annotations({"metadata": {}}, "<time>")["metadata"]["annotations"]
    set_here = [
        *((code(key), "label of Nodes", code(value)) for key, value in build_labels(_SPEC).items()),
        *((code(key), "annotation of Nodes", code(value)) for key, value in build_annotations(_SPEC).items()),
        *(
            (code(taint.key), "taint of Nodes", code(f"{taint.value}:{taint.effect}"))
            for taint in NodeSettings("").taints
        ),
        *((code(key), "annotation of a pod, on its instance only", code(value)) for key, value in local.items()),
        *((code(key), "tag of instances", code(value)) for key, value in _tags().items()),
        *((code(key), "tag of prepared stores and their builders", code(value)) for key, value in _store_tags()),
    ]
    return "\n".join(
        (
            "## Annotations, labels, taints and tags\n",
            f"{choice['ANNOTATIONS']}\n",
            table(("annotation of pods", "chooses by"), chosen),
            f"{choice['LABELS']} In nodeSelector and required node affinity:\n",
            "".join(f"* {code(label)}\n" for label in requirement.LABELS),
            f"{read_constants(launchoptions)['OPTIONS']}\n",
            "".join(f"* {code(requirement.ANNOTATION_PREFIX + name)}\n" for name in launchoptions.OPTIONS),
            table(("heeded", "meaning"), heeded),
            *(
                f"{' '.join((build.__doc__ or '').split())}\n"
                for build in (build_group_tags, build_pod_tags, build_pool_tags)
            ),
            table(("set", "where", "value"), set_here),
        )
    )


def _tags() -> dict[str, str]:
    group = build_group_tags(
        owner="cloud.owner",
        node="NODE",
        namespace="NAMESPACE",
        group="DIGEST",
        launch="ID",
        labels={"LABEL": "VALUE"},
        disks="root=GIB",
    )
    pool = build_pool_tags(owner="", node="", group="", launch="", pool="POOL", image_store="STORE")
    added = {key: value for key, value in pool.items() if value and key not in group and key != "Name"}
    added |= {TAG_STEADY_CPU: "MILLICORES", TAG_FAMILIES: "ipv4+ipv6"}
    return group | added | build_pod_tags(pod_uid="UID", pod_namespace="NAMESPACE", pod_name="POD", attempt=0)


def _store_tags() -> list[tuple[str, str]]:
    """The images are in as many tags as they need."""
    images = ImageSet.of([PinnedImage("IMAGE", "sha256:DIGEST")])
    tags = build_record_tags("cloud.owner", StoreRecord(images, "BUILD", "ami-ID", "amd64", 1)) or {}
    named = {TAG_PART: "IMAGE=DIGEST", TAG_IMAGE_SET: "KEY", TAG_SIZE: "BYTES"}
    keys = [TAG_PART if key.startswith(TAG_PART) else key for key in tags]
    return [(key, named.get(key, value)) for key, value in zip(keys, tags.values(), strict=True) if key not in _tags()]
