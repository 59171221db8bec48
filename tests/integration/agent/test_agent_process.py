"""The agent as a process: from boot data to a running pod, and through restarts, reached as the provider reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.agent.private_containerd import BUSYBOX_IMAGE, POD_IP, PRIMARY_IP, SUBNET, PrivateContainerd
from tests.listener import Listener
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.session import Slot
from vk_provider.cloud.base import TAG_LAUNCH, Instance, InstanceState
from vk_provider.errors import AgentIdentityError, AgentUnreachableError
from vk_provider.wire import routes
from vk_provider.wire.bootdata import AGENT_PORT, BootData

pytestmark = pytest.mark.real

IDENTITY = ProviderIdentity.create(datetime.now(UTC))
MASTER = IDENTITY.master_secrets[-1]
LAUNCH = build_launch_id(MASTER, "token")
INSTANCE = Instance(
    instance_id="i-0123456789abcdef0",
    state=InstanceState.RUNNING,
    instance_type="t.small",
    zone="local-a",
    capacity_type="on-demand",
    architecture="amd64",
    primary_ip=PRIMARY_IP,
    pod_ip=POD_IP,
    launch_time=0.0,
    tags={TAG_LAUNCH: LAUNCH},
)
MAC = "02:00:00:00:00:01"
INTERFACE = f"meta-data/network/interfaces/macs/{MAC}"


def build_metadata(boot_data: BootData) -> dict[str, str]:
    return {
        "api/token": "token",
        "user-data": boot_data.to_user_data(),
        "meta-data/instance-id": INSTANCE.instance_id,
        "meta-data/mac": MAC,
        "meta-data/local-ipv4": PRIMARY_IP,
        "meta-data/instance-type": INSTANCE.instance_type,
        "meta-data/placement/availability-zone": INSTANCE.zone,
        f"{INTERFACE}/local-ipv4s": f"{PRIMARY_IP}\n{POD_IP}",
        f"{INTERFACE}/subnet-ipv4-cidr-block": SUBNET,
    }


@contextlib.asynccontextmanager
async def metadata_endpoint(answers: dict[str, str]) -> AsyncIterator[str]:
    """Serves `answers` as long as there are any; what is not among them is not found, as on EC2."""

    async def handle(request: web.Request) -> web.Response:
        if not answers:
            raise web.HTTPServiceUnavailable
        text = answers.get(request.match_info["path"])
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/latest/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class AgentProcess:
    """`vk-provider agent` in the containerd's network namespace."""

    def __init__(self, containerd: PrivateContainerd, metadata_url: str) -> None:
        directory = (
            containerd.directory / f"agent-{uuid.uuid4().hex[:6]}"
        )  # an instance has one pod: no state is shared
        directory.mkdir()
        self._command = [
            *(sys.executable, "-m", "vk_provider", "agent"),
            *("--metadata-url", metadata_url),
            *("--containerd-address", containerd.address),
            *("--state-dir", str(directory / "state")),
            *("--kubelet-dir", str(directory / "kubelet")),
            *("--run-dir", str(directory / "run")),
            *("--cni-conf-dir", str(containerd.cni_dir)),
            *("--certs-dir", str(containerd.certs_dir)),
            *("--ipam-dir", str(containerd.directory / "ipam")),
        ]
        self.state_dir = directory / "state"
        self.log_path = directory / "agent.log"
        self.metadata: dict[str, str] = {}
        """What the metadata endpoint answers; cleared, it answers no more."""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(sig)
        async with asyncio.timeout(15):
            return await self._process.wait()


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 5
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come up"
        time.sleep(0.01)


async def dial(connector: HttpsConnector, limit_s: float = 15.0) -> Listener:
    async with asyncio.timeout(limit_s):
        while True:
            try:
                return Listener(await connector.open_session(INSTANCE))
            except AgentUnreachableError:
                await asyncio.sleep(0.01)


async def wait_until_listening(connector: HttpsConnector) -> None:
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(AgentUnreachableError):
                return await connector._probe(INSTANCE)
            await asyncio.sleep(0.01)


def is_phase(phase: str) -> Callable[[dict[str, Any]], bool]:
    return lambda m: m["type"] == "status" and m["status"].get("phase") == phase


def pod_message(containerd: PrivateContainerd) -> dict[str, Any]:
    uid = str(uuid.uuid4())
    containerd.pod_uids.append(uid)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{uuid.uuid4().hex[:6]}",
            "namespace": "default",
            "uid": uid,
            "generation": 1,
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "spec": {
            "nodeName": "nodeless",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "300"],
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }
    node = {"name": "nodeless", "allocatable": {"cpu": "2", "memory": "4Gi"}, "clusterDNS": [], "clusterDomain": ""}
    return {"type": "pod", "pod": pod, "references": {}, "services": [], "node": node}


@pytest.fixture
async def connector() -> AsyncIterator[HttpsConnector]:
    made = HttpsConnector(IDENTITY, 3600, AGENT_PORT)
    yield made
    await made.close()


@pytest.fixture
async def agent(
    containerd: PrivateContainerd, runtime: ContainerRuntime, connector: HttpsConnector
) -> AsyncIterator[AgentProcess]:
    """A started agent that trusts the connector's CA and was told the boot secret of its launch."""
    boot_data = BootData(ca_pem=IDENTITY.ca_pem, boot_secret=derive_boot_secret(MASTER, LAUNCH))
    async with metadata_endpoint(answers := build_metadata(boot_data)) as url:
        process = AgentProcess(containerd, url)
        process.metadata = answers
        await process.start()
        try:
            yield process
        finally:
            await process.stop(signal.SIGKILL)
            print(process.log_path.read_text()[-6000:])


async def test_a_pod_survives_a_killed_agent_and_is_deleted_by_the_next(
    agent: AgentProcess, connector: HttpsConnector, containerd: PrivateContainerd, runtime: ContainerRuntime
):
    session = await dial(connector)
    message = pod_message(containerd)
    (hello,) = await session.wait_for(lambda m: m["type"] == "hello")
    assert (hello["instanceID"], hello["podUID"]) == (INSTANCE.instance_id, "")
    session.session.put(Slot.POD, message)
    seen = await session.wait_for(is_phase("Running"))
    (container,) = await runtime.list_containers()
    status = seen[-1]["status"]
    assert status["podIP"] == POD_IP
    assert status["containerStatuses"][0]["containerID"] == f"containerd://{container.id}"

    def is_event(message: dict[str, Any]) -> bool:
        return bool(message["type"] == "event")

    events = [m for m in seen if is_event(m)] or (await session.wait_for(is_event))[-1:]
    last_seq = max(m["seq"] for m in events)
    await session.close()

    await agent.stop(signal.SIGKILL)
    await agent.start()
    session = await dial(connector)
    session.session.put(Slot.POD, message)  # as a provider does on each session
    seen = await session.wait_for(is_phase("Running"))
    assert [(c.id, c.state) for c in await runtime.list_containers()] == [(container.id, pb.CONTAINER_RUNNING)]
    assert seen[-1]["status"]["containerStatuses"][0]["restartCount"] == 0
    # Nobody has acknowledged the events of the killed agent: they come again, as what they were.
    repeated = [m for m in seen if is_event(m)] or (await session.wait_for(is_event))[-1:]
    assert repeated[0] == events[0]

    deleted = message["pod"]["metadata"] | {
        "deletionTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "deletionGracePeriodSeconds": 1,
        "generation": 2,
    }
    session.session.put(Slot.POD, message | {"pod": message["pod"] | {"metadata": deleted}})
    seen = await session.wait_for(lambda m: m["type"] == "status" and m["finished"])
    assert all(m["seq"] > last_seq for m in seen if m["type"] == "event" and m["reason"] == "Killing")
    states = [c.state for c in await runtime.list_containers()]
    assert pb.CONTAINER_RUNNING not in states
    await session.close()


async def test_sigterm_stops_the_agent_cleanly_and_the_next_takes_the_pod_over(
    agent: AgentProcess, connector: HttpsConnector, containerd: PrivateContainerd, runtime: ContainerRuntime
):
    session = await dial(connector)
    message = pod_message(containerd)
    session.session.put(Slot.POD, message)
    await session.wait_for(is_phase("Running"))
    await asyncio.to_thread(wait_for_file, agent.state_dir / "journal.json")
    started = time.monotonic()
    assert await agent.stop() == 0
    assert time.monotonic() - started < 5
    (container,) = await runtime.list_containers()
    assert container.state == pb.CONTAINER_RUNNING
    assert "Traceback" not in agent.log_path.read_text()
    await session.close()

    await agent.start()
    session = await dial(connector)
    (hello, *_) = await session.wait_for(is_phase("Running"))
    assert hello["podUID"] == message["pod"]["metadata"]["uid"]
    await session.close()


async def test_a_restarted_agent_does_without_the_metadata_endpoint_that_the_first_one_closed(
    agent: AgentProcess, connector: HttpsConnector
):
    await (await dial(connector)).close()
    agent.metadata.clear()
    await agent.stop(signal.SIGKILL)
    await agent.start()
    session = await dial(connector)
    (hello,) = await session.wait_for(lambda m: m["type"] == "hello")
    assert hello["instanceID"] == INSTANCE.instance_id
    await session.close()


async def test_an_agent_of_another_launch_gets_no_certificate_and_its_own_provider_finds_it_again(
    agent: AgentProcess, connector: HttpsConnector
):
    """What it was told is the secret of `LAUNCH`; to the provider this address belongs to other launches first."""
    await wait_until_listening(connector)
    for tags in ({TAG_LAUNCH: build_launch_id(MASTER, "another token")}, {}):
        with pytest.raises(AgentIdentityError):
            await connector.open_session(replace(INSTANCE, tags=tags))
    assert not list(agent.state_dir.rglob("certificate.pem"))
    await (await dial(connector)).close()
    assert list(agent.state_dir.rglob("certificate.pem"))
    restarted = HttpsConnector(IDENTITY, 3600, AGENT_PORT)
    for fresh in (True, False):  # before and after the API server knows that the pod has started
        await (await restarted.open_session(INSTANCE, fresh=fresh)).close()
    await restarted.close()


async def test_the_agents_own_routes_answer(agent: AgentProcess, connector: HttpsConnector):
    session = await dial(connector)
    for path, words in ((routes.HEALTHZ, b"ok"), (routes.METRICS, b'vk_agent_sessions{state="open"} 1')):
        answer = await connector.request(INSTANCE, "GET", path)
        body = b"".join([chunk async for chunk in answer.iter_any()])
        assert answer.status == 200 and words in body
        await answer.close()
    await connector.renew(INSTANCE)
    await session.close()
    await (await dial(connector)).close()


async def test_start_memory_and_idle_cpu_are_small(agent: AgentProcess, connector: HttpsConnector):
    """Twice the goals, for a busy machine; the benchmark measures them exactly."""
    session = await dial(connector)
    cpu = read_cpu_s(agent.pid)
    private = read_private_bytes(agent.pid)
    await asyncio.sleep(2)
    idle = (read_cpu_s(agent.pid) - cpu) / 2
    print(f"start to session: {cpu:.2f} s of CPU, private {private / 2**20:.1f} MiB, idle {idle:.3f} of a core")
    assert cpu < 1.0 and private < 80 << 20 and idle < 0.02
    await session.close()


def read_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
