"""Frozen settings from a TOML file and the environment. An unknown key, a wrong type or a bad value fails the start.

Every table of the file is a dataclass; every key a field of the same name, explained in the class:

    provider  Settings (the whole file), [identity], [pods], [images], [logs]
    cluster   [cluster], [[registries]]
    node      [[nodes]], [[nodes.taints]]
    pool      [[pools]], [[pools.schedule]]
    cloud     [cloud]; the table of a backend, [cloud.<name>], is a class of its own: cloud.local.settings,
              cloud.simulated.settings
    kubelet   [kubelet]
    budget    [budget], [budget.namespaces.<name>], [ledger]

`VK_PROVIDER_<TABLE>_<KEY>` in the environment overrides a string, number, boolean or list of a top-level table
(VK_PROVIDER_CLUSTER_KUBECONFIG=...). A setting is read by `loader`, made and limited by its type in `build`, and
checked against others in `checks`.
"""

from vk_provider.settings.budget import BudgetSettings, LedgerSettings, NamespaceQuota
from vk_provider.settings.cloud import CloudSettings, find_backend
from vk_provider.settings.cluster import ClusterSettings, RegistrySettings
from vk_provider.settings.kubelet import CLUSTER_CA, KubeletSettings
from vk_provider.settings.loader import ENVIRONMENT_PREFIX, load_settings
from vk_provider.settings.node import NodeSettings, TaintSettings
from vk_provider.settings.pool import PoolSettings, WindowSettings
from vk_provider.settings.provider import IdentitySettings, ImageSettings, LogSettings, PodSettings, Settings

__all__ = [
    "CLUSTER_CA",
    "ENVIRONMENT_PREFIX",
    "BudgetSettings",
    "CloudSettings",
    "ClusterSettings",
    "IdentitySettings",
    "ImageSettings",
    "KubeletSettings",
    "LedgerSettings",
    "LogSettings",
    "NamespaceQuota",
    "NodeSettings",
    "PodSettings",
    "PoolSettings",
    "RegistrySettings",
    "Settings",
    "TaintSettings",
    "WindowSettings",
    "find_backend",
    "load_settings",
]
