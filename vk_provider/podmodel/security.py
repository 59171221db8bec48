"""securityContext of pod and container, merged into the security settings for the container runtime.

The container's field wins over the pod's. Source: kubelet, kuberuntime security context; KEP-2008, KEP-3619.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import ContainerConfigError
from vk_provider.podmodel.spec import all_containers, describe_pod, metadata_of, spec_of

NamespaceMode = Literal["POD", "CONTAINER", "NODE", "TARGET"]
SECCOMP_PROFILE_ROOT = "/var/lib/kubelet/seccomp"
MAX_USER_ID = 2**31 - 1

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True)
class Profile:
    """A seccomp or AppArmor profile: type is RuntimeDefault, Unconfined or Localhost (with localhost_ref)."""

    type: str
    localhost_ref: str = ""


@dataclass(frozen=True)
class SELinuxOptions:
    """SELinux label parts; "" is unset."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True)
class Namespaces:
    """Linux namespace modes by CRI's names."""

    network: NamespaceMode = "POD"
    pid: NamespaceMode = "CONTAINER"
    ipc: NamespaceMode = "POD"


@dataclass(frozen=True)
class ContainerSecurity:
    """What CRI's LinuxContainerSecurityContext needs.

    supplemental_groups: fsGroup first, then the pod's supplementalGroups
    apparmor:            None when nothing is asked for
    masked_paths, readonly_paths: () for procMount Unmasked
    """

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    privileged: bool = False
    read_only_root_filesystem: bool = False
    no_new_privs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: str = "Merge"
    fs_group: int | None = None
    seccomp: Profile = field(default_factory=lambda: Profile("Unconfined"))
    apparmor: Profile | None = None
    proc_mount: str = "Default"
    masked_paths: tuple[str, ...] = MASKED_PATHS
    readonly_paths: tuple[str, ...] = READONLY_PATHS
    selinux: SELinuxOptions | None = None
    namespaces: Namespaces = field(default_factory=Namespaces)


@dataclass(frozen=True)
class PodSecurity:
    """What CRI's LinuxSandboxSecurityContext needs. The sandbox's own seccomp profile is always RuntimeDefault."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: str = "Merge"
    fs_group: int | None = None
    fs_group_change_policy: str = "Always"
    privileged: bool = False
    seccomp: Profile = field(default_factory=lambda: Profile("RuntimeDefault"))
    selinux: SELinuxOptions | None = None
    namespaces: Namespaces = field(default_factory=Namespaces)
    sysctls: tuple[tuple[str, str], ...] = ()


def resolve_namespaces(pod: Json) -> Namespaces:
    """Return the namespace modes that all containers of the pod start with."""
    spec = spec_of(pod)
    pid: NamespaceMode = "POD" if spec.get("shareProcessNamespace") else "CONTAINER"
    return Namespaces(
        network="NODE" if spec.get("hostNetwork") else "POD",
        pid="NODE" if spec.get("hostPID") else pid,
        ipc="NODE" if spec.get("hostIPC") else "POD",
    )


def resolve_pod_security(pod: Json) -> PodSecurity:
    """Return the sandbox's security settings; sysctls are in the dotted form."""
    context = spec_of(pod).get("securityContext") or {}
    return PodSecurity(
        run_as_user=context.get("runAsUser"),
        run_as_group=context.get("runAsGroup"),
        supplemental_groups=_groups(context),
        supplemental_groups_policy=context.get("supplementalGroupsPolicy") or "Merge",
        fs_group=context.get("fsGroup"),
        fs_group_change_policy=context.get("fsGroupChangePolicy") or "Always",
        privileged=any((container.get("securityContext") or {}).get("privileged") for container in all_containers(pod)),
        selinux=_selinux(context.get("seLinuxOptions")),
        namespaces=resolve_namespaces(pod),
        sysctls=tuple(
            (normalize_sysctl(entry["name"]), str(entry.get("value", ""))) for entry in context.get("sysctls") or []
        ),
    )


def resolve_container_security(pod: Json, container: Json) -> ContainerSecurity:
    """Return the container's effective security settings; raises ContainerConfigError for an impossible profile."""
    of_pod = spec_of(pod).get("securityContext") or {}
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    proc_mount = own.get("procMount") or "Default"
    unmasked = proc_mount == "Unmasked"
    return ContainerSecurity(
        run_as_user=_prefer(own, of_pod, "runAsUser"),
        run_as_group=_prefer(own, of_pod, "runAsGroup"),
        run_as_non_root=_prefer(own, of_pod, "runAsNonRoot"),
        capabilities_add=tuple(capabilities.get("add") or ()),
        capabilities_drop=tuple(capabilities.get("drop") or ()),
        privileged=bool(own.get("privileged")),
        read_only_root_filesystem=bool(own.get("readOnlyRootFilesystem")),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        supplemental_groups=_groups(of_pod),
        supplemental_groups_policy=of_pod.get("supplementalGroupsPolicy") or "Merge",
        fs_group=of_pod.get("fsGroup"),
        seccomp=_seccomp(own.get("seccompProfile") or of_pod.get("seccompProfile")),
        apparmor=_apparmor(pod, container),
        proc_mount=proc_mount,
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        selinux=_selinux(own.get("seLinuxOptions") or of_pod.get("seLinuxOptions")),
        namespaces=resolve_namespaces(pod),
    )


def verify_run_as_non_root(
    security: ContainerSecurity, image_uid: int | None, image_username: str, pod: Json, container: Json
) -> str | None:
    """Return why runAsNonRoot forbids this container (a CreateContainerConfigError message), or None.

    image_uid: the image's numeric USER (root's 0 when the image names none), None when USER is a name: image_username
    """
    if not security.run_as_non_root:
        return None
    where = f'(pod: "{describe_pod(pod)}", container: {container["name"]})'
    if security.run_as_user is not None:
        return f"container's runAsUser breaks non-root policy {where}" if security.run_as_user == 0 else None
    if image_uid is None:
        if not image_username:
            return None
        return (
            f"container has runAsNonRoot and image has non-numeric user ({image_username}), "
            f"cannot verify user is non-root {where}"
        )
    if image_uid == 0:
        return f"container has runAsNonRoot and image will run as root {where}"
    if not 0 <= image_uid <= MAX_USER_ID:
        return (
            f"container has runAsNonRoot and image has an invalid user id ({image_uid}). "
            f"(Must be 1-({MAX_USER_ID})): must be between 0 and {MAX_USER_ID}, inclusive {where}"
        )
    return None


def common_user(pod: Json) -> int | None:
    """Return the one UID that all containers of the pod run as by their specs, or None (owner of token files)."""
    of_pod = spec_of(pod).get("securityContext") or {}
    users = {_prefer(container.get("securityContext") or {}, of_pod, "runAsUser") for container in all_containers(pod)}
    return users.pop() if len(users) == 1 else None


def normalize_sysctl(name: str) -> str:
    """Return a sysctl's dotted form: `net/ipv4/conf/eth0.1/x` -> `net.ipv4.conf.eth0/1.x`."""
    first = next((character for character in name if character in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def _prefer(own: Json, of_pod: Json, key: str) -> Any:
    value = own.get(key)
    return value if value is not None else of_pod.get(key)


def _groups(context: Json) -> tuple[int, ...]:
    fs_group = context.get("fsGroup")
    first = () if fs_group is None else (fs_group,)
    return (*first, *(context.get("supplementalGroups") or ()))


def _selinux(options: Json | None) -> SELinuxOptions | None:
    if not options:
        return None
    return SELinuxOptions(**{key: options.get(key) or "" for key in ("user", "role", "type", "level")})


def _seccomp(profile: Json | None) -> Profile:
    if not profile:
        return Profile("Unconfined")
    if profile.get("type") != "Localhost":
        return Profile("RuntimeDefault" if profile.get("type") == "RuntimeDefault" else "Unconfined")
    if not profile.get("localhostProfile"):
        raise ContainerConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
    return Profile("Localhost", f"{SECCOMP_PROFILE_ROOT}/{profile['localhostProfile']}")


def _apparmor(pod: Json, container: Json) -> Profile | None:
    profile = find_apparmor(pod, container)
    if profile is None:
        return None
    if profile.type == "Localhost" and not profile.localhost_ref:
        raise ContainerConfigError("missing localhost apparmor profile name")
    if profile.type not in ("Localhost", "RuntimeDefault", "Unconfined"):
        raise ContainerConfigError(f'unknown apparmor profile type: "{profile.type}"')
    return profile


def find_apparmor(pod: Json, container: Json) -> Profile | None:
    """Return the AppArmor profile asked for: container field, legacy annotation, pod field; None without any."""
    own = (container.get("securityContext") or {}).get("appArmorProfile")
    if own:
        return Profile(own.get("type") or "", own.get("localhostProfile") or "")
    annotations = metadata_of(pod).get("annotations") or {}
    legacy = annotations.get(f"container.apparmor.security.beta.kubernetes.io/{container.get('name')}")
    if legacy == "runtime/default":
        return Profile("RuntimeDefault")
    if legacy == "unconfined":
        return Profile("Unconfined")
    if legacy and legacy.startswith("localhost/"):
        return Profile("Localhost", legacy.removeprefix("localhost/"))
    of_pod = (spec_of(pod).get("securityContext") or {}).get("appArmorProfile")
    return Profile(of_pod.get("type") or "", of_pod.get("localhostProfile") or "") if of_pod else None
