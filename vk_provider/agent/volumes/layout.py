"""Where a pod's directories are, as on any node: <root>/pods/<uid>/{volumes,volume-subpaths,containers,etc-hosts}."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vk_provider.jsontypes import Json

_PLUGINS = {
    "emptyDir": "kubernetes.io~empty-dir",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "hostPath": "kubernetes.io~host-path",
}


def is_own(root: Path, path: str) -> bool:
    """Whether a volume at `path` is a pod's own: in its directory, and not a hostPath that is bound there."""
    return path.startswith(f"{root}/pods/") and f"/{_PLUGINS['hostPath']}/" not in path


def volume_kind(volume: Json) -> str:
    """Return the source's field name: emptyDir, configMap, ...; a volume without any is an emptyDir."""
    return next((key for key, value in volume.items() if key != "name" and value is not None), "emptyDir")


@dataclass(frozen=True)
class PodLayout:
    """Paths of one pod below the kubelet's root directory."""

    root: Path
    uid: str

    @property
    def pod(self) -> Path:
        """The pod's own directory."""
        return self.root / "pods" / self.uid

    @property
    def hosts_file(self) -> Path:
        """The managed /etc/hosts."""
        return self.pod / "etc-hosts"

    def volume(self, kind: str, name: str) -> Path:
        """The volume's directory on the instance."""
        return self.pod / "volumes" / _PLUGINS[kind] / name

    def ready_marker(self, name: str) -> Path:
        """The file that says that an emptyDir was set up: its content must not be touched again."""
        return self.pod / "plugins" / _PLUGINS["emptyDir"] / name / "ready"

    def sub_path(self, volume: str, container: str, index: int) -> Path:
        """Where a container's subPath mount number `index` is bound."""
        return self.pod / "volume-subpaths" / volume / container / str(index)

    def container(self, name: str) -> Path:
        """Files of a container: termination logs."""
        return self.pod / "containers" / name
