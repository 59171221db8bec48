"""URL of the API server and credentials: kubeconfig (with exec plugins and OIDC) or in-cluster.

kubernetes_asyncio reads the configuration; only its result is kept: server, TLS context, and a way to get the newest
Authorization header. Only its part that reads configurations is imported (`configlibrary`), when a client connects.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vk_provider.errors import BadStartError

log = logging.getLogger(__name__)

DEFAULT_KUBECONFIG = "~/.kube/config"
_CHECK_INTERVAL_S = 30.0
"""For credentials whose expiry only the library knows (in-cluster, OIDC)."""
_RENEW_AT = 0.8
"""Fraction of the life of an exec plugin's credential. The rest, three of an EKS token's fourteen minutes, is left for
the plugin to answer or to be retried."""
_RETRY_S = 10.0
_RELOAD_INTERVAL_S = 10.0
_JOB_LIMIT_S = 60.0
_WAIT_S = 10.0
"""How long a request whose credential has expired waits for a new one."""


class Credentials:
    """Server URL, TLS context and Authorization header; `load` first.

    New credentials are fetched in the background while requests use the old ones: a plugin, identity provider or file
    system that hangs delays no Lease and no status.

    kubeconfig: path (several joined by ":"), None: $KUBECONFIG, else ~/.kube/config when it exists, else in-cluster
    """

    def __init__(self, kubeconfig: str | None, context: str | None = None) -> None:
        self._paths = kubeconfig or _default_kubeconfig()
        self._context = context
        self._configuration: Any = None
        self._loader: Any = None
        self._renew_at = self._expires_at = math.inf  # time.monotonic()
        self._reloaded_at = -math.inf
        self._job: asyncio.Task[bool] | None = None
        self.server = ""
        self.server_hostname: str | None = None
        self.proxy: str | None = None
        self.ssl_context: ssl.SSLContext | bool = True

    @property
    def source(self) -> str:
        """The source of the configuration, for error messages."""
        return f"kubeconfig {self._paths}" if self._paths else "in-cluster service account"

    async def load(self) -> None:
        """Read the configuration. Raises BadStartError with one line."""
        if self._paths:
            self._check_readable()
        try:
            async with asyncio.timeout(_JOB_LIMIT_S):
                await self._load()
        except TimeoutError:
            raise BadStartError(f"{self.source} cannot be used: no answer within {_JOB_LIMIT_S:g} s") from None
        except (KeyError, TypeError, AttributeError) as error:
            # The library's message for other YAML: "'str' object does not support item assignment".
            raise BadStartError(
                f"{self.source} cannot be used: it is not a kubeconfig with clusters, users and contexts"
                f" ({type(error).__name__}: {_first_line(error)})"
            ) from error
        except Exception as error:
            # OSError, ssl.SSLError, ConfigException, yaml.YAMLError, errors of exec plugins: no common base class.
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
        from vk_provider.kube.configlibrary import ApiConfiguration, incluster_config, kube_config
        from vk_provider.kube.execplugin import PluginLoader

        configuration = ApiConfiguration()
        loader = None
        try:
            if self._paths:
                loader = await PluginLoader.load(self._paths, self._context, configuration)
            else:
                incluster_config.load_incluster_config(client_configuration=configuration)
            ssl_context = _build_ssl_context(configuration)
        finally:
            # The library writes inline certificates to temporary files: the key must not stay on disk.
            kube_config._cleanup_temp_files()
        self._configuration, self._loader, self.ssl_context = configuration, loader, ssl_context
        self.server = str(configuration.host or "").rstrip("/")
        self.server_hostname = configuration.tls_server_name or None
        self.proxy = configuration.proxy or None
        self._plan()

    def _plan(self) -> None:
        """Compute when to renew the credentials just fetched."""
        now = time.monotonic()
        self._renew_at = self._expires_at = math.inf
        expiry = getattr(self._loader, "exec_plugin_expiry", None)
        if expiry is not None:
            life_s = expiry.timestamp() - time.time()
            self._renew_at = now + max(_RETRY_S, _RENEW_AT * life_s)
            self._expires_at = now + life_s
        elif self._loader is None or self._loader.provider in ("oidc", "gcp"):
            self._renew_at = now + _CHECK_INTERVAL_S

    async def authorization(self) -> str | None:
        """The current Authorization header; None with a certificate. Waits only when the current one has expired."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._start("renewal", self._renew)
        if now >= self._expires_at and self._job is not None:
            await asyncio.wait({self._job}, timeout=_WAIT_S)
        token: str | None = self._configuration.api_key.get("BearerToken")
        return token

    async def _renew(self) -> None:
        if self._loader is None:
            self._configuration.refresh_api_key_hook(self._configuration)
        elif getattr(self._loader, "exec_plugin_expiry", None) is None:
            await self._loader._load_authentication()
            self._configuration.api_key["BearerToken"] = self._loader.token
        elif "BearerToken" in self._configuration.api_key:
            await self._loader.load_from_exec_plugin()
            self._configuration.api_key["BearerToken"] = self._loader.token
        else:
            await self._load()  # a certificate, which is part of the TLS context
        self._plan()

    async def reload(self) -> bool:
        """Read everything again after a 401 (rotated token or certificate files); False when that was just done, failed
        or takes too long."""
        if self._job is None:
            if time.monotonic() - self._reloaded_at < _RELOAD_INTERVAL_S:
                return False
            self._reloaded_at = time.monotonic()
            self._start("reload", self._load)
        job = self._job
        assert job is not None
        await asyncio.wait({job}, timeout=_WAIT_S)
        return job.done() and not job.cancelled() and job.result()

    def _start(self, name: str, fetch: Callable[[], Awaitable[None]]) -> None:
        """Fetch in the background; one fetch at a time."""
        if self._job is None:
            self._job = asyncio.create_task(self._fetch(fetch), name=f"{name} of credentials")
            self._job.add_done_callback(self._forget_job)

    def _forget_job(self, _: asyncio.Task[bool]) -> None:
        self._job = None

    async def _fetch(self, fetch: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(_JOB_LIMIT_S):
                await fetch()
            return True
        except Exception as error:
            self._renew_at = max(self._renew_at, time.monotonic() + _RETRY_S)
            what = f"no answer within {_JOB_LIMIT_S:g} s" if isinstance(error, TimeoutError) else _first_line(error)
            log.warning("cannot renew the credentials of %s, keeping the old ones: %s", self.source, what)
            return False

    async def close(self) -> None:
        """Cancel a fetch in progress."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait({self._job})


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
