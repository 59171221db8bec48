"""From a container's request to EKS Auth and back: endpoint, outbox, session, the door, answerer, session, inbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.eks_auth import ACCOUNT, EksAuth
from tests.jwt import make_token
from vk_provider.agent.inbox import Inbox
from vk_provider.agent.metadata_guard import MetadataGuard
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.podidentity.endpoint import IdentityEndpoint
from vk_provider.agent.podidentity.questions import Questions
from vk_provider.agent.session import SessionHandler
from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.podidentity import EksPodIdentity
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.podidentity.answerer import PodIdentityAnswerer
from vk_provider.wire import routes

HOST = "127.0.170.24"
URI = {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"}
POD: Any = {"metadata": {"uid": "u-1"}, "spec": {"containers": [{"name": "c", "env": [URI]}]}}


class Channel:
    """The frames of a WebSocket."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        await self._websocket.send_bytes(frame)

    async def frames(self) -> AsyncIterator[bytes | str]:
        async for frame in self._websocket:
            yield frame.data

    async def close(self) -> None:
        await self._websocket.close()


class Record:
    uid, key = "u-1", "ns/p"

    def __init__(self, session: AgentSession) -> None:
        self.session = session


class Nothing:
    """A worker, tables and notices that this is not about."""

    pod = POD

    def update(self, message: Any) -> None: ...

    def receive(self, message: Any) -> None: ...

    def set_host_network(self, is_used: bool) -> None: ...

    def tell_notices(self, pod_uid: str) -> None: ...


class Reviewer:
    async def find_pod(self, token: str, audience: str) -> str:
        return "u-1"


class Instance:
    """The agent's side of the wire, on loopback addresses."""

    def __init__(self, directory: Path) -> None:
        nothing: Any = Nothing()
        outbox = Outbox()
        questions = Questions(lambda tokens: outbox.send_identity("u-1", tokens))
        self.roles = IdentityEndpoint(questions, (), lambda text: None, (HOST,), 0)
        inbox = Inbox(nothing, MetadataGuard(directory / "allowed"), nothing, nothing, None, self.roles)
        app = web.Application()
        SessionHandler(outbox, inbox.receive, lambda: "u-1", "i-1", "2026-01-01T00:00:00Z").add_routes(app)
        self._runner = web.AppRunner(app, access_log=None)
        self._task = asyncio.create_task(self.roles.run())

    async def start(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}{routes.SESSION}"

    async def get(self, token: str) -> tuple[int, str]:
        await self.roles.listening.wait()
        url = f"http://{HOST}:{self.roles.addresses[0][1]}/v1/credentials"
        headers = {"Authorization": token, "Host": HOST}
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            return response.status, await response.text()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._runner.cleanup()


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EksAuth]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    made = EksAuth("prod")
    await made.start()
    yield made
    await made.stop()


async def test_a_container_gets_its_role_through_the_session_and_the_token_of_another_pod_nothing(
    tmp_path: Path, cloud: EksAuth
) -> None:
    client = AwsClient(AwsCloudSettings(region="eu-central-1", endpoint_url=cloud.url, eks_cluster="prod"))
    await client.start()
    answerer = PodIdentityAnswerer(EksPodIdentity(client, "prod"), Reviewer())
    instance = Instance(tmp_path)
    own, stolen = make_token("u-1"), make_token("u-2")
    cloud.roles = {token: f"arn:aws:sts::{ACCOUNT}:assumed-role/web/s" for token in (own, stolen)}
    async with aiohttp.ClientSession() as http, http.ws_connect(await instance.start()) as websocket:
        session = AgentSession(Channel(websocket))
        record: Any = Record(session)

        def receive(message: Any) -> None:
            if message["type"] == "hello":
                node = {"podIdentity": True}
                session.put(Slot.POD, {"type": "pod", "pod": POD, "references": {}, "node": node})
            elif message["type"] == "identity":
                answerer.receive(record, message)

        running = asyncio.create_task(session.run(receive))
        async with asyncio.timeout(20):
            status, body = await instance.get(own)
            assert status == 200 and json.loads(body)["AccountId"] == ACCOUNT
            assert (await instance.get(own))[0] == 200
            status, body = await instance.get(stolen)
            assert status == 403 and "another pod" in body
        assert cloud.asked == [own]
        await session.close()
        await asyncio.gather(running, return_exceptions=True)
    await instance.stop()
    await answerer.close()
    await client.close()
