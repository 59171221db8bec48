"""Whether the honest pod is served as if it were alone: every route of :10250, and the API server."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tests.hostile.agents import LOG_TEXT, MEMORY_RSS, PROBES
from tests.hostile.api import Door, Namespace
from tests.hostile.apitypes import check_pods, check_summary
from vk_provider.jsontypes import Json

MEMORY = 8 << 20
STREAMED = b"honest" * 1000
CPU_S = 1
_LABELS = r'\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\"n])*",?)*\}'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*(?:{_LABELS})?) (NaN|[+-]?Inf|[-+.0-9e]+)( -?\d{{1,18}})?")
"""One sample in Prometheus' text format: the series, its value and its time."""
OWN_EVENTS = {"InstanceLaunched", "Pulled", "Created", "Started"}


class HonestPod:
    """One pod that must not notice its neighbours. `addresses` are the cloud's: (host IP, pod IP)."""

    def __init__(self, pod: Json, addresses: tuple[str, str], kubelet: Door, namespace: Namespace) -> None:
        metadata = pod["metadata"]
        self.name, self.uid = metadata["name"], metadata["uid"]
        self._path = f"{metadata['namespace']}/{self.name}"
        self._labels = f'namespace="{metadata["namespace"]}",pod="{self.name}"'
        self._addresses = addresses
        self._kubelet, self._namespace = kubelet, namespace

    @property
    def address(self) -> str:
        """Its pod IP."""
        return self._addresses[1]

    async def check_memory_routes(self) -> None:
        """What the provider answers from memory. Raises AssertionError."""
        pods, running_pods = await self._kubelet.get("/pods"), await self._kubelet.get("/runningpods/")
        check_pods(pods)
        check_pods(running_pods)
        self.check_status(self._own(orjson.loads(pods)["items"])["status"])
        running = self._own(orjson.loads(running_pods)["items"])
        assert [item["name"] for item in running["spec"]["containers"]] == ["c"]
        document = await self._kubelet.get("/stats/summary")
        check_summary(document)
        summary = orjson.loads(document)
        (stats,) = (item for item in summary["pods"] if item["podRef"]["uid"] == self.uid)
        assert stats["podRef"]["name"] == self.name and stats["memory"]["workingSetBytes"] == MEMORY
        assert [item["name"] for item in stats["containers"]] == ["c"]
        assert summary["node"]["cpu"]["usageCoreNanoSeconds"] >= 0
        await self._check_metrics("/metrics", "vk_agent_sessions ")
        container = f'{{container="c",{self._labels}}}'
        await self._check_metrics("/metrics/resource", f"container_memory_working_set_bytes{container} {MEMORY} ")
        await self._check_metrics("/metrics/resource", f"pod_cpu_usage_seconds_total{{{self._labels}}} {CPU_S} ")
        rss = f'container_memory_rss{{container="c",id="/c",image="",name="",{self._labels}}} {MEMORY_RSS} '
        await self._check_metrics("/metrics/cadvisor", rss)
        probes = f'{{container="c",{self._labels},pod_uid="{self.uid}",probe_type="Liveness",result="successful"}}'
        await self._check_metrics("/metrics/probes", f"prober_probe_total{probes} {PROBES}")

    async def check_agent_routes(self) -> None:
        """What its agent answers. Raises AssertionError."""
        log = await self._kubelet.get(f"/containerLogs/{self._path}/c")
        assert log.decode() == LOG_TEXT
        status, output = await self._kubelet.ask("POST", f"/run/{self._path}/c", cmd="echo honest")
        assert (status, output) == (200, b"echo honest")
        streams = (f"/exec/{self._path}/c?command=cat&input=1&output=1", f"/attach/{self._path}/c?output=1")
        for path in (*streams, f"/portForward/{self._path}"):
            assert await self._kubelet.stream(path, STREAMED) == STREAMED, path

    async def check_published(self) -> None:
        """What the API server holds. Raises AssertionError."""
        pod = await self._namespace.pod(self.name)
        assert pod is not None and pod["metadata"]["uid"] == self.uid
        self.check_status(pod["status"])

    async def check_events(self) -> None:
        """Nobody else's event is about it."""
        reasons = {event["reason"] for event in await self._namespace.events(self.name)}
        assert reasons <= OWN_EVENTS, reasons

    async def check(self) -> None:
        await self.check_memory_routes()
        await self.check_agent_routes()
        await self.check_published()

    def check_status(self, status: Json) -> None:
        host_ip, pod_ip = self._addresses
        assert (status["phase"], status["hostIP"], status["podIP"]) == ("Running", host_ip, pod_ip)
        assert {item["type"]: item["status"] for item in status["conditions"]}["Ready"] == "True"
        (container,) = status["containerStatuses"]
        assert container["name"] == "c" and container["ready"] and "running" in container["state"]

    def _own(self, pods: list[Json]) -> Json:
        (found,) = (pod for pod in pods if pod["metadata"]["uid"] == self.uid)
        return found

    async def _check_metrics(self, path: str, line: str) -> None:
        text = (await self._kubelet.get(path)).decode()
        check_exposition(text)
        found = [item for item in text.splitlines() if item.startswith(line) or item == line.rstrip()]
        assert len(found) == 1, f"{path} has {len(found)} lines that begin with {line}"


def check_exposition(text: str) -> None:
    """Every line is a comment or a sample: what one agent says breaks no line of another. A family comes once, with all
    of its samples, and no series twice."""
    seen: set[str] = set()
    family = ""
    for line in text.split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert f"# {family}" not in seen, f"{family} comes twice"
            seen.add(f"# {family}")
        if not line or line.startswith("# "):
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample is not None, f"no sample: {line!r}"
        float(sample[4])
        assert line.startswith(family) and sample[1] not in seen, f"twice, or not in its family: {line!r}"
        seen.add(sample[1])


def check_stranger(pod: Json, addresses: tuple[str, str] | None) -> None:
    """A hostile pod has published the cloud's addresses and the spec's containers, whatever its agent said."""
    status: dict[str, Any] = pod.get("status") or {}
    host_ip, pod_ip = addresses or ("", "")
    assert status.get("hostIP") in (None, "", host_ip), status
    assert status.get("podIP") in (None, "", pod_ip), status
    assert {item["ip"] for item in status.get("podIPs") or ()} <= {pod_ip}, status
    assert {item["ip"] for item in status.get("hostIPs") or ()} <= {host_ip}, status
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        names = [item["name"] for item in status.get(field) or ()]
        assert names in ([], ["c"]) if field == "containerStatuses" else names == [], status
