"""The configuration that the instance's containerd is started with (1.6/1.7: version 2, 2.x: version 3)."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from dataclasses import dataclass

from vk_provider.cloud.base import InstanceRuntime
from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.errors import BadStartError

ADDRESS = "/run/containerd/containerd.sock"
CONFIG_PATH = "/etc/containerd/config.toml"
CERTS_DIR = "/etc/containerd/certs.d"
CNI_CONF_DIR = "/etc/cni/net.d"
SHIM = "containerd-shim-runc-v2"

_UNUSED_V2 = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.internal.v1.opt",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.grpc.v1.healthcheck",
    "io.containerd.grpc.v1.version",
)
"""Each costs at containerd's start, also where it does nothing: the order of the plugins is found by comparing their
names. The cgroups monitor serves metrics that nobody asks for; shims tell of lack of memory themselves."""
_UNUSED_V3 = (
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.differ.v1.erofs",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
)

GO_ENVIRONMENT = {"GOGC": "400", "GOMEMLIMIT": "96MiB"}
"""For containerd and what it starts (shims, runc, CNI plugins): Go's first collections of garbage come at 16 MB of heap
instead of 4, which programs that end at once never have and a containerd that has just started does not either. What
stays runs into the limit, which makes Go collect as often as it takes."""


@dataclass(frozen=True, slots=True)
class Containerd:
    """The containerd found on this machine; version such as (1, 6, 20).

    shim_path, runc_path: what it starts
    directories: where these were found, in PATH's order: an instance looks there first, so that a containerd beside the
                 distribution's does not get the other one's shim
    """

    path: str
    ctr_path: str
    version: tuple[int, int, int]
    shim_path: str = SHIM
    runc_path: str = "runc"
    directories: tuple[str, ...] = ()


def require_programs() -> dict[str, str]:
    """Paths of containerd, its shim, ctr and runc; BadStartError names what to install."""
    paths = {name: shutil.which(name) for name in ("containerd", SHIM, "ctr", "runc")}
    for name, found in paths.items():
        if found is None:
            raise BadStartError(f"local cloud: {name} is not on PATH; install the package containerd (and runc)")
    return {name: os.path.abspath(str(found)) for name, found in paths.items()}


def find_containerd() -> Containerd:
    """Look for containerd and what belongs to it on PATH and ask for the version (blocking). Raises BadStartError."""
    paths = require_programs()
    try:
        version = parse_version(run_command([paths["containerd"], "--version"]))
    except CommandError as error:
        raise BadStartError(f"local cloud: {error}") from None
    used = {os.path.dirname(paths[name]) for name in ("containerd", SHIM, "runc")}
    searched = [os.path.abspath(directory) for directory in os.get_exec_path()]
    directories = tuple(dict.fromkeys(directory for directory in searched if directory in used))
    return Containerd(paths["containerd"], paths["ctr"], version, paths[SHIM], paths["runc"], directories)


def parse_version(text: str) -> tuple[int, int, int]:
    """Read the output of `containerd --version`."""
    match = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise BadStartError(f"local cloud: cannot read containerd's version from {text.strip()!r}")
    return int(match[1]), int(match[2]), int(match[3])


def describe_runtime(version: tuple[int, int, int], runc_features: str, kernel_release: str) -> InstanceRuntime:
    """What an instance's containerd says of itself once it runs. `runc_features`: output of `runc features`, "" where
    runc does not know the command (before 1.1)."""
    text = ".".join(map(str, version))
    if version < (2, 0):
        return InstanceRuntime("containerd", text)
    mount_options = (json.loads(runc_features).get("mountOptions") or []) if runc_features else []
    return InstanceRuntime(
        "containerd",
        text,
        ("", "runc"),
        image_volumes=version >= (2, 1),
        # As containerd finds it out itself: mount_setattr(2) came with Linux 5.12, runc says whether it uses it.
        recursive_read_only_mounts="rro" in mount_options and _kernel_version(kernel_release) >= (5, 12),
        supplemental_groups_policy=True,
    )


def ask_runtime(found: Containerd) -> InstanceRuntime:
    """describe_runtime for the programs found (blocking)."""
    try:
        features = run_command([found.runc_path, "features"])
    except CommandError:
        features = ""
    return describe_runtime(found.version, features, platform.release())


def _kernel_version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


_SANDBOXES = """\
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true"""
"""In the user namespace of an instance nothing can lower an oom_score_adj (every sandbox would fail), nor load AppArmor
profiles."""


def build_config(version: tuple[int, ...], sandbox_image: str, cni_bin_dir: str) -> str:
    """Render config.toml for the instance."""
    if version >= (2, 0):
        return _build_v3(sandbox_image, cni_bin_dir)
    return f"""{_build_head(2, _UNUSED_V2)}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
{_SANDBOXES}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  stats_collect_period = 10
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_bin_dir}"
  conf_dir = "{CNI_CONF_DIR}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{CERTS_DIR}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def _build_v3(sandbox_image: str, cni_bin_dir: str) -> str:
    return f"""{_build_head(3, _UNUSED_V3)}
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{sandbox_image}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{CERTS_DIR}"
[plugins."io.containerd.cri.v1.runtime"]
{_SANDBOXES}
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni_bin_dir}"]
  conf_dir = "{CNI_CONF_DIR}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
"""


def _build_head(version: int, unused: tuple[str, ...]) -> str:
    """What does not depend on the version of the file, but for the names of plugins."""
    return f"""version = {version}
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = {_toml_list(unused)}
[debug]
  level = "warn"
[grpc]
  address = "{ADDRESS}"
[ttrpc]
  address = "/run/containerd/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt\""""


def _toml_list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
