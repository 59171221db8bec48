"""What is laid over the host's root in every instance: configuration, and empty directories that hide the host's."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from vk_provider.cloud.local.containerd import CERTS_DIR, CNI_CONF_DIR, CONFIG_PATH

_EMPTY = ("/etc/containerd", "/etc/cni", "/tmp", "/var/tmp", "/var/log", "/var/lib/containerd", "/var/lib/kubelet")
_OWN = ("/var/lib/vk-agent", "/var/lib/cni", "/var/lib/vk-provider", "/run", "/mnt", "/media", "/dev", "/proc", "/sys")
_HOMES = ("/root", "/home")
"""Keys, kubeconfigs and whatever else people keep: a pod with hostPath / has no business there."""
_STICKY = ("/tmp", "/var/tmp")
_SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"


def hidden_directories(state_dir: str) -> tuple[str, ...]:
    """Host directories whose content no instance sees."""
    return (*_EMPTY, *_OWN, *_HOMES, state_dir)


def read_resolv_conf(nameservers: Sequence[str]) -> str:
    """resolv.conf of an instance: the given servers or the host's; of a local stub resolver, its upstream servers."""
    if nameservers:
        return "".join(f"nameserver {address}\n" for address in nameservers)
    try:
        text = Path("/etc/resolv.conf").read_text()
        if "nameserver 127." in text and os.path.exists(_SYSTEMD_RESOLV_CONF):
            text = Path(_SYSTEMD_RESOLV_CONF).read_text()
    except OSError:
        return ""
    return text


def ensure_layer(directory: Path, config: str, resolv_conf: str, state_dir: str) -> Path:
    """Write the layer (blocking) and return its path. One in use is never changed: its name is its content's hash."""
    key = hashlib.sha256("\0".join(("2", config, resolv_conf, state_dir)).encode()).hexdigest()[:16]
    final = directory / key
    if final.is_dir():
        return final
    building = directory / f".{key}.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in hidden_directories(state_dir):
        path = _make(building, name)
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    for name in (CERTS_DIR, CNI_CONF_DIR):
        _make(building, name)
    for name in _STICKY:
        (building / name[1:]).chmod(0o1777)
    (building / CONFIG_PATH[1:]).write_text(config)
    (building / "etc/resolv.conf").write_text(resolv_conf)
    building.chmod(0o755)
    building.rename(final)
    return final


def _make(root: Path, name: str) -> Path:
    """Make a directory in the layer with the host's modes, as the layer's modes are those that instances see."""
    path, host = root, Path("/")
    for part in Path(name).parts[1:]:
        path, host = path / part, host / part
        if not path.exists():
            path.mkdir()
            path.chmod(host.stat().st_mode & 0o7777 if host.is_dir() else 0o755)
    return path


def find_binds(needed: Iterable[str], hidden: Sequence[str]) -> tuple[str, ...]:
    """Those needed host paths that instances do not see through the layers: on another file system, or hidden. Where
    links lead to one, each step of the way is needed."""
    root_device = os.stat("/").st_dev
    binds: list[str] = []
    for path in sorted({step for name in needed for step in _follow(name)}):
        if any(_is_within(path, bound) for bound in binds):
            continue
        if os.stat(path).st_dev != root_device or any(_is_within(path, name) for name in hidden):
            binds.append(path)
    return tuple(binds)


def _follow(path: str) -> list[str]:
    """The path, each path that a link at its end names, and the path without any link."""
    steps = [path]
    while os.path.islink(steps[-1]) and len(steps) < 40:
        steps.append(os.path.normpath(os.path.join(os.path.dirname(steps[-1]), os.readlink(steps[-1]))))
    return [*steps, os.path.realpath(path)]


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
