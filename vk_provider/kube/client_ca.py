"""CAs of the client certificates that the cluster itself accepts: the --client-ca-file of its API server.

The API server publishes them for other servers, in ConfigMap kube-system/extension-apiserver-authentication
(k8s.io/apiserver, DelegatingAuthenticationOptions). The CA of the API server's own certificate does not
sign clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from vk_provider.errors import KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import namespaced_path

log = logging.getLogger(__name__)

CONFIG_MAP = namespaced_path("configmaps", "kube-system", "extension-apiserver-authentication")
_KEY = "client-ca-file"
_READ_S = 60.0
_RETRY_S = 10.0
_TIMEOUT_S = 10.0


class ClusterClientCa:
    """kubelet.provider.ClientCaSource of the cluster: read again every minute; needs only `get` on this one object."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._pem: str | None = None
        self._in_force = ""

    async def load(self) -> str:
        """The bundle; "" when the cluster accepts no client certificates, and while it cannot be read."""
        self._in_force = await self._read()
        return self._in_force

    async def _read(self) -> str:
        try:
            document = await self._client.get(CONFIG_MAP, timeout_s=_TIMEOUT_S)
        except KubeApiError as error:
            kept = "no client certificate is accepted" if self._pem is None else "keeping what was read before"
            log.warning("cannot read the cluster's CA for client certificates, %s: %s", kept, error)
            return self._pem or ""
        self._pem = str((document.get("data") or {}).get(_KEY) or "").strip()
        return self._pem

    async def run(self, on_change: Callable[[str], None]) -> None:
        """Until cancelled. When on_change raises OSError (or ssl.SSLError), the old bundle stays."""
        while True:
            await asyncio.sleep(_RETRY_S if self._pem is None else _READ_S)
            pem = await self._read()
            if pem == self._in_force:
                continue
            try:
                on_change(pem)
            except OSError as error:
                log.warning("keeping the old CAs for client certificates: %s", error)
                continue
            self._in_force = pem
            log.info("the cluster's CAs for client certificates were read again")
