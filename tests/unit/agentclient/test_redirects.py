"""Agents that send the provider, or the client behind it, somewhere else. Real TLS on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.agentclient.test_https import IDENTITY, LOOPBACK, serving_context
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.errors import AgentError
from vk_provider.wire import routes


class Redirecting:
    """Answers every route with `status` and a Location on itself, and counts who came there."""

    def __init__(self) -> None:
        self.status = 302
        self.headers: dict[str, str] = {}
        self.visits: list[str] = []

    async def start(self, directory: Path) -> int:
        app = web.Application()
        app.router.add_route("*", "/elsewhere", self._visited)
        app.router.add_route("*", "/{path:.*}", self._redirect)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=serving_context(IDENTITY, directory)).start()
        self.port = int(self._runner.addresses[0][1])
        return self.port

    async def _redirect(self, _: web.Request) -> web.Response:
        location = {"Location": f"https://127.0.0.1:{self.port}/elsewhere"}
        return web.Response(status=self.status, headers={**location, **self.headers}, text="body")

    async def _visited(self, request: web.Request) -> web.Response:
        self.visits.append(request.method)
        return web.json_response({})

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[tuple[Redirecting, HttpsConnector]]:
    built = Redirecting()
    connector = HttpsConnector(IDENTITY, certificate_ttl_s=900, port=await built.start(tmp_path))
    yield built, connector
    await connector.close()
    await built.stop()


CALLS: dict[str, Callable[[HttpsConnector], Awaitable[object]]] = {
    "logs": lambda connector: connector.request(LOOPBACK, "GET", routes.LOGS),
    "run": lambda connector: connector.request(LOOPBACK, "POST", routes.RUN),
    "stats": lambda connector: connector.request(LOOPBACK, "GET", routes.STATS),
    "session": lambda connector: connector.open_session(LOOPBACK, fresh=False),
    "identity": lambda connector: connector.open_session(LOOPBACK, fresh=True),
    "renewal": lambda connector: connector.renew(LOOPBACK),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_of_an_agent_is_followed(
    agent: tuple[Redirecting, HttpsConnector], call: str, status: int
) -> None:
    agent[0].status = status
    with pytest.raises(AgentError, match=str(status)):
        await CALLS[call](agent[1])
    assert agent[0].visits == []
    assert agent[1]._open_requests == {}, "what was refused is no open request"


@pytest.mark.parametrize("status", [300, 304, 401, 407, 206, 600])
async def test_statuses_that_no_agent_answers_with_are_refused(
    agent: tuple[Redirecting, HttpsConnector], status: int
) -> None:
    agent[0].status = status
    with pytest.raises(AgentError, match=str(status)):
        await CALLS["logs"](agent[1])


async def test_only_status_body_and_a_harmless_type_of_an_answer_are_seen(
    agent: tuple[Redirecting, HttpsConnector],
) -> None:
    agent[0].status, agent[0].headers = 404, {"Set-Cookie": "a=b", "Content-Type": "text/html"}
    for method, path in (("GET", routes.LOGS), ("POST", routes.RUN)):
        response = await agent[1].request(LOOPBACK, method, path)
        assert (response.status, response.headers) == (404, {"Content-Type": "text/plain; charset=utf-8"})
        assert b"".join([chunk async for chunk in response.iter_any()]) == b"body"
        await response.close()
    assert len(agent[1]._session().cookie_jar) == 0
