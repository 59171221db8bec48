"""What is mounted into one container, from where. Synchronous; makes and binds subPaths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vk_provider.agent.volumes.layout import PodLayout, volume_kind
from vk_provider.agent.volumes.subpath import bind_sub_path, make_sub_path, validate_sub_path
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.errors import ContainerConfigError, PodModelError
from vk_provider.podmodel.expansion import expand, find_missing
from vk_provider.podmodel.hosts import build_hosts_file
from vk_provider.podmodel.projection import is_file_volume
from vk_provider.podmodel.spec import is_host_network, spec_of

Propagation = Literal["None", "HostToContainer", "Bidirectional"]
HOSTS_PATH = "/etc/hosts"
DEFAULT_TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True)
class Mount:
    """One mount of a container, for CRI's Mount. With `image` set there is no host_path.

    selinux_relabel: the volume is the pod's own and may be labelled for it
    """

    container_path: str
    host_path: str
    readonly: bool = False
    recursive_read_only: bool = False
    propagation: Propagation = "None"
    image: str = ""
    selinux_relabel: bool = False
    image_sub_path: str = ""
    name: str = ""


@dataclass(frozen=True)
class ContainerMounts:
    """Builds mounts from the volumes that are set up (`host_paths`: volume name -> path)."""

    layout: PodLayout
    host_paths: Mapping[str, str]
    image_volumes: bool
    recursive_read_only: bool

    def build(self, pod: Json, container: Json, env: Mapping[str, str], context: PodContext) -> list[Mount]:
        """Return volumeMounts in order, then /etc/hosts, then the termination log; raises ContainerConfigError."""
        volumes = {volume["name"]: volume for volume in spec_of(pod).get("volumes") or []}
        mounts = [
            self._volume_mount(index, mount, volumes.get(mount["name"]), container, env)
            for index, mount in enumerate(container.get("volumeMounts") or [])
        ]
        has_hosts = any(mount.container_path == HOSTS_PATH for mount in mounts)
        if not has_hosts and (context.pod_ips or is_host_network(pod)):
            mounts.append(self._hosts_mount(pod, context))
        mounts.append(self._termination_log(container))
        return mounts

    def _volume_mount(
        self, index: int, mount: Json, volume: Json | None, container: Json, env: Mapping[str, str]
    ) -> Mount:
        name, container_name = mount["name"], container["name"]
        kind = volume_kind(volume) if volume else ""
        if volume is None or (kind != "image" and name not in self.host_paths):
            raise ContainerConfigError(f'cannot find volume "{name}" to mount into container "{container_name}"')
        sub_path = _resolve_sub_path(mount, env)
        path = mount["mountPath"]
        common = {
            "name": name,
            "container_path": path if path.startswith("/") else f"/{path}",
            "recursive_read_only": resolve_recursive_read_only(mount, self.recursive_read_only),
            "propagation": mount.get("mountPropagation") or "None",
        }
        if kind == "image":
            if not self.image_volumes:
                raise ContainerConfigError(f'the container runtime cannot mount image volume "{name}"')
            reference = (volume["image"] or {}).get("reference") or ""
            return Mount(host_path="", image=reference, image_sub_path=sub_path, readonly=True, **common)
        host_path = self.host_paths[name]
        if sub_path:
            host_path = self._bind(Path(host_path), sub_path, mount, container_name, index)
        return Mount(
            host_path=host_path,
            readonly=bool(mount.get("readOnly")) or is_file_volume(volume),
            selinux_relabel=kind != "hostPath",
            **common,
        )

    def _bind(self, volume: Path, sub_path: str, mount: Json, container_name: str, index: int) -> str:
        # Without the cause, which would disclose the instance's file system to the pod.
        about = f'subPath directory for volumeMount "{mount["name"]}" of container "{container_name}"'
        try:
            make_sub_path(volume, sub_path)
        except (OSError, ValueError) as error:
            raise ContainerConfigError(f"failed to create {about}") from error
        target = self.layout.sub_path(mount["name"], container_name, index)
        try:
            bind_sub_path(volume, sub_path, target)
        except (OSError, ValueError) as error:
            about = about.replace("subPath directory", "subPath")
            raise ContainerConfigError(f"failed to prepare {about}") from error
        return str(target)

    def _hosts_mount(self, pod: Json, context: PodContext) -> Mount:
        node_hosts = Path(HOSTS_PATH).read_text(errors="surrogateescape") if is_host_network(pod) else ""
        try:
            text = build_hosts_file(pod, context, node_hosts)
        except PodModelError as error:
            raise ContainerConfigError(str(error)) from error
        target = self.layout.hosts_file
        # Written in place: containers that run have this very file mounted.
        target.write_text(text, errors="surrogateescape")
        target.chmod(0o644)
        return Mount(HOSTS_PATH, str(target), selinux_relabel=True, name="k8s-managed-etc-hosts")

    def _termination_log(self, container: Json) -> Mount:
        directory = self.layout.container(container["name"])
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        target = directory / os.urandom(4).hex()
        target.touch()
        target.chmod(0o666)
        path = container.get("terminationMessagePath") or DEFAULT_TERMINATION_LOG
        path = path if path.startswith("/") else f"/{path}"
        return Mount(path, str(target), selinux_relabel=True, name="termination-log")


def resolve_recursive_read_only(mount: Json, supported: bool) -> bool:
    """Return whether a volumeMount is read-only with all that is mounted below it; raises ContainerConfigError."""
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Disabled":
        return False
    about = f'failed to resolve recursive read-only mode: volume "{mount["name"]}" requested recursive read-only mode'
    if not mount.get("readOnly"):
        raise ContainerConfigError(f"{about}, but it is not read-only")
    propagation = mount.get("mountPropagation") or "None"
    if propagation != "None":
        raise ContainerConfigError(f'{about}, but it is not compatible with propagation "{propagation}"')
    if mode == "Enabled" and not supported:
        raise ContainerConfigError(f"{about}, but it is not supported by the runtime")
    return supported


def _resolve_sub_path(mount: Json, env: Mapping[str, str]) -> str:
    sub_path = mount.get("subPath") or ""
    expression = mount.get("subPathExpr") or ""
    if expression:
        known = {name: value for name, value in env.items() if value}
        missing = sorted(set(find_missing(expression, known)))
        if missing:
            raise ContainerConfigError(f"missing value for {', '.join(missing)}")
        sub_path = expand(expression, env)
    try:
        validate_sub_path(sub_path)
    except ValueError as error:
        raise ContainerConfigError(str(error)) from error
    return sub_path
