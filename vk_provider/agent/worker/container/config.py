"""ContainerConfig from a pod and one of its containers. Pure.

Source: pkg/kubelet/kuberuntime/{kuberuntime_container,kuberuntime_container_linux,labels,security_context}.go (v1.37).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.volumes.container_mounts import Mount
from vk_provider.agent.worker.rules.observed import (
    CONTAINER_NAME,
    HASH,
    RESTART_COUNT,
    TERMINATION_PATH,
    TERMINATION_POLICY,
)
from vk_provider.agent.worker.rules.spec import container_hash, metadata_of, spec_of
from vk_provider.agent.worker.sandbox.cgroups import bounded_quota
from vk_provider.agent.worker.sandbox.config import namespace_options, pod_labels, selinux_option
from vk_provider.jsontypes import Json
from vk_provider.podmodel.environment import expand_command
from vk_provider.podmodel.gpus import GPU, allot_gpus
from vk_provider.podmodel.resources import container_resources, oom_score_adj
from vk_provider.podmodel.security import ContainerSecurity, Profile

_PROPAGATIONS = {
    "": pb.PROPAGATION_PRIVATE,
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}
_PROFILE_TYPES = {
    "RuntimeDefault": pb.SecurityProfile.RuntimeDefault,
    "Unconfined": pb.SecurityProfile.Unconfined,
    "Localhost": pb.SecurityProfile.Localhost,
}


@dataclass(frozen=True, slots=True)
class ContainerInputs:
    """What a container's configuration is made of beside the pod.

    image_ref:        the runtime's reference of the pulled image
    image_uid/-user:  USER of the image: numeric, or by name
    environment:      as podmodel.environment builds it
    target_id:        container whose process namespace is joined, "" none
    """

    image_ref: str
    restart_count: int
    security: ContainerSecurity
    environment: list[tuple[str, str]]
    mounts: tuple[Mount, ...] = ()
    image_uid: int | None = None
    image_username: str = ""
    target_id: str = ""
    memory_capacity_bytes: int = 0


def build_container_config(pod: Json, container: Json, inputs: ContainerInputs) -> pb.ContainerConfig:
    command, args = expand_command(container, inputs.environment)
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=container["name"], attempt=inputs.restart_count),
        image=pb.ImageSpec(image=inputs.image_ref, user_specified_image=container.get("image") or ""),
        command=command,
        args=args,
        working_dir=container.get("workingDir") or "",
        envs=[
            pb.KeyValue(key=key, value=value.encode("utf-8", "surrogateescape")) for key, value in inputs.environment
        ],
        mounts=[_mount(mount) for mount in inputs.mounts],
        labels={**pod_labels(pod), CONTAINER_NAME: container["name"]},
        annotations=_annotations(pod, container, inputs.restart_count),
        log_path=log_path(container["name"], inputs.restart_count),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        CDI_devices=[pb.CDIDevice(name=f"{GPU}={index}") for index in allot_gpus(pod, container["name"])],
        linux=pb.LinuxContainerConfig(
            resources=build_resources(pod, container, inputs.memory_capacity_bytes),
            security_context=_security_context(inputs),
        ),
    )


def log_path(container_name: str, restart_count: int) -> str:
    """Relative to the pod's log directory."""
    return f"{container_name}/{restart_count}.log"


def build_resources(pod: Json, container: Json, memory_capacity_bytes: int) -> pb.LinuxContainerResources:
    limits = container_resources(pod, container)
    return pb.LinuxContainerResources(
        cpu_period=limits.cpu_period,
        cpu_quota=bounded_quota(limits.cpu_quota, limits.cpu_period),
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory_limit_bytes,
        oom_score_adj=oom_score_adj(pod, container, max(1, memory_capacity_bytes)),
        hugepage_limits=[pb.HugepageLimit(page_size=size, limit=limit) for size, limit in limits.hugepage_limits],
    )


def _annotations(pod: Json, container: Json, restart_count: int) -> dict[str, str]:
    annotations = {
        HASH: container_hash(container),
        RESTART_COUNT: str(restart_count),
        TERMINATION_PATH: container.get("terminationMessagePath") or "/dev/termination-log",
        TERMINATION_POLICY: container.get("terminationMessagePolicy") or "File",
    }
    deletion = metadata_of(pod).get("deletionGracePeriodSeconds")
    if deletion is not None:
        annotations["io.kubernetes.pod.deletionGracePeriod"] = str(deletion)
    grace = spec_of(pod).get("terminationGracePeriodSeconds")
    if grace is not None:
        annotations["io.kubernetes.pod.terminationGracePeriod"] = str(grace)
    pre_stop = (container.get("lifecycle") or {}).get("preStop")
    if pre_stop:
        annotations["io.kubernetes.container.preStopHandler"] = json.dumps(pre_stop)
    if container.get("ports"):
        annotations["io.kubernetes.container.ports"] = json.dumps(container["ports"])
    return annotations


def _mount(mount: Mount) -> pb.Mount:
    message = pb.Mount(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.readonly,
        selinux_relabel=mount.selinux_relabel,
        propagation=_PROPAGATIONS[mount.propagation],
        recursive_read_only=mount.recursive_read_only,
    )
    if mount.image:
        message.image.image = mount.image
        message.image_sub_path = mount.image_sub_path
    return message


def _security_context(inputs: ContainerInputs) -> pb.LinuxContainerSecurityContext:
    security = inputs.security
    context = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=_capability_names(security.capabilities_add),
            drop_capabilities=_capability_names(security.capabilities_drop),
        ),
        privileged=security.privileged,
        namespace_options=namespace_options(security.namespaces, inputs.target_id),
        selinux_options=selinux_option(security.selinux),
        readonly_rootfs=security.read_only_root_filesystem,
        supplemental_groups=list(security.supplemental_groups),
        supplemental_groups_policy=security.supplemental_groups_policy,
        no_new_privs=security.no_new_privs,
        masked_paths=list(security.masked_paths),
        readonly_paths=list(security.readonly_paths),
        seccomp=_profile(security.seccomp),
    )
    if security.apparmor is not None:
        context.apparmor.CopyFrom(_profile(security.apparmor))
    _set_user(context, inputs)
    return context


def _set_user(context: pb.LinuxContainerSecurityContext, inputs: ContainerInputs) -> None:
    security = inputs.security
    if security.run_as_user is not None:
        context.run_as_user.value = security.run_as_user
    elif inputs.image_uid is not None:
        context.run_as_user.value = inputs.image_uid
    else:
        context.run_as_username = inputs.image_username
    if security.run_as_group is not None:
        context.run_as_group.value = security.run_as_group


def _profile(profile: Profile) -> pb.SecurityProfile:
    return pb.SecurityProfile(profile_type=_PROFILE_TYPES[profile.type], localhost_ref=profile.localhost_ref)


def _capability_names(names: Iterable[str]) -> list[str]:
    return [str(name) for name in names]
