"""What the mirror answers, without a containerd: only blobs, only when a peer has delivered them, also in parts."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from vk_provider.agent.blobs import book as book_module
from vk_provider.agent.blobs import serving
from vk_provider.agent.blobs.book import BlobBook
from vk_provider.agent.blobs.content import ContentStore
from vk_provider.agent.blobs.mirror import BlobMirror
from vk_provider.agent.blobs.serving import BlobServer
from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.server import AgentServer
from vk_provider.agentclient.authority import Authority, create_authority, read_csr
from vk_provider.aiokit.inotify import Inotify
from vk_provider.wire import routes
from vk_provider.wire.blobs import BlobAnswer, BlobsMessage, PeerSource, SourcesMessage, compute_grant

NOW = datetime.datetime.now(datetime.UTC)
KEY = "5e" * 32
CONTENT = bytes(range(256)) * 2000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Node:
    """One instance's parts. `answers`: what the provider says to a wanted blob."""

    def __init__(self, name: str, authority: Authority, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.told: list[BlobsMessage] = []
        self.answer: BlobAnswer | None = None
        self.book = BlobBook(ContentStore(directory), self._hear, lambda: "uid")
        self.identity = AgentIdentity(directory / "state", name, authority.certificate_pem, KEY)
        self.identity.load_or_create()
        csr = read_csr(str(self.identity.answer("00", [1])["csr"]), name)
        self.identity.accept(authority.sign_instance(csr, name, NOW).pem)
        self.server = AgentServer(self.identity)
        self.blobs = BlobServer(self.book)
        self.blobs.add_routes(self.server.app)
        self.mirror = BlobMirror(self.book, self.identity.client_context, directory / "spool")

    def _hear(self, message: BlobsMessage) -> None:
        self.told.append(message)
        if message["wanted"] and self.answer is not None:
            answers = [self.answer]
            sources = SourcesMessage(type="sources", key=KEY, answers=answers)
            asyncio.get_running_loop().call_soon(self.book.receive, sources)

    async def start(self) -> None:
        await self.server.start("127.0.0.1", 0)
        self.url = await self.mirror.start()
        self.book.receive(SourcesMessage(type="sources", key=KEY, answers=[]))

    def put(self, content: bytes, digest: str = "") -> None:
        self.book.content.directory.mkdir(parents=True, exist_ok=True)
        name = digest or "sha256:" + hashlib.sha256(content).hexdigest()
        (self.book.content.directory / name.removeprefix("sha256:")).write_bytes(content)

    def source(self, client: str, digest: str = DIGEST, size: int = len(CONTENT)) -> BlobAnswer:
        """An answer that names this instance."""
        grant = compute_grant(KEY, client, digest)
        port = self.server.addresses[0][1]
        source = PeerSource(instance=self.name, address="127.0.0.1", port=port, grant=grant)
        return BlobAnswer(digest=digest, kind="peer", size=size, source=source)

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
        async with aiohttp.ClientSession() as http, http.request(method, self.url + path, headers=headers) as answer:
            return answer.status, await answer.read(), answer.headers

    async def stop(self) -> None:
        await self.server.stop()
        await self.mirror.stop()


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """One that has the blob, and one that has not."""
    authority = Authority(*create_authority(NOW), 3600)
    made = Node("i-holder", authority, tmp_path / "holder"), Node("i-client", authority, tmp_path / "client")
    for node in made:
        await node.start()
    made[0].put(CONTENT)
    yield made
    for node in made:
        await node.stop()


BLOB = f"/v2/team/app/blobs/{DIGEST}"


async def test_a_blob_comes_from_the_peer_whole_and_in_parts(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    client.answer = holder.source("i-client")
    assert (await client.get(f"{BLOB}?ns=registry.example"))[:2] == (200, CONTENT)
    status, part, headers = await client.get(BLOB, Range="bytes=1000-1999")
    assert (status, part) == (206, CONTENT[1000:2000])
    assert headers["Content-Range"] == f"bytes 1000-1999/{len(CONTENT)}"
    assert (await client.get(BLOB, Range="bytes=511000-"))[1] == CONTENT[511000:]
    assert holder.blobs.sent_bytes == len(CONTENT), "it was fetched once"


async def test_the_copy_goes_as_soon_as_the_runtime_has_the_blob(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    following = asyncio.create_task(client.book.run(Inotify()))
    client.answer = holder.source("i-client")
    client.book.pull_began()
    await client.get(BLOB)
    assert len(list((client.directory / "spool").iterdir())) == 1
    client.put(CONTENT)
    async with asyncio.timeout(10):
        while list((client.directory / "spool").iterdir()):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    assert client.told[-1]["held"] == [DIGEST]
    assert (client.told[-1]["peerBytes"], client.told[-1]["registryBytes"]) == (len(CONTENT), 0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", BLOB),
        ("GET", f"/v2/team/app/manifests/{DIGEST}"),
        ("GET", "/v2/team/app/manifests/latest"),
        ("GET", "/v2/"),
        ("GET", "/v2/team/app/blobs/sha256:../../../etc/shadow"),
        ("PUT", BLOB),
        ("POST", "/v2/team/app/blobs/uploads/"),
    ],
)
async def test_everything_else_is_the_registrys(nodes: tuple[Node, Node], method: str, path: str) -> None:
    holder, client = nodes
    client.answer = holder.source("i-client")
    assert (await client.get(path, method))[0] == 404
    assert holder.blobs.sent_bytes == 0


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_blob_of_another_size_than_the_manifest_says_is_not_taken(nodes: tuple[Node, Node], size: int) -> None:
    holder, client = nodes
    client.answer = holder.source("i-client", size=size)
    assert (await client.get(BLOB))[0] == 404
    assert client.told[-1]["failed"] == [{"digest": DIGEST, "instance": "i-holder"}]
    assert list((client.directory / "spool").iterdir()) == []


async def test_other_content_is_not_taken_and_the_next_request_does_not_ask_again(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    holder.put(b"x" + CONTENT[1:], DIGEST)
    client.answer = holder.source("i-client")
    assert (await client.get(BLOB))[0] == 404
    sent = holder.blobs.sent_bytes
    assert (await client.get(BLOB, Range="bytes=5-"))[0] == 404
    assert holder.blobs.sent_bytes == sent
    assert client.told[-1]["fetching"] == [DIGEST]


async def test_a_grant_is_no_good_to_another_instance_or_for_another_blob(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    for wrong in (compute_grant(KEY, "i-other", DIGEST), compute_grant(KEY, "i-client", "sha256:" + "0" * 64), ""):
        answer = holder.source("i-client")
        answer["source"]["grant"] = wrong
        port = answer["source"]["port"]
        name = routes.server_name("i-holder")
        async with (
            aiohttp.ClientSession() as http,
            http.get(
                f"https://127.0.0.1:{port}{routes.BLOBS}/{DIGEST}",
                headers={routes.GRANT_HEADER: wrong},
                ssl=client.identity.client_context(),
                server_hostname=name,
            ) as response,
        ):
            assert response.status == 403
    assert holder.blobs.sent_bytes == 0


async def test_a_link_in_the_content_store_is_not_followed(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    holder, client = nodes
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 10)
    digest = "sha256:" + "1" * 64
    (holder.book.content.directory / ("1" * 64)).symlink_to(secret)
    client.answer = holder.source("i-client", digest, 10)
    assert (await client.get(f"/v2/team/app/blobs/{digest}"))[0] == 404
    assert holder.blobs.sent_bytes == 0
    assert digest not in holder.book.content.scan()


async def test_uploads_are_limited(nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_UPLOADS", 0)
    holder, client = nodes
    client.answer = holder.source("i-client")
    assert (await client.get(BLOB))[0] == 404


async def test_one_instance_leaves_uploads_to_the_others(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    client.answer = holder.source("i-client")
    holder.blobs._uploads["i-client"] = serving.MAX_UPLOADS_OF_ONE
    assert (await client.get(BLOB))[0] == 404
    assert client.told[-1]["failed"] == [{"digest": DIGEST, "instance": "i-holder"}]
    holder.blobs._uploads.clear()
    holder.blobs._uploads["i-greedy"] = serving.MAX_UPLOADS_OF_ONE
    other = "sha256:" + hashlib.sha256(CONTENT[1:]).hexdigest()
    holder.put(CONTENT[1:])
    client.answer = holder.source("i-client", other, len(CONTENT) - 1)
    assert (await client.get(f"/v2/team/app/blobs/{other}"))[:2] == (200, CONTENT[1:])
    assert dict(holder.blobs._uploads) == {"i-greedy": serving.MAX_UPLOADS_OF_ONE}, "what has ended is not kept"


async def test_a_provider_that_is_silent_is_waited_for_once(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "FIRST_ANSWER_S", 0.2)
    _, client = nodes
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await client.get(BLOB))[0] == 404
    assert loop.time() - began >= 0.2
    began, told = loop.time(), len(client.told)
    assert (await client.get("/v2/team/app/blobs/sha256:" + "2" * 64))[0] == 404
    assert len(client.told) == told


async def test_a_full_disk_is_nobodys_fault(nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vk_provider.agent.blobs.transfer.RESERVE_BYTES", 1 << 60)
    holder, client = nodes
    client.answer = holder.source("i-client")
    assert (await client.get(BLOB))[0] == 404
    assert client.told[-1]["failed"] == []


async def test_peers_that_cannot_be_reached_are_left_for_the_rest_of_the_pull(nodes: tuple[Node, Node]) -> None:
    holder, client = nodes
    await holder.server.stop()
    following = asyncio.create_task(client.book.run(Inotify()))
    client.book.pull_began()
    for number in range(book_module.MAX_FAILURES_IN_ROW):
        digest = f"sha256:{number:064x}"
        client.answer = unreachable(digest)
        assert (await client.get(f"/v2/team/app/blobs/{digest}"))[0] == 404
        assert len(client.told[-1]["failed"]) == number + 1
    told = len(client.told)
    assert (await client.get(BLOB))[0] == 404
    assert all(not message["wanted"] for message in client.told[told:])
    client.book.pull_ended()
    async with asyncio.timeout(10):
        while not client.book.is_open_to_peers(DIGEST):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def unreachable(digest: str) -> BlobAnswer:
    source = PeerSource(instance="i-holder", address="127.0.0.1", port=1, grant="")
    return BlobAnswer(digest=digest, kind="peer", size=10, source=source)
