"""What a type cannot say of a setting: names that Kubernetes would refuse, settings that do not fit each other."""

from __future__ import annotations

import ipaddress
import os
import re

from vk_provider.cloud.tags import MAX_VALUE, clean_tag
from vk_provider.podmodel.errors import InvalidImageName, QuantityError
from vk_provider.podmodel.imagename import parse_image
from vk_provider.podmodel.labels import is_label_key, is_label_value, is_subdomain, parse_selector
from vk_provider.podmodel.quantity import parse_quantity
from vk_provider.podmodel.sharedpath import find_problem
from vk_provider.settings.build import SettingError
from vk_provider.settings.kubelet import KubeletSettings
from vk_provider.settings.node import NodeSettings
from vk_provider.settings.pool import PoolSettings
from vk_provider.settings.provider import Settings

_SIGNER = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9][A-Za-z0-9._:-]{0,317}")
"""A signerName: a domain and a path (validation of CertificateSigningRequests, ValidateSignerName)."""

MAX_NAMED_IMAGES = 100
"""Each has a store of its own, and is asked for again and again."""

_REGISTRY = re.compile(r"_default|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
"""What an agent accepts: it is the name of a directory there."""


def check_settings(settings: Settings) -> None:
    """Raises SettingError. Of the cloud, only what holds for all backends: each checks its own settings."""
    _check_nodes(settings.nodes)
    _check_pools(settings.pools, settings.nodes)
    owner = settings.cloud.owner
    if not owner or clean_tag(owner, MAX_VALUE) != owner:
        raise SettingError(
            f"cloud.owner {owner!r} is written into a tag of every instance: 1 to {MAX_VALUE} letters, digits, blanks "
            "and . : / = + - _ @"
        )
    if settings.pods.daemonsets not in ("refuse", "run"):
        try:
            parse_selector(settings.pods.daemonsets)
        except ValueError as error:
            raise SettingError(f'pods.daemonsets must be "refuse", "run" or a label selector: {error}') from None
    if not settings.pods.capacity_types:
        raise SettingError("pods.capacity_types is empty: pods would have no instance")
    for name in ("default_cpu", "default_memory", "max_root_disk"):
        _check_quantity(getattr(settings.pods, name), f"pods.{name}")
    for address in settings.cluster.dns:
        _check_address(address, "cluster.dns")
    _check_kubelet(settings.kubelet)
    if len(settings.images.named) > MAX_NAMED_IMAGES:
        raise SettingError(
            f"images.named has {len(settings.images.named)} images, {MAX_NAMED_IMAGES} at most are prepared"
        )
    for name in settings.images.named:
        try:
            parse_image(name)
        except InvalidImageName as error:
            raise SettingError(f"images.named: {name!r}: {error}") from None
    for index, registry in enumerate(settings.registries):
        if not _REGISTRY.fullmatch(registry.host):
            raise SettingError(
                f"registries[{index}].host {registry.host!r} is no host[:port] as image names begin with; "
                "a URL belongs to server"
            )
    for name in settings.budget.namespaces:
        if name != "*" and not is_subdomain(name):
            raise SettingError(f'budget.namespaces: {name!r} is neither the name of a namespace nor "*"')
    if settings.ledger.file and not os.path.isabs(settings.ledger.file):
        raise SettingError(f"ledger.file {settings.ledger.file!r} must be an absolute path")


def _check_nodes(nodes: tuple[NodeSettings, ...]) -> None:
    if not nodes:
        raise SettingError("nodes is empty: at least one [[nodes]] table with a name is needed")
    if len({node.name for node in nodes}) != len(nodes):
        raise SettingError("nodes: two nodes have the same name")
    if len({(node.address, node.port) for node in nodes}) != len(nodes):
        raise SettingError("nodes: two nodes have the same address and port")
    for index, node in enumerate(nodes):
        _check_node(node, f"nodes[{index}]")


def _check_node(node: NodeSettings, where: str) -> None:
    if not is_subdomain(node.name):
        raise SettingError(f"{where}.name {node.name!r} is not a DNS subdomain name")
    if not is_label_value(node.name):
        raise SettingError(f"{where}.name {node.name!r} is too long for the label kubernetes.io/hostname")
    _check_labels(node, where)
    _check_addresses(node, where)
    if problem := find_problem(node.shared_host_paths):
        raise SettingError(f"{where}.shared_host_paths: {problem}")
    for needed in ("cpu", "memory", "pods"):
        if needed not in node.capacity:
            raise SettingError(f"{where}.capacity.{needed} is missing")
    for name, quantity in node.capacity.items():
        _check_quantity(quantity, f"{where}.capacity.{name}")


def _check_quantity(text: str, where: str) -> None:
    try:
        parse_quantity(text)
    except QuantityError:
        raise SettingError(f"{where} {text!r} is not a quantity") from None


def _check_pools(pools: tuple[PoolSettings, ...], nodes: tuple[NodeSettings, ...]) -> None:
    if len({pool.name for pool in pools}) != len(pools):
        raise SettingError("pools: two pools have the same name")
    for index, pool in enumerate(pools):
        _check_pool(pool, nodes, f"pools[{index}]")


def _check_pool(pool: PoolSettings, nodes: tuple[NodeSettings, ...], where: str) -> None:
    if not pool.name or not is_label_value(pool.name):
        raise SettingError(f"{where}.name {pool.name!r} is not a label value")
    names = [node.name for node in nodes]
    if pool.node not in names and (pool.node or len(names) > 1):
        raise SettingError(f"{where}.node {pool.node!r} is none of the nodes: {', '.join(names)}")
    if not (pool.instance_type or (pool.cpu and pool.memory)):
        raise SettingError(f"{where}: an instance_type is needed, or cpu and memory")
    for name in ("cpu", "memory", "disk"):
        try:
            amount = parse_quantity(getattr(pool, name) or "0")
        except QuantityError:
            raise SettingError(f"{where}.{name} {getattr(pool, name)!r} is not a quantity") from None
        if amount < 0:
            raise SettingError(f"{where}.{name} {getattr(pool, name)!r} is less than nothing")
    if pool.state == "stopped" and pool.capacity_type == "spot":
        raise SettingError(f"{where}: a spot instance of one request cannot be stopped, so a stopped pool is on-demand")
    for number, window in enumerate(pool.schedule):
        try:
            window.minutes()
        except SettingError as error:
            raise SettingError(f"{where}.schedule[{number}].{error}") from None


def _check_labels(node: NodeSettings, where: str) -> None:
    """The API server would refuse a Node with an invalid label or taint."""
    for key, value in node.labels.items():
        if not is_label_key(key):
            raise SettingError(f"{where}.labels: {key!r} is not a label key")
        if not is_label_value(value):
            raise SettingError(f"{where}.labels.{key} {value!r} is not a label value")
    for name in ("zone", "region"):
        if not is_label_value(getattr(node, name)):
            raise SettingError(f"{where}.{name} {getattr(node, name)!r} is not a label value")
    for index, taint in enumerate(node.taints):
        if not is_label_key(taint.key):
            raise SettingError(f"{where}.taints[{index}].key {taint.key!r} is not a taint key")
        if not is_label_value(taint.value):
            raise SettingError(f"{where}.taints[{index}].value {taint.value!r} is not a taint value")


def _check_addresses(node: NodeSettings, where: str) -> None:
    if node.address:
        _check_address(node.address, f"{where}.address")
    if not node.ipv6_address:
        return
    _check_address(node.ipv6_address, f"{where}.ipv6_address")
    if ":" not in node.ipv6_address:
        raise SettingError(f"{where}.ipv6_address {node.ipv6_address!r} is not an IPv6 address")
    if ":" in node.address:
        raise SettingError(f"{where}.ipv6_address: address is one of IPv6 already; IPv4 is the primary family of pods")


def _check_kubelet(kubelet: KubeletSettings) -> None:
    _check_address(kubelet.healthz_address, "kubelet.healthz_address")
    if kubelet.serving_certificate == "files" and not (kubelet.certificate_file and kubelet.key_file):
        raise SettingError('kubelet.serving_certificate = "files" needs certificate_file and key_file')
    if not _SIGNER.fullmatch(kubelet.serving_signer):
        raise SettingError(
            f"kubelet.serving_signer {kubelet.serving_signer!r} is no signerName, such as kubernetes.io/kubelet-serving"
        )


def _check_address(text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise SettingError(f"{where} {text!r} is not an IP address") from None
