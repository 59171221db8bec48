"""gRPC health check (grpc.health.v1) as a probe. Source: pkg/probe/grpc/grpc.go (v1.37)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.protocol import H2Protocol

from vk_provider.agent.worker.httpget import VERSION, describe_os_error

USER_AGENT = f"kube-probe/{VERSION}"
"""What a server sees of a kubelet, before the text of the gRPC library itself."""


async def check_health(host: str, port: int, service: str, timeout_s: float) -> tuple[bool, str]:
    """Return (serving, text). Everything that goes wrong is a failure, as with grpc_health_probe."""
    address = f"{host}:{port}"
    channel = _ProbeChannel(host, port)
    connected = False
    try:
        async with asyncio.timeout(timeout_s):
            await channel.__connect__()
            connected = True
            reply = await HealthStub(channel).Check(HealthCheckRequest(service=service))
    except TimeoutError:
        if connected:
            return False, f"timeout: health rpc did not complete within {timeout_s:g}s"
        return False, (
            f'timeout: failed to connect service "{address}" within {timeout_s:g}s: context deadline exceeded'
        )
    except GRPCError as error:
        if error.status is Status.UNIMPLEMENTED:
            return False, (
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
                f"{error.message}"
            )
        name = error.status.name.title().replace("_", "")
        return False, f"error: health rpc probe failed: rpc error: code = {name} desc = {error.message}"
    except (ProtocolError, StreamTerminatedError) as error:
        return False, f"error: health rpc probe failed: {error}"
    except OSError as error:
        return False, f'error: failed to connect service at "{address}": {describe_os_error(error)}'
    finally:
        channel.close()
    name = HealthCheckResponse.ServingStatus.Name(reply.status)
    if name != "SERVING":
        return False, f'service unhealthy (responded with "{name}")'
    return True, "service healthy"


class _ProbeChannel(Channel):
    """A channel with a user agent of its own: grpclib has no option for it and takes none from metadata."""

    async def _create_connection(self) -> H2Protocol:
        protocol = await super()._create_connection()
        _name_user_agent(protocol.connection._connection)
        return protocol


def _name_user_agent(connection: Any) -> None:
    """connection: the HTTP/2 connection (h2) below a channel."""
    send_headers = connection.send_headers

    def send(stream_id: int, headers: Iterable[tuple[str, str]], *args: Any, **options: Any) -> None:
        named = [(name, f"{USER_AGENT} {value}" if name == "user-agent" else value) for name, value in headers]
        send_headers(stream_id, named, *args, **options)

    connection.send_headers = send
