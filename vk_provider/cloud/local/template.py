"""Shared by all instances of a cloud: images, file system layer, the boot specification to fill in."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from vk_provider.cloud.base import InstanceRuntime
from vk_provider.cloud.local import (
    boot,
    cgroup,
    containerd,
    golden,
    images,
    layer,
    network,
    services,
    software,
    userns,
)
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.errors import BadStartError

_PROGRAMS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux"}
"""What is run -> the Debian package that has it."""
_CNI_PLUGINS = ("loopback", "ptp", "host-local", "portmap")
"""What containerd runs for each pod; portmap needs iptables, too, but only for a hostPort."""
_CNI_PLUGINS_IPV6 = ("tuning",)
"""And for each pod that has an IPv6 address."""


@dataclass(frozen=True, slots=True)
class Template:
    """What every launch starts from. `spec` is to be filled in for one instance."""

    images: images.SharedImages
    containerd: containerd.Containerd
    spec: boot.BootSpec
    hierarchies: tuple[cgroup.Hierarchy, ...]
    runtime: InstanceRuntime


def prepare(config: LocalCloudConfig) -> Template:
    """Make and find everything that all instances share (blocking). Raises BadStartError."""
    hierarchies = tuple(cgroup.find_hierarchies())
    userns.check(str(config.root))
    runtime = containerd.find_containerd()
    root = golden.ensure_golden(
        runtime, golden_directory(config), config.preload, config.sandbox_image, config.registries
    )
    shared = images.share_images(root, config.root / "images", config.instances_dir)
    config_text = containerd.build_config(runtime.version, root.sandbox_image, config.cni_bin_dir)
    resolv_conf = layer.read_resolv_conf(config.nameservers)
    environment = services.build_environment(runtime.directories) | containerd.GO_ENVIRONMENT
    agent = [sys.executable, "-m", "vk_provider", "agent", "--metadata-url", boot.METADATA_URL]
    agent += ["--containerd-address", containerd.ADDRESS, "--state-dir", "/var/lib/vk-agent"]
    spec = boot.BootSpec(
        instance_id="",
        hostname="",
        directory="",
        layer=str(layer.ensure_layer(config.root / "layers", config_text, resolv_conf)),
        binds=software.find_software(runtime, config.cni_bin_dir, environment["PATH"]),
        hidden=software.HIDDEN,
        images=str(shared.path),
        addresses=Addresses("", ""),
        network=boot.BridgeNetwork(config.subnet, config.host_ip, config.namespace_path, network.BRIDGE),
        cgroup={},
        cpu_milli=0,
        boot_credit_s=config.boot_credit_s,
        containerd=(runtime.path, "--config", containerd.CONFIG_PATH),
        agent=tuple(agent),
        environment=environment,
    )
    return Template(shared, runtime, spec, hierarchies, containerd.ask_runtime(runtime))


def golden_directory(config: LocalCloudConfig) -> Path:
    """Golden roots live in the cache, unless that is on another file system, where instances could not link to them."""
    cache = Path(config.cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    config.root.mkdir(parents=True, exist_ok=True)
    same = cache.stat().st_dev == config.root.stat().st_dev
    return (cache if same else config.root) / "golden"


def check_machine() -> None:
    """Raise BadStartError with one line when instances cannot run here."""
    if sys.platform != "linux":
        raise BadStartError("local cloud: needs Linux")
    if os.geteuid() != 0:
        raise BadStartError("local cloud: needs root (namespaces, mounts, control groups)")
    for command, package in _PROGRAMS.items():
        if shutil.which(command) is None:
            raise BadStartError(f"local cloud: {command} is not on PATH; install the package {package}")


def check_instance_programs(config: LocalCloudConfig) -> None:
    """Raise BadStartError when a program is missing without which every instance would boot and then fail its pod."""
    path = services.build_environment()["PATH"]
    if shutil.which("nft", path=path) is None:
        raise BadStartError(f"local cloud: nft is not in {path}; install the package nftables")
    for plugin in (*_CNI_PLUGINS, *(_CNI_PLUGINS_IPV6 if config.ipv6_subnet else ())):
        if not os.access(os.path.join(config.cni_bin_dir, plugin), os.X_OK):
            raise BadStartError(
                f"local cloud: no CNI plugin {plugin} in {config.cni_bin_dir}; "
                "install the package containernetworking-plugins"
            )
