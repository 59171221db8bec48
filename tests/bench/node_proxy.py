"""kube-proxy (nftables mode) on the real API server, in the network namespace of a pod that nothing else uses."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from pathlib import Path

from tests.bench.cluster import SUBNET, BenchCluster
from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.kubeproxy import write_config
from tests.cluster.process import Process

USER, GROUPS = "system:kube-proxy", ("system:authenticated",)
FULL_SYNC_LIMIT_S = 240.0
_SYNC = re.compile(r'"SyncProxyRules complete"[^\n]*')
_ELAPSED = re.compile(r'elapsed="([^"]+)"')
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


class NodeProxy:
    """start, then `wait_synced`; stop removes nothing: the rules go with the pod's namespace."""

    def __init__(self, cluster: BenchCluster, node: str, namespace: str) -> None:
        self._directory = cluster.root / "kube-proxy"
        self._process = Process("kube-proxy", self._directory, self._directory)
        self._kubeconfig = cluster.plane.kubeconfig_for(USER, GROUPS)
        self._node, self._namespace = node, namespace

    @property
    def pid(self) -> int:
        self._process.require_alive()
        return self._process.pid() or 0

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.yaml"
        config.write_text(write_config(self._node, SUBNET, self._kubeconfig))
        program = build.ensure("controlplane").parent / "kube-proxy"
        enter = shutil.which("nsenter") or "nsenter"
        command = [enter, f"--net={self._namespace}", str(program), f"--config={config}", "--v=2"]
        self._process.start(command)

    def stop(self) -> None:
        self._process.stop()

    async def wait_synced(self, least_s: float) -> float:
        """Seconds of the first sync that took longer than `least_s`, as it logs it. Raises ClusterError."""
        deadline = time.monotonic() + FULL_SYNC_LIMIT_S
        while time.monotonic() < deadline:
            self._process.require_alive()
            times = [took for took in parse_syncs(self._process.log) if took > least_s]
            if times:
                return times[0]
            await asyncio.sleep(0.2)
        raise ClusterError(f"kube-proxy has not synced after {FULL_SYNC_LIMIT_S:.0f} s", f"read {self._process.log}")


def parse_syncs(log: Path) -> list[float]:
    """Seconds of each sync of IPv4 rules that kube-proxy has logged (verbosity 2)."""
    lines = [line for line in _SYNC.findall(log.read_text()) if 'ipFamily="IPv4"' in line]
    return [_seconds(found[1]) for line in lines if (found := _ELAPSED.search(line))]


def _seconds(written: str) -> float:
    """A Go duration, such as 1m2.5s or 12.3ms."""
    return sum(float(value) * _UNITS[unit] for value, unit in re.findall(r"([0-9.]+)(h|ms|m|s|µs|ns)", written))
