"""Runs what the first second of every agent runs, some times over, in the process that agents are forked from.

A fork then has what costs most at the first time: modules and libraries that are loaded late, compiled regular
expressions, caches of types, and code that the interpreter has specialised. Nothing else is left behind: no thread (a
fork would not have it), no event loop, no file. Keys that are made here are thrown away, and OpenSSL seeds its random
numbers anew in each fork.
"""

from __future__ import annotations

import asyncio
import ctypes
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from vk_provider import eventreasons
from vk_provider.agent import app as agent
from vk_provider.agent import certificates
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.api_grpc import ImageServiceStub, RuntimeServiceStub
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.metadata import MetadataClient, fetch_metadata
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.proxy import vantage  # noqa: F401 - agents import it late
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.server import AgentServer
from vk_provider.agent.session import SessionHandler
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.rules.core import compute_actions
from vk_provider.agent.worker.rules.facts import ProbeResults
from vk_provider.agent.worker.rules.observed import Observation
from vk_provider.agent.worker.sandbox.config import build_sandbox_config
from vk_provider.aiokit import libnftables
from vk_provider.jsontypes import Json
from vk_provider.podmodel.dns import build_dns_config
from vk_provider.podmodel.hostname import build_kernel_hostname
from vk_provider.rfc3339 import format_time
from vk_provider.wire import routes
from vk_provider.wire.bootdata import BootData
from vk_provider.wire.session import NodeFacts, PodMessage
from vk_provider.wire.version import SUPPORTED_VERSIONS

ROUNDS = 12
"""The interpreter specialises code that has run eight times."""
LIMIT_S = 10.0

_LOOPBACK = "127.0.0.1"
_FACTS = InstanceFacts("i-warmup", "10.0.0.2", "10.0.0.3", "none", "none", "none")
_MAC = "02:00:00:00:00:01"
_INTERFACE = f"/latest/meta-data/network/interfaces/macs/{_MAC}"
_NODE = NodeFacts(name="node", allocatable={"cpu": "1"}, clusterDNS=["10.0.0.10"], clusterDomain="cluster.local")
_POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "namespace": "default", "uid": "0d3e5c0a-0000-4000-8000-000000000000"},
    "spec": {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "containers": [{"name": "c", "image": "image:1", "resources": {}, "imagePullPolicy": "IfNotPresent"}],
    },
    "status": {"phase": "Pending"},
}


def run() -> None:
    """Blocking, some tenths of a second. Raises OSError, TimeoutError and what the libraries raise: what was warmed
    until then stays warm."""
    agent.parse_options([])
    try:
        ctypes.CDLL(libnftables.SONAME)
    except OSError:
        pass  # the agent says so
    with tempfile.TemporaryDirectory(prefix="vk-warmup-") as directory:
        asyncio.run(_run(Path(directory)))


async def _run(directory: Path) -> None:
    async with asyncio.timeout(LIMIT_S):
        await _read_metadata()
        await _serve_session(directory)
        await _call_runtime(str(directory / "cri.sock"))


async def _read_metadata() -> None:
    """As an instance does at its boot, from an endpoint of this process."""
    user_data = BootData(ca_pem="none", boot_secret="00").to_user_data()
    answers = {
        "/latest/api/token": "token",
        "/latest/user-data": user_data,
        "/latest/meta-data/instance-id": _FACTS.instance_id,
        "/latest/meta-data/mac": _MAC,
        "/latest/meta-data/local-ipv4": _FACTS.primary_ip,
        "/latest/meta-data/instance-type": _FACTS.instance_type,
        "/latest/meta-data/placement/availability-zone": _FACTS.zone,
        f"{_INTERFACE}/local-ipv4s": f"{_FACTS.primary_ip}\n{_FACTS.pod_ip}",
        f"{_INTERFACE}/subnet-ipv4-cidr-block": "10.0.0.0/24",
    }

    async def answer(request: web.BaseRequest) -> web.Response:
        text = answers.get(request.path)
        return web.Response(text=text) if text is not None else web.Response(status=404)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, _LOOPBACK, 0).start()
        _, port = runner.addresses[0]
        async with MetadataClient(f"http://{_LOOPBACK}:{port}") as source:
            for _ in range(ROUNDS // 4):  # nine requests each
                await fetch_metadata(source, _FACTS.hostname)
    finally:
        await runner.cleanup()


async def _serve_session(directory: Path) -> None:
    """Identity, TLS on both sides, requests and a session with a pod. One certificate is the agent's, the provider's
    and the CA's: it is self-signed."""
    name = routes.server_name(_FACTS.instance_id)
    made = certificates.create_credentials(name)
    provider = certificates.create_credentials(routes.PROVIDER_COMMON_NAME)
    certificates.find_fault(made.self_signed_pem, made.key_pem, made.self_signed_pem, name)
    own = directory / _FACTS.instance_id
    own.mkdir(mode=0o700)
    for file, text in (("key", made.key_pem), ("csr", made.csr_pem), ("certificate", made.self_signed_pem)):
        (own / f"{file}.pem").write_text(text)
    identity = AgentIdentity(directory, _FACTS.instance_id, made.self_signed_pem + provider.self_signed_pem, "00")
    identity.load_or_create()
    context = identity.client_context()
    (directory / "provider.pem").write_text(provider.key_pem + provider.self_signed_pem)
    context.load_cert_chain(directory / "provider.pem")
    outbox = Outbox()
    memory: list[PodMemory] = []

    def receive(message: Any) -> None:
        memory.append(PodMemory.from_message(message))

    server = AgentServer(identity)
    SessionHandler(outbox, receive, lambda: "", _FACTS.instance_id, format_time()).add_routes(server.app)
    await server.start(_LOOPBACK, 0)
    try:
        host, port = server.addresses[0][:2]
        async with aiohttp.ClientSession(f"https://{host}:{port}") as client:
            for _ in range(ROUNDS // 4):
                body = orjson.dumps({"nonce": "nonce", "versions": list(SUPPORTED_VERSIONS)})
                async with client.post(routes.IDENTITY_REQUEST, data=body, ssl=context, server_hostname=name) as answer:
                    await answer.read()
            async with client.ws_connect(routes.SESSION, ssl=context, server_hostname=name) as session:
                await session.receive()
                pod = PodMessage(type="pod", pod=_POD, references={}, services=[], node=_NODE)
                for _ in range(ROUNDS):
                    await session.send_bytes(orjson.dumps(pod))
                    outbox.send_status("uid", {"phase": "Pending"}, finished=False)
                    outbox.send_event("uid", "Normal", eventreasons.CREATED, "message", "spec.containers{c}")
                    await session.receive()
    finally:
        await server.stop()
    for each in memory:
        compute_actions(each.pod, Observation(), ProbeResults())


class _Answers:
    """A runtime that gives an empty answer to every unary call of these services."""

    def __init__(self, *stubs: object) -> None:
        self._methods = [each for stub in stubs for each in vars(stub).values() if isinstance(each, UnaryUnaryMethod)]

    def __mapping__(self) -> dict[str, Handler]:
        unary = Cardinality.UNARY_UNARY
        return {
            each.name: Handler(_answer(each.reply_type), unary, each.request_type, each.reply_type)
            for each in self._methods
        }


def _answer(reply_type: Callable[[], Any]) -> Callable[[Any], Awaitable[None]]:
    async def answer(stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(reply_type())

    return answer


async def _call_runtime(address: str) -> None:
    """The calls of a start, over a socket of its own kind."""
    unused = Channel(path=address)
    server = Server([_Answers(RuntimeServiceStub(unused), ImageServiceStub(unused))])
    await server.start(path=address)
    runtime = ContainerRuntime(address)
    try:
        for _ in range(ROUNDS // 3):
            await _start_pod(runtime)
    finally:
        await runtime.close()
        unused.close()
        server.close()
        await server.wait_closed()


async def _start_pod(runtime: ContainerRuntime) -> None:
    dns = build_dns_config(_POD, _NODE, "nameserver 10.0.0.1\n")
    sandbox = build_sandbox_config(_POD, 0, dns, build_kernel_hostname(_POD, "cluster.local"))
    container = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="c"), linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources())
    )
    await runtime.version()
    await runtime.handler_features()
    await asyncio.gather(runtime.list_pod_sandboxes(), runtime.list_containers())
    await runtime.run_pod_sandbox(sandbox)
    await runtime.pod_sandbox_status("sandbox")
    await runtime.create_container("sandbox", container, sandbox)
    await runtime.start_container("container")
    await runtime.container_status("container")
