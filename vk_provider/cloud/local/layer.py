"""The lower layer of every instance's root: what of the machine's /etc programs need, by an allow-list, and empty
directories. Nothing else of the machine is in it; its software is mounted beside it, see software.py."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vk_provider.cloud.local.containerd import CERTS_DIR, CNI_CONF_DIR, CONFIG_PATH

_DIRECTORIES = {
    "etc": 0o755,
    "usr": 0o755,
    "var/lib/containerd": 0o711,
    "var/lib/cni": 0o755,
    "var/lib/kubelet": 0o755,
    "var/lib/vk-agent": 0o700,
    "var/log": 0o755,
    "var/cache": 0o755,
    "var/tmp": 0o1777,
    "tmp": 0o1777,
    "root": 0o700,
    "home": 0o755,
    "opt": 0o755,
    "srv": 0o755,
    "mnt": 0o755,
    "media": 0o755,
    "run": 0o755,
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
}
_ETC = (
    "alternatives",
    "bindresvport.blacklist",
    "crypto-policies",
    "debian_version",
    "ethertypes",
    "gai.conf",
    "host.conf",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
"""What the dynamic linker, name lookups, TLS and the network tools read. Of these only world-readable files."""
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
}
_LOCAL_CERTIFICATES = "/usr/local/"
"""Certificates that the administrator added lie there, and instances do not see it."""
_SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"


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


@dataclass(frozen=True, slots=True)
class _Entry:
    """Of the layer: a directory (no content), a link (`target`) or a file."""

    mode: int = 0o755
    content: bytes | None = None
    target: str = ""


def ensure_layer(directory: Path, config: str, resolv_conf: str, host: Path = Path("/")) -> Path:
    """Write the layer (blocking) and return its path. One in use is never changed: its name is its content's hash."""
    entries = _plan(config, resolv_conf, host)
    final = directory / hashlib.sha256(repr(sorted(entries.items())).encode()).hexdigest()[:16]
    if final.is_dir():
        return final
    building = directory / f".building.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name, entry in entries.items():
        path = building / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.target:
            os.symlink(entry.target, path)
        elif entry.content is None:
            path.mkdir(exist_ok=True)
            path.chmod(entry.mode)
        else:
            path.write_bytes(entry.content)
            path.chmod(entry.mode)
    building.chmod(0o755)
    building.rename(final)
    return final


def _plan(config: str, resolv_conf: str, host: Path) -> dict[str, _Entry]:
    """Relative path -> what is there."""
    entries = {name: _Entry(mode) for name, mode in _DIRECTORIES.items()}
    for name in os.listdir(host):
        if os.path.islink(host / name) and os.readlink(host / name).startswith("usr/"):
            entries[name] = _Entry(target=os.readlink(host / name))  # /bin, /lib and so on
    entries["var/run"] = _Entry(target="../run")
    for name in _ETC:
        _add(entries, f"etc/{name}", host / "etc" / name)
    entries |= {name[1:]: _Entry() for name in (CERTS_DIR, CNI_CONF_DIR)}
    files = _FILES | {CONFIG_PATH[1:]: config, "etc/resolv.conf": resolv_conf}
    return entries | {name: _Entry(0o644, text.encode()) for name, text in files.items()}


def _add(entries: dict[str, _Entry], name: str, source: Path) -> None:
    """World-readable files and directories, and links as links. Paths that are missing on the host are left out."""
    if source.is_symlink():
        if not os.path.realpath(source).startswith(_LOCAL_CERTIFICATES):
            entries[name] = _Entry(target=os.readlink(source))
            return
        source = source.resolve()
    try:
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
            entries[name] = _Entry(mode & 0o755)
            for inner in os.listdir(source):
                _add(entries, f"{name}/{inner}", source / inner)
        elif stat.S_ISREG(mode) and mode & 0o004:
            entries[name] = _Entry(mode & 0o755, source.read_bytes())
    except FileNotFoundError:
        return
