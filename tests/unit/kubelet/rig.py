"""A kubelet server on loopback with fake pods and, behind it, real agent routes with a fake runtime, all over TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from vk_provider.agent.logs import add_log_routes
from vk_provider.agent.streams import add_stream_routes
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentError, AgentUnreachableError
from vk_provider.jsontypes import Json
from vk_provider.kubelet.access.auth import Authenticator, AuthFilter, Authorizer
from vk_provider.kubelet.api import KubeletApi
from vk_provider.kubelet.provider import BillSource, Explainer
from vk_provider.kubelet.server import KubeletServer, ServerConfig

TOKEN = "good"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


class CertificateAuthority:
    """Issues certificates for tests: files `<name>.crt` and `<name>.key`."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def issue(self, name: str, groups: Iterable[str] = ()) -> tuple[str, str]:
        """Return paths of certificate and key; valid for 127.0.0.1."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key).add_extension(address, critical=False)
        pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        certificate_file, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate_file.write_bytes(pem)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(certificate_file), str(key_file)

    def client_context(self, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.pem)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context


class AllowingReviews:
    """TOKEN is the user `admin`, who may do everything; nobody else may."""

    async def create(self, path: str, body: Json, timeout_s: float = 30.0) -> Json:
        if path.endswith("tokenreviews"):
            good = body["spec"]["token"] == TOKEN
            return {"status": {"authenticated": good, "user": {"username": "admin"}}}
        allowed = body["spec"]["user"] == "admin" or "system:masters" in body["spec"]["groups"]
        return {"status": {"allowed": allowed}}


@dataclass
class FakeArchive:
    files: dict[tuple[str, bool], str] = field(default_factory=dict)

    def read(self, container: str, previous: bool) -> str | None:
        return self.files.get((container, previous))


@dataclass
class FakeHandle:
    pod: Json
    status: Json
    instance: Instance | None = None
    archive: FakeArchive | None = None
    stats: Any = None


@dataclass
class FakeSource:
    handles: list[FakeHandle] = field(default_factory=list)

    def pods(self, node: str) -> list[Json]:
        return [{**handle.pod, "status": handle.status} for handle in self.handles]

    def find(self, namespace: str, name: str, uid: str | None) -> FakeHandle | None:
        for handle in self.handles:
            metadata = handle.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name) and uid in (None, metadata["uid"]):
                return handle
        return None


def make_pod(name: str = "web", uid: str = "uid-1") -> Json:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": uid},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "c", "tty": False}],
            "initContainers": [{"name": "init"}],
        },
    }


def running_status(container_id: str = "abc") -> Json:
    state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    container = {"name": "c", "image": "i:1", "containerID": f"containerd://{container_id}", "state": state}
    return {"phase": "Running", "containerStatuses": [container]}


def make_instance() -> Instance:
    return Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "127.0.0.1", "127.0.0.2", 0.0)


@dataclass
class FakeView:
    """The pod worker as the agent's handlers see it."""

    pod: Json | None = field(default_factory=make_pod)
    status: Json = field(default_factory=running_status)
    sandbox_id: str = "sandbox"
    container: str = "abc"
    paths: dict[str, str] = field(default_factory=dict)

    def container_spec(self, name: str) -> Json | None:
        return next((item for item in (self.pod or {})["spec"]["containers"] if item["name"] == name), None)

    def container_id(self, name: str) -> str:
        return self.container if name == "c" else ""

    def log_path(self, container_id: str) -> str | None:
        return self.paths.get(container_id)

    def volume_paths(self) -> dict[str, str]:
        return {}


class RuntimeRefused(AgentError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeRuntime:
    """Gives URLs of a streaming server; `calls` tells what was asked."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.calls: list[tuple[Any, ...]] = []
        self.error: AgentError | None = None
        self.state = 1

    async def _url(self, *call: Any) -> str:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return f"http://127.0.0.1:{self.port}/{call[0]}/token"

    async def exec_url(self, *call: Any) -> str:
        return await self._url("exec", *call)

    async def attach_url(self, *call: Any) -> str:
        return await self._url("attach", *call)

    async def port_forward_url(self, *call: Any) -> str:
        return await self._url("portforward", *call)

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> Any:
        self.calls.append(("exec_sync", container_id, command))
        failed = command[0] == "false"

        class Result:
            stdout, stderr, exit_code = b"out", b"err", 1 if failed else 0

        return Result

    async def container_status(self, container_id: str) -> Any:
        class Status:
            state = self.state

        return Status


class FakeConnector:
    """AgentConnector over TLS to one port of this machine; `reachable` False: nothing answers."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self.port, self.tls, self.reachable = port, tls, True
        self._http: aiohttp.ClientSession | None = None

    async def open_session(self, instance: Instance) -> Any:
        raise NotImplementedError

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> Any:
        if not self.reachable:
            raise AgentUnreachableError("no answer")
        self._http = self._http or aiohttp.ClientSession()
        url = f"https://127.0.0.1:{self.port}{path}"
        response = await self._http.request(method, url, params=query or [], ssl=self.tls)

        class Answer:
            status, headers = response.status, response.headers

            @staticmethod
            def iter_any() -> Any:
                return response.content.iter_any()

            @staticmethod
            async def close() -> None:
                response.close()

        return Answer()

    async def open_stream(self, instance: Instance, protocol_factory: Callable[[], Any]) -> Any:
        if not self.reachable:
            raise AgentUnreachableError("no answer")
        loop = asyncio.get_running_loop()
        return await loop.create_connection(protocol_factory, "127.0.0.1", self.port, ssl=self.tls)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


class Rig:
    """Everything together; `client()` talks to the kubelet's port."""

    def __init__(
        self,
        directory: Path,
        idle_s: float = 60.0,
        runtime: Any = None,
        connector: Any = None,
        explainer: Explainer | None = None,
    ) -> None:
        self._agents, self._explainer = connector, explainer
        self.ca = CertificateAuthority(directory)
        self.view, self.runtime = FakeView(), runtime or FakeRuntime()
        self.source, self.registry = FakeSource(), CollectorRegistry()
        self._idle_s = idle_s
        self.bills: BillSource | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        agent = web.Application()
        add_log_routes(agent, self.view, self.runtime)
        add_stream_routes(agent, self.view, self.runtime, self._idle_s)
        size = 1 << 20
        self._agent = web.AppRunner(agent, access_log=None, shutdown_timeout=1, max_line_size=size, max_field_size=size)
        await self._agent.setup()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*self.ca.issue("agent"))
        site = web.TCPSite(self._agent, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.connector = FakeConnector(self._agent.addresses[0][1], self.ca.client_context())
        agents = self._agents or self.connector
        api = KubeletApi(
            "node-1",
            self.source,
            agents,
            self.registry,
            idle_s=self._idle_s,
            explainer=self._explainer,
            bills=self.bills,
        )
        auth = AuthFilter(Authenticator(AllowingReviews()), Authorizer(AllowingReviews()), "node-1")
        certificate, key = self.ca.issue("node-1")
        self.server = KubeletServer(ServerConfig("127.0.0.1", 0, certificate, key, self.ca.pem), api, auth)
        await self.server.start()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
        await self.server.stop()
        await self.connector.close()
        await self._agent.cleanup()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, str, Any]:
        """(status, body, headers) with a token that may do everything."""
        self._http = self._http or aiohttp.ClientSession()
        options.setdefault("headers", ADMIN)
        url = f"https://127.0.0.1:{self.server.port}{path}"
        async with self._http.request(method, url, ssl=self.ca.client_context(), **options) as response:
            return response.status, await response.text(), response.headers

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare TLS connection."""
        return await asyncio.open_connection("127.0.0.1", self.server.port, ssl=self.ca.client_context(), limit=1 << 22)
