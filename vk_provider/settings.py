"""Frozen settings from a TOML file and the environment. An unknown key, a wrong type or a bad value fails the start.

Every table of the file is a dataclass here; every key a field of the same name. `VK_PROVIDER_<TABLE>_<KEY>` in the
environment overrides a string, number or boolean of a top-level table (VK_PROVIDER_CLUSTER_KUBECONFIG=...).
"""

from __future__ import annotations

import ipaddress
import math
import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vk_provider.errors import BadStartError
from vk_provider.podmodel.errors import QuantityError
from vk_provider.podmodel.labels import is_label_key, is_label_value, is_subdomain, parse_selector
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.sharedpath import find_problem

ENVIRONMENT_PREFIX = "VK_PROVIDER_"
MIN_CERTIFICATE_TTL_S = 60
MIN_SHARED_BYTES = 16 * 2**20
CLUSTER_CA = "cluster"
"""kubelet.client_ca_file: the CAs that the API server accepts."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """kubeconfig: path; "" means in-cluster configuration, else $KUBECONFIG or ~/.kube/config."""

    kubeconfig: str = ""
    context: str = ""
    domain: str = "cluster.local"
    dns: tuple[str, ...] = ()
    request_connections: int = 64


@dataclass(frozen=True, slots=True)
class TaintSettings:
    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


DEFAULT_TAINTS = (TaintSettings("virtual-kubelet.io/provider", "vk-provider"),)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One Node object to register.

    address:  the Node's InternalIP, on which the kubelet API listens; "" takes the cloud's or the default route's
    ipv6_address: a second InternalIP beside an IPv4 `address`, where node ports and host ports are reached, too; the
              pods of dual-stack Services need none
    port:     of the kubelet API
    taint:    false registers the Node without `taints`
    capacity: quantities of the whole Node, the limit of the requests of all its pods
    shared_host_paths: directories (below /data, /mnt, /srv, /tmp or /var/tmp) that the hostPath volumes of all pods of
              this Node share, as on the disk of one machine: who may use a hostPath below them reads, changes and
              deletes what others left there. Only on clouds that can (`local`)
    services_here: whether Services are translated in the network namespace of the provider: node ports at the Node's
              address, ClusterIPs for the processes of the machine. "auto": where the address is one of this machine's
              and nft works, unless the cloud is simulated. Node ports at the instances need nothing of this
    """

    name: str
    zone: str = ""
    region: str = ""
    architecture: Literal["amd64", "arm64"] = "amd64"
    address: str = ""
    ipv6_address: str = ""
    port: int = 10250
    taint: bool = True
    taints: tuple[TaintSettings, ...] = DEFAULT_TAINTS
    services_here: Literal["auto", "on", "off"] = "auto"
    labels: Mapping[str, str] = field(default_factory=dict)
    shared_host_paths: tuple[str, ...] = ()
    capacity: Mapping[str, str] = field(
        default_factory=lambda: {"cpu": "1000", "memory": "4Ti", "pods": "5000", "ephemeral-storage": "20Ti"}
    )


@dataclass(frozen=True, slots=True)
class LocalCloudSettings:
    """The embedded cloud: instances are Linux namespaces on this machine.

    ipv6_subnet:   of /96 or larger, such as "fd00:201::/64": new instances and their pods have an IPv6 address beside
                   the one of `subnet`; "" for none
    sandbox_image: "" builds a minimal pause image; else a reference that the instances can pull
                   or the path of an OCI archive
    preload:       OCI archives (paths) or image references put once into the containerd root that every instance
                   starts from
    nameservers:   resolv.conf of the instances; empty = the host's
    max_instances: the account's limit
    boot_credit_s: seconds after launch in which the CPU quota of the instance type is not enforced
    shared_bytes:  of all shared_host_paths of a Node together
    """

    name: str = "local"
    subnet: str = "10.201.0.0/16"
    ipv6_subnet: str = ""
    state_dir: str = "/var/lib/vk-provider"
    sandbox_image: str = ""
    preload: tuple[str, ...] = ()
    launch_concurrency: int = 4
    nameservers: tuple[str, ...] = ()
    max_instances: int = 250
    boot_credit_s: float = 10.0
    shared_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class SimulatedCloudSettings:
    """In-process agents that answer at once. Only for benchmarks and for trying out scheduling."""

    launch_latency_s: float = 0.0
    boot_latency_s: float = 0.0
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Instances and their time limits.

    backend: which cloud
    owner:   tags every instance, so it must be unique per cluster and set of Nodes
    boot_timeout_s: a new instance whose agent does not answer by then is replaced
    agent_monitor_grace_s: a pod whose agent is silent for longer is not Ready any more, as the pods of a Node whose
                           kubelet is silent (node-monitor-grace-period)
    """

    backend: Literal["local", "simulated"] = "local"
    owner: str = "vk-provider"
    boot_timeout_s: float = 300.0
    agent_monitor_grace_s: float = 40.0
    orphan_sweep_s: float = 60.0
    orphan_min_age_s: float = 120.0
    local: LocalCloudSettings = field(default_factory=LocalCloudSettings)
    simulated: SimulatedCloudSettings = field(default_factory=SimulatedCloudSettings)


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """The HTTPS API.

    serving_certificate: "csr" asks the cluster for kubernetes.io/kubelet-serving certificates and rotates them;
                         "files" reads certificate_file and key_file and follows their changes
    client_ca_file:      CAs of the accepted client certificates: "cluster" for those that the API server accepts
                         (ConfigMap kube-system/extension-apiserver-authentication, read again every minute), the path
                         of a bundle in PEM, whose changes are followed, or "" for none: bearer tokens only
    """

    serving_certificate: Literal["csr", "files"] = "csr"
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = CLUSTER_CA
    certificate_dir: str = "/var/lib/vk-provider/pki"
    streaming_idle_timeout_s: float = 14400.0
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 10248


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Where the provider's CA is stored: a directory, or a Secret "namespace/name" when the provider may move."""

    directory: str = "/var/lib/vk-provider/identity"
    secret: str = ""
    certificate_ttl_s: int = 86400
    boot_secret_ttl_s: int = 86400


@dataclass(frozen=True, slots=True)
class PodSettings:
    """daemonsets: "refuse" leaves DaemonSet pods Pending with an event, "run" gives each its instance; else a label
                 selector as of `kubectl -l`: those that it selects run, the others are refused

    archive_dir:         logs of finished pods, kept until the pod object is gone
    archive_bytes:       of one container's log, the newest lines; as a kubelet's containerLogMaxSize
    archive_pod_bytes:   of all logs of one pod, so that a pod with many containers cannot fill the archive
    archive_total_bytes: of the whole directory: the pods archived first make room for newer ones. A pod's log is rarely
                         over 1 MiB, so this holds the last thousands of pods on an ordinary disk
    archive_timeout_s:   for one pod's logs, after which its instance is terminated without
    """

    daemonsets: str = "refuse"
    archive_dir: str = "/var/lib/vk-provider/logs"
    archive_bytes: int = 10 * 2**20
    archive_pod_bytes: int = 50 * 2**20
    archive_total_bytes: int = 5 * 2**30
    archive_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class LogSettings:
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """A registry host for containerd on the instances. server: URL, "" derives it from the host."""

    host: str
    server: str = ""
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    nodes: tuple[NodeSettings, ...]
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    kubelet: KubeletSettings = field(default_factory=KubeletSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    pods: PodSettings = field(default_factory=PodSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    registries: tuple[RegistrySettings, ...] = ()


def load_settings(path: str | Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read, override from the environment, check. Raises BadStartError with one line that names file and key."""
    try:
        document = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise BadStartError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadStartError(f"{path} is not valid TOML: {error}") from None
    _override(document, os.environ if environment is None else environment)
    try:
        settings: Settings = _build(Settings, document, "")
        _check(settings)
    except _SettingError as error:
        raise BadStartError(f"{path}: {error}") from None
    return settings


class _SettingError(Exception):
    pass


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    for table in fields(Settings):
        table_type = get_type_hints(Settings)[table.name]
        if not is_dataclass(table_type):
            continue
        hints = get_type_hints(table_type)
        for item in fields(table_type):
            text = environment.get(f"{ENVIRONMENT_PREFIX}{table.name}_{item.name}".upper())
            if text is None:
                continue
            kind = hints[item.name]
            value: Any = text
            if kind in (int, float):
                try:
                    value = kind(text)
                except ValueError:
                    value = text
            elif kind is bool:
                value = text.lower() in ("1", "true", "yes")
            elif get_origin(kind) is tuple:
                value = [part for part in text.split(",") if part]
            held = document.setdefault(table.name, {})
            if isinstance(held, dict):  # else `_build` reports the error
                held[item.name] = value


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise _SettingError(f"{where} must be one of {', '.join(map(repr, get_args(kind)))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _SettingError(f"{where} must be a list")
        return tuple(_build(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _SettingError(f"{where} must be a table")
        return {str(key): _build(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        raise _SettingError(f"{where}: unions are not settings")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _SettingError(f"{where} must be a {kind.__name__}, not {value!r}")
    if kind is float and not math.isfinite(value):
        raise _SettingError(f"{where} must be a finite number, not {value!r}")
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _SettingError(f"{where} must be a table")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        known = ", ".join(sorted(hints))
        raise _SettingError(f"unknown key {f'{where}.{unknown[0]}'.lstrip('.')} (known here: {known})")
    arguments = {}
    for item in fields(kind):
        path = f"{where}.{item.name}".lstrip(".")
        if item.name in value:
            arguments[item.name] = _build(hints[item.name], value[item.name], path)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _SettingError(f"{path} is missing")
    return kind(**arguments)


_MAY_BE_ZERO = ("port", "healthz_port", "launch_latency_s", "boot_latency_s", "boot_credit_s", "orphan_min_age_s")


def _check_numbers(settings: Any, where: str) -> None:
    """Limits, sizes and intervals: with 0 or less the provider would hang or loop without a pause."""
    for item in fields(settings):
        value, path = getattr(settings, item.name), f"{where}{item.name}"
        if is_dataclass(value):
            _check_numbers(value, f"{path}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if item.name in _MAY_BE_ZERO and value < 0:
                raise _SettingError(f"{path} must not be negative")
            if item.name not in _MAY_BE_ZERO and value <= 0:
                raise _SettingError(f"{path} must be more than 0")


def _check_labels(node: NodeSettings, where: str) -> None:
    """The API server would refuse a Node with an invalid label or taint."""
    for key, value in node.labels.items():
        if not is_label_key(key):
            raise _SettingError(f"{where}.labels: {key!r} is not a label key")
        if not is_label_value(value):
            raise _SettingError(f"{where}.labels.{key} {value!r} is not a label value")
    for name in ("zone", "region"):
        if not is_label_value(getattr(node, name)):
            raise _SettingError(f"{where}.{name} {getattr(node, name)!r} is not a label value")
    for index, taint in enumerate(node.taints):
        if not is_label_key(taint.key):
            raise _SettingError(f"{where}.taints[{index}].key {taint.key!r} is not a taint key")
        if not is_label_value(taint.value):
            raise _SettingError(f"{where}.taints[{index}].value {taint.value!r} is not a taint value")


def _check(settings: Settings) -> None:
    if not settings.nodes:
        raise _SettingError("nodes is empty: at least one [[nodes]] table with a name is needed")
    names = [node.name for node in settings.nodes]
    if len(set(names)) != len(names):
        raise _SettingError("nodes: two nodes have the same name")
    ports = [(node.address, node.port) for node in settings.nodes]
    if len(set(ports)) != len(ports):
        raise _SettingError("nodes: two nodes have the same address and port")
    for index, node in enumerate(settings.nodes):
        if not is_subdomain(node.name):
            raise _SettingError(f"nodes[{index}].name {node.name!r} is not a DNS subdomain name")
        if not is_label_value(node.name):
            raise _SettingError(f"nodes[{index}].name {node.name!r} is too long for the label kubernetes.io/hostname")
        _check_labels(node, f"nodes[{index}]")
        if node.address:
            _check_address(node.address, f"nodes[{index}].address")
        _check_second_address(node, f"nodes[{index}]")
        if problem := find_problem(node.shared_host_paths):
            raise _SettingError(f"nodes[{index}].shared_host_paths: {problem}")
        if not 0 <= node.port <= 65535:
            raise _SettingError(f"nodes[{index}].port {node.port} is not a TCP port")
        for needed in ("cpu", "memory", "pods"):
            if needed not in node.capacity:
                raise _SettingError(f"nodes[{index}].capacity.{needed} is missing")
        for name, quantity in node.capacity.items():
            try:
                parse_quantity(quantity)
            except QuantityError:
                raise _SettingError(f"nodes[{index}].capacity.{name} {quantity!r} is not a quantity") from None
    if settings.pods.daemonsets not in ("refuse", "run"):
        try:
            parse_selector(settings.pods.daemonsets)
        except ValueError as error:
            raise _SettingError(f'pods.daemonsets must be "refuse", "run" or a label selector: {error}') from None
    if settings.identity.certificate_ttl_s < MIN_CERTIFICATE_TTL_S:
        raise _SettingError(f"identity.certificate_ttl_s must be at least {MIN_CERTIFICATE_TTL_S}")
    _check_numbers(settings, "")
    if settings.kubelet.healthz_port > 65535:
        raise _SettingError(f"kubelet.healthz_port {settings.kubelet.healthz_port} is not a TCP port")
    _check_address(settings.kubelet.healthz_address, "kubelet.healthz_address")
    for address in settings.cluster.dns:
        _check_address(address, "cluster.dns")
    _check_subnets(settings.cloud.local)
    if settings.cloud.local.shared_bytes < MIN_SHARED_BYTES:
        raise _SettingError(f"cloud.local.shared_bytes must be at least {MIN_SHARED_BYTES}")
    if settings.kubelet.serving_certificate == "files" and not (
        settings.kubelet.certificate_file and settings.kubelet.key_file
    ):
        raise _SettingError('kubelet.serving_certificate = "files" needs certificate_file and key_file')


def _check_subnets(cloud: LocalCloudSettings) -> None:
    try:
        network = ipaddress.ip_network(cloud.subnet)
    except ValueError as error:
        raise _SettingError(f"cloud.local.subnet: {error}") from None
    if network.version != 4:
        raise _SettingError(
            "cloud.local.subnet must be an IPv4 network: instances with IPv6 addresses alone are not supported; for "
            "both families, set ipv6_subnet beside it"
        )
    if network.prefixlen > 24:
        raise _SettingError("cloud.local.subnet must be an IPv4 network of /24 or larger")


def _check_second_address(node: NodeSettings, where: str) -> None:
    if not node.ipv6_address:
        return
    _check_address(node.ipv6_address, f"{where}.ipv6_address")
    if ":" not in node.ipv6_address:
        raise _SettingError(f"{where}.ipv6_address {node.ipv6_address!r} is not an IPv6 address")
    if ":" in node.address:
        raise _SettingError(f"{where}.ipv6_address: address is one of IPv6 already; IPv4 is the primary family of pods")


def _check_address(text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise _SettingError(f"{where} {text!r} is not an IP address") from None
