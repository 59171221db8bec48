"""Where the API server is and how to prove who we are: kubeconfig (with exec plugins and OIDC) or in-cluster.

kubernetes_asyncio reads the configuration; only its result is kept: server, TLS context, and a way to ask for the
newest Authorization header. It costs 50 MB and 0.3 s of CPU to import, so it is imported when a client connects.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from pathlib import Path
from typing import Any

from vk_provider.errors import BadStartError

log = logging.getLogger(__name__)

_REFRESH_INTERVAL_S = 30.0
_RELOAD_INTERVAL_S = 10.0
DEFAULT_KUBECONFIG = "~/.kube/config"


class Credentials:
    """Server URL, TLS context and Authorization header; `load` first.

    kubeconfig: path (several joined by ":"), None: $KUBECONFIG, else ~/.kube/config when it exists, else in-cluster
    """

    def __init__(self, kubeconfig: str | None, context: str | None = None) -> None:
        self._paths = kubeconfig or _default_kubeconfig()
        self._context = context
        self._configuration: Any = None
        self._loader: Any = None
        self._checked_at = 0.0
        self._reloaded_at = 0.0
        self._lock = asyncio.Lock()
        self.server = ""
        self.server_hostname: str | None = None
        self.proxy: str | None = None
        self.ssl_context: ssl.SSLContext | bool = True
        self.names_ca = False

    @property
    def source(self) -> str:
        """What is read, in words for an error message."""
        return f"kubeconfig {self._paths}" if self._paths else "in-cluster service account"

    async def load(self) -> None:
        """Read the configuration. Raises BadStartError with one line."""
        if self._paths:
            self._check_readable()
        try:
            await self._load()
        except (KeyError, TypeError, AttributeError) as error:
            # What the library says when the file holds something else: "'str' object does not support item assignment".
            raise BadStartError(
                f"{self.source} cannot be used: it is not a kubeconfig with clusters, users and contexts"
                f" ({type(error).__name__}: {_first_line(error)})"
            ) from error
        except Exception as error:
            # OSError, ssl.SSLError, ConfigException, yaml.YAMLError and what exec plugins raise: no common base class.
            raise BadStartError(f"{self.source} cannot be used: {_first_line(error)}") from error
        if not self.server.startswith(("https://", "http://")):
            raise BadStartError(f"{self.source} names no API server URL (got {self.server!r})")

    def _check_readable(self) -> None:
        paths = [Path(part).expanduser() for part in (self._paths or "").split(os.pathsep) if part]
        found = [path for path in paths if path.exists()]
        if not found:
            raise BadStartError(
                f"kubeconfig {self._paths} does not exist; name one with cluster.kubeconfig or KUBECONFIG"
            )
        for path in found:
            if path.is_dir() or not os.access(path, os.R_OK):
                raise BadStartError(f"kubeconfig {path} cannot be read")

    async def _load(self) -> None:
        from kubernetes_asyncio import config
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config import kube_config

        configuration: Any = type.__call__(Configuration)
        if self._paths:
            self._loader = await config.load_kube_config(
                self._paths, self._context, client_configuration=configuration, persist_config=False
            )
        else:
            config.load_incluster_config(client_configuration=configuration)
        try:
            self.ssl_context = _build_ssl_context(configuration)
            self.names_ca = bool(configuration.ssl_ca_cert)
        finally:
            # Certificates given inline pass through temporary files: the key must not stay on disk.
            kube_config._cleanup_temp_files()
        self._configuration = configuration
        self.server = str(configuration.host or "").rstrip("/")
        self.server_hostname = configuration.tls_server_name or None
        self.proxy = configuration.proxy or None
        self._checked_at = time.monotonic()

    async def authorization(self) -> str | None:
        """The Authorization header's value now, renewed when it is about to expire; None with a certificate."""
        if "BearerToken" not in self._configuration.api_key:
            return None
        if time.monotonic() - self._checked_at >= _REFRESH_INTERVAL_S:
            async with self._lock:
                if time.monotonic() - self._checked_at >= _REFRESH_INTERVAL_S:
                    await self._refresh_token()
                    self._checked_at = time.monotonic()
        token: str | None = self._configuration.api_key.get("BearerToken")
        return token

    async def _refresh_token(self) -> None:
        try:
            if self._loader is None:
                self._configuration.refresh_api_key_hook(self._configuration)
            elif getattr(self._loader, "exec_plugin_expiry", None) is not None:
                await self._loader.load_from_exec_plugin()
                self._configuration.api_key["BearerToken"] = self._loader.token
            elif self._loader.provider in ("oidc", "gcp"):
                await self._loader._load_authentication()
                self._configuration.api_key["BearerToken"] = self._loader.token
        except Exception as error:
            log.warning("cannot refresh the token of %s, keeping the old one: %s", self.source, _first_line(error))

    async def reload(self) -> bool:
        """Read everything again after a 401 (rotated token or certificate files); False when that was done just now."""
        async with self._lock:
            if time.monotonic() - self._reloaded_at < _RELOAD_INTERVAL_S:
                return False
            self._reloaded_at = time.monotonic()
            try:
                await self._load()
            except Exception as error:
                log.warning("cannot read %s again: %s", self.source, _first_line(error))
                return False
            return True


def _default_kubeconfig() -> str | None:
    named = os.environ.get("KUBECONFIG")
    if named:
        return named
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    return os.path.expanduser(DEFAULT_KUBECONFIG)


def _build_ssl_context(configuration: Any) -> ssl.SSLContext | bool:
    if not str(configuration.host or "").startswith("https://"):
        return True
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file or None)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:300]
