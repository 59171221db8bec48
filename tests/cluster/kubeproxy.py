"""kube-proxy as the judge of our tables: in nftables mode, in a network namespace."""

from __future__ import annotations

from pathlib import Path

# The sysctls of conntrack are not writable in a network namespace. It syncs as fast as it can, as we do: its default is
# to wait for a second.
_CONFIG = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: {node}
clusterCIDR: {pods}
detectLocalMode: ClusterCIDR
clientConnection: {{kubeconfig: {kubeconfig}, qps: 1000, burst: 1000}}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
nftables: {{minSyncPeriod: 1ms, syncPeriod: 30s}}
oomScoreAdj: 0
"""


def write_config(node: str, pods: str, kubeconfig: Path) -> str:
    """Its configuration file. pods: the networks of the node's own pods, separated by commas."""
    return _CONFIG.format(node=node, pods=pods, kubeconfig=kubeconfig)
