"""What a server sees of a gRPC probe."""

from __future__ import annotations

from grpclib.events import RecvRequest, listen
from grpclib.health.service import Health
from grpclib.server import Server

from vk_provider.agent.worker.probes.grpc import check_health


async def test_the_user_agent_is_a_kubelets() -> None:
    seen: list[str | None] = []

    async def look(event: RecvRequest) -> None:
        seen.append(event.user_agent)

    server = Server([Health()])
    listen(server, RecvRequest, look)
    await server.start("127.0.0.1", 0)
    port = server._server.sockets[0].getsockname()[1]
    try:
        assert await check_health("127.0.0.1", port, "", 5) == (True, "service healthy")
    finally:
        server.close()
        await server.wait_closed()
    assert seen == ["kube-probe/1.37"]
