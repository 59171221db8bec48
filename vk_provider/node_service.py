"""One Node: its object and Lease, its kubelet API, its serving certificate. Part of the composition: connects `node`,
`kubelet` and `kube.csr`, which do not import each other."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.base import InstanceRuntime
from vk_provider.errors import BadStartError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.csr import FileCertificate, ServingCertificate
from vk_provider.kubelet.server import KubeletServer
from vk_provider.node.controller import NodeController
from vk_provider.node.features import DECLARED_FEATURES
from vk_provider.node.resources import allocatable_of
from vk_provider.node.spec import NodeSpec, Taint
from vk_provider.settings import CloudSettings, KubeletSettings, NodeSettings

DEFAULT_CAPACITY = {"ephemeral-storage": "20Ti"}
"""Without it the Node would never be Ready (pkg/kubelet/nodestatus)."""


def build_spec(node: NodeSettings, cloud: CloudSettings, runtime: InstanceRuntime) -> NodeSpec:
    """The NodeSpec from the settings and the instances' runtime; the address defaults to that of the default route."""
    return NodeSpec(
        name=node.name,
        internal_ip=node.address or default_address(),
        second_ip=node.ipv6_address,
        capacity={**DEFAULT_CAPACITY, **node.capacity},
        zone=node.zone,
        region=node.region,
        architecture=node.architecture,
        labels=dict(node.labels),
        taints=tuple(Taint(item.key, item.value, item.effect) for item in node.taints) if node.taint else (),
        kubelet_port=node.port,
        provider_id=f"vk-provider://{cloud.owner}/{node.name}",
        container_runtime_version=f"{runtime.name}://{runtime.version}",
        runtime_handlers=tuple(
            {
                "name": name,
                "features": {"recursiveReadOnlyMounts": runtime.recursive_read_only_mounts, "userNamespaces": False},
            }
            for name in runtime.handlers
        ),
        supplemental_groups_policy=runtime.supplemental_groups_policy,
        declared_features=DECLARED_FEATURES,
        os_image=f"vk-provider on the {cloud.backend} cloud",
        kernel_version=platform.release(),
    )


def default_address() -> str:
    """Address of the interface of the default route; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    if not address or address.startswith("127."):
        raise BadStartError("no default route to take the Node's address from: set address in [[nodes]]")
    return address


class NodeService:
    """Starts and stops everything of one Node."""

    def __init__(
        self,
        spec: NodeSpec,
        controller: NodeController,
        server: KubeletServer,
        kubelet: KubeletSettings,
        client: KubeClient,
    ) -> None:
        self.spec = spec
        self._controller, self._server = controller, server
        self._kubelet, self._client = kubelet, client

    @property
    def object(self) -> dict[str, Any] | None:
        """The Node as the API server has it, None before it was read or registered. Its allocatable is that of
        allocatable_of: after a start with another configuration the status has the old one for a moment."""
        node = self._controller.node
        if node is None:
            return None
        status = node.get("status") or {}
        return {**node, "status": {**status, "allocatable": allocatable_of(self.spec, status)}}

    @property
    def answering_since(self) -> float:
        """See NodeLease."""
        return self._controller.lease.answering_since

    async def listen(self) -> None:
        """Open the port of the kubelet API; handshakes fail until there is a certificate. Raises BadStartError."""
        await self._server.start()

    async def start(self, supervisor: Supervisor) -> None:
        """Ask for a certificate, register. Raises BadStartError."""
        name = self.spec.name
        kubelet = self._kubelet
        if kubelet.serving_certificate == "files":
            certificate, key = Path(kubelet.certificate_file), Path(kubelet.key_file)
            files = FileCertificate(certificate, key, lambda *_: self._reload(certificate, key))
            files.load()
            supervisor.start(f"serving certificate of {name}", files.run())
        else:
            directory = Path(kubelet.certificate_dir)
            try:
                await asyncio.to_thread(_prepare_directory, directory)
            except OSError as error:
                raise BadStartError(f"kubelet.certificate_dir {directory}: {error.strerror}") from None
            certificate, key = directory / f"{name}-serving.crt", directory / f"{name}-serving.key"
            names = [name, self.spec.internal_ip]
            signed = ServingCertificate(
                self._client,
                name,
                names,
                directory,
                lambda *_: self._reload(certificate, key),
                kubelet.serving_signer,
            )
            supervisor.start(f"serving certificate of {name}", signed.run())
        supervisor.start(f"node {name}", self._controller.run())

    def _reload(self, certificate: Path, key: Path) -> None:
        self._server.reload_certificate(os.fspath(certificate), os.fspath(key))
        self._controller.wake()

    def reload_client_ca(self, pem: str) -> None:
        """See KubeletServer."""
        self._server.reload_client_ca(pem)

    async def stop_server(self) -> None:
        """End open streams and close the port; does nothing when it is closed."""
        await self._server.stop()


class Nodes:
    """The Nodes of this provider, by name."""

    def __init__(self) -> None:
        self._services: dict[str, NodeService] = {}

    def add(self, service: NodeService) -> None:
        self._services[service.spec.name] = service

    def __iter__(self) -> Iterator[NodeService]:
        return iter(self._services.values())

    def find_object(self, name: str) -> dict[str, Any] | None:
        """See NodeService.object; None also while there is no such Node."""
        service = self._services.get(name)
        return service.object if service is not None else None

    def answering_since(self, name: str) -> float:
        """See NodeLease."""
        return self._services[name].answering_since

    def reload_client_ca(self, pem: str) -> None:
        """See KubeletServer."""
        for service in self:
            service.reload_client_ca(pem)


def _prepare_directory(directory: Path) -> None:
    """Create the directory and check that it is writable."""
    directory.mkdir(0o700, True, True)
    with tempfile.TemporaryFile(dir=directory):
        pass
