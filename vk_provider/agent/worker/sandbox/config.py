"""PodSandboxConfig from a pod. Pure.

Source: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go (v1.37), cri-api v1.
"""

from __future__ import annotations

from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.worker.rules.observed import POD_NAME, POD_NAMESPACE, POD_UID
from vk_provider.agent.worker.rules.spec import (
    init_containers,
    is_host_network,
    is_sidecar,
    log_directory,
    metadata_of,
    name_of,
    namespace_of,
    regular_containers,
    spec_of,
    uid_of,
)
from vk_provider.agent.worker.sandbox.cgroups import bounded_quota
from vk_provider.jsontypes import Json
from vk_provider.podmodel.dns import DnsConfig
from vk_provider.podmodel.podresources import bounded_resources
from vk_provider.podmodel.resources import (
    CPU_PERIOD_US,
    cpu_quota,
    cpu_shares,
    effective_resources,
)
from vk_provider.podmodel.security import Namespaces, SELinuxOptions, resolve_pod_security

_NAMESPACE_MODES = {"POD": pb.POD, "CONTAINER": pb.CONTAINER, "NODE": pb.NODE, "TARGET": pb.TARGET}
_PROTOCOLS = {"TCP": pb.TCP, "UDP": pb.UDP, "SCTP": pb.SCTP}


def cgroup_parent(pod: Json) -> str:
    """The pod's cgroup below every controller's root (cgroupfs driver)."""
    return f"/kubepods/pod{uid_of(pod)}"


def build_sandbox_config(pod: Json, attempt: int, dns: DnsConfig, hostname: str) -> pb.PodSandboxConfig:
    """hostname: as podmodel.hostname builds it; not used for hostNetwork."""
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=name_of(pod), uid=uid_of(pod), namespace=namespace_of(pod), attempt=attempt
        ),
        hostname="" if is_host_network(pod) else hostname,
        log_directory=log_directory(pod),
        dns_config=pb.DNSConfig(servers=list(dns.nameservers), searches=list(dns.searches), options=list(dns.options)),
        port_mappings=_port_mappings(pod),
        labels={**(metadata_of(pod).get("labels") or {}), **pod_labels(pod)},
        annotations=metadata_of(pod).get("annotations") or {},
        linux=_linux_config(pod),
    )
    return config


def pod_labels(pod: Json) -> dict[str, str]:
    return {POD_NAME: name_of(pod), POD_NAMESPACE: namespace_of(pod), POD_UID: uid_of(pod)}


def namespace_options(namespaces: Namespaces, target_id: str = "") -> pb.NamespaceOption:
    """target_id: container whose process namespace is joined (ephemeral containers with targetContainerName)."""
    return pb.NamespaceOption(
        network=_NAMESPACE_MODES[namespaces.network],
        pid=pb.TARGET if target_id else _NAMESPACE_MODES[namespaces.pid],
        ipc=_NAMESPACE_MODES[namespaces.ipc],
        target_id=target_id,
    )


def selinux_option(options: SELinuxOptions | None) -> pb.SELinuxOption | None:
    if options is None:
        return None
    return pb.SELinuxOption(user=options.user, role=options.role, type=options.type, level=options.level)


def _linux_config(pod: Json) -> pb.LinuxPodSandboxConfig:
    security = resolve_pod_security(pod)
    namespaces = namespace_options(security.namespaces)
    sysctls = dict(security.sysctls)
    if namespaces.network != pb.NODE:
        # containerd's enable_unprivileged_icmp does this, but not where it runs in a user namespace
        sysctls.setdefault("net.ipv4.ping_group_range", "0 2147483647")
    context = pb.LinuxSandboxSecurityContext(
        namespace_options=namespaces,
        supplemental_groups=list(security.supplemental_groups),
        supplemental_groups_policy=security.supplemental_groups_policy,
        privileged=security.privileged,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        selinux_options=selinux_option(security.selinux),
    )
    if security.run_as_user is not None:
        context.run_as_user.value = security.run_as_user
    if security.run_as_group is not None:
        context.run_as_group.value = security.run_as_group
    return pb.LinuxPodSandboxConfig(
        cgroup_parent=cgroup_parent(pod),
        security_context=context,
        sysctls=sysctls,
        overhead=_overhead(pod),
        resources=_sandbox_resources(pod),
    )


def _sandbox_resources(pod: Json) -> pb.LinuxContainerResources:
    """What the sandbox says of the pod's limits, without overhead."""
    requests = effective_resources(pod, "requests", overhead=False)
    limits = effective_resources(pod, "limits", overhead=False)
    bounded = bounded_resources(pod)
    quota_us = cpu_quota(int(limits.get("cpu", 0) * 1000)) if "cpu" in bounded else 0
    return pb.LinuxContainerResources(
        cpu_period=CPU_PERIOD_US,
        cpu_shares=cpu_shares(int(requests.get("cpu", 0) * 1000)),
        cpu_quota=bounded_quota(quota_us, CPU_PERIOD_US),
        memory_limit_in_bytes=int(limits.get("memory", 0)) if "memory" in bounded else 0,
    )


def _overhead(pod: Json) -> pb.LinuxContainerResources:
    overhead = spec_of(pod).get("overhead")
    if not overhead:
        return pb.LinuxContainerResources()
    without = effective_resources(pod, "requests", overhead=False)
    with_it = effective_resources(pod, "requests", overhead=True)
    extra_milli = int((with_it.get("cpu", 0) - without.get("cpu", 0)) * 1000)
    extra_bytes = int(with_it.get("memory", 0) - without.get("memory", 0))
    return pb.LinuxContainerResources(
        cpu_period=CPU_PERIOD_US,
        cpu_shares=cpu_shares(extra_milli),
        cpu_quota=cpu_quota(extra_milli),
        memory_limit_in_bytes=extra_bytes,
    )


def _port_mappings(pod: Json) -> list[pb.PortMapping]:
    if is_host_network(pod):
        return []
    containers = [*regular_containers(pod), *(each for each in init_containers(pod) if is_sidecar(each))]
    return [
        pb.PortMapping(
            protocol=_PROTOCOLS.get(port.get("protocol") or "TCP", pb.TCP),
            container_port=int(port["containerPort"]),
            host_port=int(port["hostPort"]),
            host_ip=port.get("hostIP") or "",
        )
        for container in containers
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]
