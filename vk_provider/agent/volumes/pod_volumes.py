"""All volumes of the one pod of this instance."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import ParamSpec, TypeVar

from vk_provider import eventreasons
from vk_provider.agent.volumes import mountpoint
from vk_provider.agent.volumes.atomic import write_files
from vk_provider.agent.volumes.container_mounts import ContainerMounts, Mount
from vk_provider.agent.volumes.emptydir import compute_memory_size, set_up_empty_dir
from vk_provider.agent.volumes.errors import VolumeError, VolumeErrors, error_text, path_error, set_up_error
from vk_provider.agent.volumes.hostpath import set_up_host_path
from vk_provider.agent.volumes.layout import PodLayout, is_own, volume_kind
from vk_provider.agent.volumes.nested import make_nested_mount_points
from vk_provider.agent.volumes.ownership import apply_fs_group
from vk_provider.agent.volumes.sharedpath import bind_shared_path
from vk_provider.agent.volumes.subpath import read_inside
from vk_provider.agent.volumes.usage import VolumeUsage, measure_directory, measure_file_system
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.environment import env_file_keys
from vk_provider.podmodel.errors import PodModelError
from vk_provider.podmodel.projection import Files, build_volume_files, is_file_volume
from vk_provider.podmodel.security import resolve_pod_security
from vk_provider.podmodel.sharedpath import find_shared_root
from vk_provider.podmodel.spec import spec_of, uid_of
from vk_provider.wire.session import References

P = ParamSpec("P")
T = TypeVar("T")


class PodVolumes:
    """Volumes under the kubelet's root directory (`/var/lib/kubelet`).

    image_volumes:       the runtime can mount images (containerd >= 2.1); else an image volume is an error
    recursive_read_only: the runtime handler can mount read-only recursively
    Every method is idempotent, also after a restart of the agent; those that change something run one at a time.
    """

    def __init__(self, root: Path, *, image_volumes: bool = False, recursive_read_only: bool = False) -> None:
        # The mount table knows real paths only; a tear-down that missed a mount would remove what is mounted.
        self._root = root.resolve()
        self._image_volumes = image_volumes
        self.recursive_read_only = recursive_read_only
        self._lock = asyncio.Lock()
        self._host_paths: dict[str, str] = {}
        self._written: dict[str, Files] = {}
        self._tmpfs: set[str] = set()
        self._context = PodContext()

    async def set_up(self, pod: Json, references: References, context: PodContext) -> None:
        """Set all volumes of the pod up. Raises VolumeErrors with those that fail, after trying the others too; another
        VolumeError when no volume can be set up."""
        self._context = context
        await self._run(self._set_up_all, pod, references, context, False)

    async def refresh(self, pod: Json, references: References, context: PodContext) -> None:
        """Bring configMap, secret, downwardAPI and projected volumes up to date; what cannot be read stays as it is.

        Raises VolumeErrors.
        """
        self._context = context
        await self._run(self._set_up_all, pod, references, context, True)

    async def mounts(self, pod: Json, container: Json, env: dict[str, str]) -> list[Mount]:
        """Return the container's mounts: volumeMounts (subPaths are made and bound), /etc/hosts, termination log.

        Call it once for each start of a container, after set_up: each call makes a new termination log file, the last
        mount of the list. env: the container's environment, for subPathExpr. Raises ContainerConfigError.
        """
        builder = ContainerMounts(
            PodLayout(self._root, uid_of(pod)), self._host_paths, self._image_volumes, self.recursive_read_only
        )
        return await self._run(builder.build, pod, container, env, self._context)

    async def env_files(self, container: Json) -> dict[tuple[str, str], str]:
        """Return the texts of the files that the container's fileKeyRefs name, for build_environment; absent ones are
        left out."""
        keys = env_file_keys(container)
        return await self._run(self._read_files, keys) if keys else {}

    def host_path(self, volume_name: str) -> str | None:
        """Return where a volume is on the instance, None before set_up and for image volumes."""
        return self._host_paths.get(volume_name)

    def host_paths(self) -> dict[str, str]:
        """Return volume name -> path of all volumes that are set up."""
        return dict(self._host_paths)

    async def usage(self) -> dict[str, VolumeUsage]:
        """Measure the volumes that live in the pod's directory (not hostPath): volume name -> usage."""
        # Without the lock: walking a large volume must not delay the start of a container.
        return await asyncio.to_thread(_measure, self._root, dict(self._host_paths), frozenset(self._tmpfs))

    async def tear_down(self) -> None:
        """Unmount and remove everything of any pod below the root, also what an agent before this one left."""
        await self._run(self._tear_down)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._lock:
            work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # A thread cannot be stopped: hold the lock until it is done, or two would write the same files.
                await asyncio.wait([work])
                raise

    def _set_up_all(self, pod: Json, references: References, context: PodContext, files_only: bool) -> None:
        layout = PodLayout(self._root, uid_of(pod))
        if not files_only:
            try:
                layout.pod.mkdir(parents=True, exist_ok=True, mode=0o750)
            except OSError as error:
                text = f"error making pod data directories: {path_error('mkdir', error)}"
                raise VolumeError(text, eventreasons.FAILED) from error
        mounted = {entry.path for entry in mountpoint.list_mounts(layout.pod)}
        failed: list[VolumeError] = []
        for volume in spec_of(pod).get("volumes") or []:
            if files_only and (not is_file_volume(volume) or volume["name"] not in self._host_paths):
                continue
            try:
                self._set_up_one(volume, pod, references, context, layout, mounted)
            except (OSError, ValueError, PodModelError) as error:
                failed.append(set_up_error(volume["name"], error))
            except VolumeError as error:
                failed.append(error)
        if failed:
            raise VolumeErrors(failed)

    def _set_up_one(
        self, volume: Json, pod: Json, references: References, context: PodContext, layout: PodLayout, mounted: set[str]
    ) -> None:
        name, kind = volume["name"], volume_kind(volume)
        source = volume.get(kind) or {}
        if kind == "hostPath":
            self._host_paths[name] = self._set_up_host_path(source, context, layout.volume(kind, name), mounted)
        elif kind == "emptyDir":
            directory = layout.volume(kind, name)
            size = compute_memory_size(source, pod, context)
            security = resolve_pod_security(pod)
            is_mounted = str(directory) in mounted
            set_up_empty_dir(source, directory, layout.ready_marker(name), is_mounted, size, security)
            self._remember(name, directory, source.get("medium") == "Memory")
        elif is_file_volume(volume):
            files = build_volume_files(volume, pod, references, context)
            directory = layout.volume(kind, name)
            self._write(name, kind, files, directory, pod, str(directory) in mounted)
        elif kind != "image":
            raise VolumeError(f'volume "{name}": {kind} is not supported by this node')
        elif not self._image_volumes:
            raise VolumeError(f'volume "{name}": the container runtime of this instance cannot mount image volumes')

    def _set_up_host_path(self, source: Json, context: PodContext, target: Path, mounted: set[str]) -> str:
        """The path that containers mount: the named one, or where a shared one was bound once."""
        if str(target) in mounted:
            return str(target)
        root = find_shared_root(source["path"], context.node.get("sharedHostPaths") or ())
        if not root or not os.path.ismount(root):  # an instance from before the Node shared it
            set_up_host_path(source)
            return str(source["path"])
        bind_shared_path(source, root, target)
        return str(target)

    def _write(self, name: str, kind: str, files: Files, directory: Path, pod: Json, mounted: bool) -> None:
        if self._written.get(name) == files:
            return
        in_memory = kind != "configMap"
        if not directory.is_dir():
            directory.mkdir(parents=True)
        if in_memory and not mounted:
            # An empty file system of root's; its size is bounded by what the API allows an object to hold.
            mountpoint.mount_tmpfs(str(directory), 0)
        if name not in self._host_paths:
            if directory.stat().st_mode & 0o777 != 0o777:  # else it may have got an fsGroup's bits before a restart
                os.chmod(directory, 0o777)
            make_nested_mount_points(pod, name, directory)
        security = resolve_pod_security(pod)
        write_files(directory, files, lambda: apply_fs_group(directory, security.fs_group, read_only=True))
        self._written[name] = files
        self._remember(name, directory, in_memory)

    def _remember(self, name: str, directory: Path, in_memory: bool) -> None:
        self._host_paths[name] = str(directory)
        if in_memory:
            self._tmpfs.add(name)

    def _read_files(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        found = {}
        for volume, path in keys:
            root = self._host_paths.get(volume)
            if root is None:
                continue
            try:
                found[(volume, path)] = read_inside(Path(root), path)
            except (OSError, ValueError):
                continue
        return found

    def _tear_down(self) -> None:
        pods = self._root / "pods"
        if not pods.exists():
            return
        try:
            # Files are removed only when nothing is mounted below: a bind mount would lead to foreign files.
            mountpoint.unmount_below(pods)
            shutil.rmtree(pods)
        except OSError as error:
            raise VolumeError(f"UnmountVolume.TearDown failed for {error.filename}: {error_text(error)}") from error
        self._host_paths.clear()
        self._written.clear()
        self._tmpfs.clear()


def _measure(root: Path, host_paths: Mapping[str, str], tmpfs: Set[str]) -> dict[str, VolumeUsage]:
    measured = {}
    for name, path in host_paths.items():
        if is_own(root, path) and os.path.isdir(path):
            measured[name] = measure_file_system(path) if name in tmpfs else measure_directory(path)
    return measured
