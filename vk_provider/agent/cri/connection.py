"""One gRPC connection to containerd's unix socket, shared by all services on it, and the one error it raises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, Protocol, TypeVar

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from vk_provider.errors import AgentError

DEFAULT_TIMEOUT_S = 120.0
"""The kubelet's --runtime-request-timeout."""

RequestT = TypeVar("RequestT", contravariant=True)
ReplyT = TypeVar("ReplyT")
ReplyCoT = TypeVar("ReplyCoT", covariant=True)


class UnaryMethod(Protocol[RequestT, ReplyCoT]):
    """A unary method of a generated stub."""

    def __call__(self, message: RequestT, *, timeout: float | None = None) -> Awaitable[ReplyCoT]: ...


class RuntimeServiceError(AgentError):
    """A call to the container runtime failed.

    `code` is the gRPC status name ("NOT_FOUND"; "UNAVAILABLE" when containerd does not answer, "DEADLINE_EXCEEDED"
    for a timeout on either side); str() is the runtime's message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message or code)
        self.code = code

    @property
    def status_text(self) -> str:
        """The error in the format of Go's gRPC, as a kubelet shows it to users."""
        return f"rpc error: code = {_GO_NAMES.get(self.code, self.code.title().replace('_', ''))} desc = {self}"


_GO_NAMES = {"CANCELLED": "Canceled"}


class RuntimeConnection:
    """A lazily opened connection; it opens again by itself after containerd was restarted."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = Channel(path=address)

    async def call(
        self, method: UnaryMethod[Any, ReplyT], request: Any, timeout_s: float | None = DEFAULT_TIMEOUT_S
    ) -> ReplyT:
        """Run a unary call. Raises RuntimeServiceError for every failure. `timeout_s` None: no deadline."""
        with translate_errors(self.address):
            return await method(request, timeout=timeout_s)

    def close(self) -> None:
        self.channel.close()


@contextlib.contextmanager
def translate_errors(address: str) -> Iterator[None]:
    """Raise RuntimeServiceError for all errors of grpclib, its libraries, and the socket."""
    try:
        yield
    except (GRPCError, ProtocolError, StreamTerminatedError, H2Error, OSError) as error:
        raise runtime_error(error, address) from error
    except AttributeError as error:
        if error.name != "_transport":
            raise
        # grpclib deletes this attribute when a connection ends, and misses it when that was right after its beginning.
        raise runtime_error(ConnectionResetError("connection lost"), address) from error


def runtime_error(error: Exception, address: str) -> RuntimeServiceError:
    """Translate what grpclib and the socket raise."""
    if isinstance(error, GRPCError):
        return RuntimeServiceError(error.status.name, error.message or "")
    if isinstance(error, asyncio.TimeoutError):  # an OSError since 3.11
        return RuntimeServiceError("DEADLINE_EXCEEDED", "context deadline exceeded")
    return RuntimeServiceError("UNAVAILABLE", f"container runtime at {address} does not answer: {error}")
