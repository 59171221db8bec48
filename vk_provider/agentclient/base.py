"""Protocols of the connection to an agent. `https` dials real agents, the simulated cloud has its own connector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol, TypeVar

from vk_provider.agentclient.session import AgentSession
from vk_provider.cloud.base import Instance

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class AgentResponse(Protocol):
    """A streaming HTTP answer of an agent. `status` and `headers` are those that answers.py accepts."""

    status: int
    headers: Mapping[str, str]

    def iter_any(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class AgentConnector(Protocol):
    """Reaches agents. All methods raise AgentUnreachableError, AgentIdentityError or AgentVersionError."""

    async def open_session(self, instance: Instance, *, fresh: bool = True) -> AgentSession:
        """One dial attempt: identity exchange if needed, then the session. The caller retries with back-off.

        fresh: no pod has started on the instance, so it may have no certificate yet; otherwise only its certificate
        is accepted, and there is no identity exchange."""

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> AgentResponse:
        """An ordinary HTTP request (logs, run, stats). Redirects are not followed: AgentError."""

    async def open_stream(
        self, instance: Instance, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """A fresh TLS connection to the agent (as loop.create_connection) for a request that will be upgraded; the
        caller writes the HTTP request itself and forwards bytes unparsed."""

    async def drain(self, instance_id: str, limit_s: float) -> None:
        """Return when no `request` to the instance is open any more, or after limit_s, so that a client that reads the
        logs of a pod that just terminated gets all of them."""

    async def renew(self, instance: Instance) -> None:
        """Issue a new certificate to the agent; due after `renewal_delay_s`."""

    def renewal_delay_s(self, instance: Instance) -> float:
        """Seconds until a third of the lifetime of the instance's current certificate is left; math.inf where there
        is none."""

    def forget(self, instance_id: str) -> None:
        """The instance is gone: drop its state."""

    async def close(self) -> None: ...
