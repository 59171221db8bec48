"""The address at which containers ask for the credentials of their role: HTTP on 169.254.170.23:80, and its IPv6 twin.

The addresses are the instance's own, on its loopback device: packets of the pod come there by the route to its gateway,
and those of a hostNetwork pod do not leave. It is listened there for pods alone that EKS's webhook has told of it: port
80 of other pods with hostNetwork stays free. Source of paths, texts and status codes: eks-pod-identity-agent
(pkg/handlers, internal/validation).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from vk_provider.agent.podidentity.questions import Questions
from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.connection_limits import ConnectionLimits
from vk_provider.aiokit.plainsite import PlainSite
from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import all_containers
from vk_provider.wire.identity import IDENTITY_HOSTS, IDENTITY_PATH, MAX_TOKEN, CredentialsMessage

log = logging.getLogger(__name__)

MAX_REQUESTS = 64
"""At once."""
LIMITS = ConnectionLimits(
    head_bytes=32 << 10, small_head_bytes=32 << 10, connections=128, peer_connections=128, head_s=10.0
)
"""Whatever a container does here, the agent keeps file descriptors for its provider."""
KEEPALIVE_S = 10.0
_FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_IPV6 = Path("/proc/net/if_inet6")
_IP_LIMIT_S = 10.0


def asks_for_role(pod: Json) -> bool:
    """Whether a container of the pod was told to ask here."""
    return any(
        variable.get("name") == _FULL_URI and _host_of(variable.get("value") or "") in IDENTITY_HOSTS
        for container in all_containers(pod)
        for variable in container.get("env") or ()
    )


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class IdentityEndpoint:
    """`run` is a root task. clients: addresses that may ask, the instance's own. report: told once what is wrong.
    hosts, port: where is listened."""

    def __init__(
        self,
        questions: Questions,
        clients: Collection[str],
        report: Callable[[str], None],
        hosts: Sequence[str] = IDENTITY_HOSTS,
        port: int = 80,
    ) -> None:
        self._questions, self._report = questions, report
        self._clients = frozenset({*clients, *hosts, "127.0.0.1", "::1"} - {""})
        self._hosts, self._port = hosts, port
        self._wanted = asyncio.Event()
        self._is_on = False
        self._requests = 0
        self._told = False
        self.listening = asyncio.Event()
        self.addresses: tuple[tuple[str, int], ...] = ()

    def take_pod(self, pod: Json, is_on: bool) -> None:
        """The instance's pod, and whether the provider answers for roles: one that does not takes no such message."""
        self._is_on = is_on
        if is_on and asks_for_role(pod):
            self._wanted.set()

    def receive(self, message: CredentialsMessage) -> None:
        """The provider's answers."""
        self._questions.receive(message["answers"])

    async def run(self) -> None:
        """Listen once a pod needs it, until cancelled."""
        await self._wanted.wait()
        app = web.Application()
        app.router.add_get(IDENTITY_PATH, self._handle)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=1.0
        )
        await runner.setup()
        backoff = Backoff(0.2, 60.0)
        try:
            while True:
                if await self._listen(runner):
                    await asyncio.Event().wait()
                await asyncio.sleep(backoff.next_delay_s())
        finally:
            self.listening.clear()
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> bool:
        """On the first host, which must be, and the others, as far as they can be had."""
        for number, host in enumerate(self._hosts):
            if ":" in host and not has_ipv6():
                continue
            try:
                await add_address(host)
                await PlainSite(runner, host, self._port, LIMITS).start()
            except OSError as error:
                log.warning("pod identity: %s cannot be listened on: %s", host, error)
                if number == 0:
                    if not self._told:
                        self._report(f"credentials are not answered at {host}:{self._port}: {error}")
                    self._told = True
                    return False
        self.addresses = tuple(address[:2] for address in runner.addresses)
        self.listening.set()
        log.info("pod identity: containers are answered on %s", self.addresses)
        return True

    async def _handle(self, request: web.Request) -> web.Response:
        host = _host_of(f"//{request.host}")
        if host not in self._hosts or request.remote not in self._clients:
            wanted = " ".join(self._hosts)
            text = f"Called agent through invalid address, please use either [{wanted}] address not {host}"
            return _refuse(HTTPStatus.FORBIDDEN, f"Access Denied. {text}")
        token = request.headers.get("Authorization", "").strip()
        if not token:
            return _refuse(HTTPStatus.BAD_REQUEST, "Service account token cannot be empty")
        if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
            return _refuse(HTTPStatus.BAD_REQUEST, "Service account token cannot be parsed")
        if not self._is_on:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The provider of the node answers for no roles any more")
        if self._requests >= MAX_REQUESTS:
            return _refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests. Other requests wait for their answers")
        self._requests += 1
        try:
            answer = await self._questions.ask(token)
        finally:
            self._requests -= 1
        if answer["status"] != HTTPStatus.OK:
            return _refuse(answer["status"], answer["body"])
        return web.Response(text=answer["body"], content_type="application/json")


def _refuse(status: int, text: str) -> web.Response:
    """As Go's http.Error."""
    return web.Response(status=status, text=f"{text}\n", headers={"X-Content-Type-Options": "nosniff"})


def has_ipv6() -> bool:
    return _IPV6.exists()


async def add_address(host: str) -> None:
    """Make it an address of the instance's loopback device. Idempotent; an address in 127/8 is one already. Raises
    OSError."""
    if host.startswith("127."):
        return
    options = ("nodad",) if ":" in host else ("scope", "host")
    prefix = f"{host}/{128 if ':' in host else 32}"
    process = await asyncio.create_subprocess_exec(
        *("ip", "address", "replace", prefix, "dev", "lo", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_IP_LIMIT_S):
            _, errors = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise OSError(f"ip: no end after {_IP_LIMIT_S:g} s") from None
    if process.returncode:
        raise OSError(f"ip: {' '.join(errors.decode(errors='replace').split())[:500]}")
