"""gRPC health check (grpc.health.v1) as a probe. Source: pkg/probe/grpc/grpc.go (v1.37)."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from vk_provider.agent.worker.http.request import VERSION
from vk_provider.agent.worker.http.words import format_timeout, join_host_port
from vk_provider.agent.worker.probes.grpc_call import CallError, GrpcConnection, connect

USER_AGENT = f"kube-probe/{VERSION}"
"""What a server sees of a kubelet, before the text of the gRPC library itself."""
_CHECK = "/grpc.health.v1.Health/Check"


async def check_health(host: str, port: int, service: str, timeout_s: float) -> tuple[bool, str]:
    """Return (serving, text). Everything that goes wrong is a failure, as with grpc_health_probe.

    A server that does not accept connections, or does not speak HTTP/2, has until timeout_s to do so.
    """
    connection: GrpcConnection | None = None
    limit = format_timeout(timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            connection = await connect(host, port)
            request = HealthCheckRequest(service=service).SerializeToString()
            reply = HealthCheckResponse.FromString(await connection.call(_CHECK, request, USER_AGENT))
    except TimeoutError:
        if connection is not None:
            return False, f"timeout: health rpc did not complete within {limit}"
        address = join_host_port(host, port)
        return False, f'timeout: failed to connect service "{address}" within {limit}: context deadline exceeded'
    except CallError as error:
        if error.code == "Unimplemented":
            text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return False, f"{text}: {error}"
        if error.code == "DeadlineExceeded":
            return False, f"timeout: health rpc did not complete within {limit}"
        return False, f"error: health rpc probe failed: rpc error: code = {error.code} desc = {error}"
    except DecodeError as error:
        text = f"rpc error: code = Internal desc = grpc: failed to unmarshal the received message: {error}"
        return False, f"error: health rpc probe failed: {text}"
    finally:
        if connection is not None:
            connection.close()
    known = HealthCheckResponse.ServingStatus.values()
    name = HealthCheckResponse.ServingStatus.Name(reply.status) if reply.status in known else str(reply.status)
    if name != "SERVING":
        return False, f'service unhealthy (responded with "{name}")'
    return True, "service healthy"
