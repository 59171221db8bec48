"""The API server as the administrator: plain requests, and watches that fill histories."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from tests.cluster.controlplane import ControlPlane
from vk_provider.jsontypes import Json

STRATEGIC = "application/strategic-merge-patch+json"
RETRY_S = 0.5
REQUEST_S = 60.0
LINE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer; a refusal is one, too."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return self.status < 400

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.text)

    @property
    def message(self) -> str:
        """The message of a refusal (metav1.Status), else the body."""
        try:
            document = orjson.loads(self.text)
        except ValueError:
            return self.text
        return str(document.get("message", self.text)) if isinstance(document, dict) else self.text


class Api:
    """Use it as an asynchronous context manager."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def __aenter__(self) -> Api:
        context = ssl.create_default_context(cafile=str(self._plane.ca))
        context.load_cert_chain(self._plane.state.pki / "admin.crt", self._plane.state.pki / "admin.key")
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(self._plane.url, connector=connector, read_bufsize=LINE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", query: Json | None = None
    ) -> Answer:
        """One request; never raises for a status."""
        headers = {"Content-Type": kind} if body is not None else {}
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        async with self._session.request(
            method, path, data=data, headers=headers, params=query, timeout=timeout
        ) as answer:
            return Answer(answer.status, (await answer.read()).decode(errors="replace"))

    async def read_for(self, path: str, query: Json, seconds: float) -> tuple[Answer, bool]:
        """What a GET answers within this time, and whether the answer has ended by then."""
        text, status = b"", 0
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.get(path, params=query, timeout=aiohttp.ClientTimeout(total=None)) as answer,
            ):
                status = answer.status
                async for chunk in answer.content.iter_any():
                    text += chunk
        except TimeoutError:
            return Answer(status, text.decode(errors="replace")), False
        return Answer(status, text.decode(errors="replace")), True

    async def watch(self, path: str, on_event: Callable[[str, Json], None], opened: asyncio.Event) -> None:
        """Call `on_event` with the type and the object of every event from now on, for ever; `opened` is set when none
        can be missed any more. A watch that breaks goes on where it was."""
        version = ""
        while True:
            try:
                if not version:
                    listed = (await self.call("GET", path, query={"limit": "1"})).json
                    version = listed["metadata"]["resourceVersion"]
                opened.set()
                version = await self._follow(path, version, on_event)
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                await asyncio.sleep(RETRY_S)

    async def _follow(self, path: str, version: str, on_event: Callable[[str, Json], None]) -> str:
        """The version to go on from, "" when the server has forgotten it."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(path, params=query, timeout=timeout, raise_for_status=True) as answer:
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        return ""
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        on_event(event["type"], event["object"])
        return version
