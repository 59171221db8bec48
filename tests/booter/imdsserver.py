"""The metadata service of all sandboxes: one listener at 169.254.169.254 in the bridge's network namespace.

Instances are known by the address that they send from, which the bridge's source guard makes trustworthy.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from http import HTTPStatus

from tests.booter.imds import Answer, Guest, Request, Tokens, answer
from vk_provider.cloud.local import syscalls
from vk_provider.cloud.local.network import METADATA_IP

FindGuest = Callable[[str], Guest | None]
"""The instance that has this address."""
_IDLE_S = 30.0
_MAX_HEAD = 16384


def listen_in(namespace_path: str, address: str = METADATA_IP, port: int = 80) -> socket.socket:
    """A listening socket of another network namespace; call it in a thread of its own, which stays where it was."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(there, syscalls.CLONE_NEWNET)
        try:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            syscalls.setns(before, syscalls.CLONE_NEWNET)
    finally:
        os.close(there)
        os.close(before)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))  # a socket belongs to the namespace that it was made in
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class MetadataServer:
    """Answers the requests of instances; `serve` until `close`."""

    def __init__(self, find: FindGuest) -> None:
        self._find = find
        self._tokens = Tokens(secrets.token_bytes(32))
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_MAX_HEAD)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._handle(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername")[0])
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    request = parse_head(await reader.readuntil(b"\r\n\r\n"))
                found = (
                    Answer(400) if request is None else answer(request, self._find(source), self._tokens, time.time())
                )
                if found.hop_limit:  # and for the rest of the connection: a repeated packet must not go further
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, found.hop_limit)
                writer.write(render(found))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            pass  # the client has disconnected, or is no HTTP client


def parse_head(data: bytes) -> Request | None:
    """The request, up to its empty line; None when it is none."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    fields = (line.partition(":") for line in lines)
    return Request(words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in fields})


def render(found: Answer) -> bytes:
    headers = {"Content-Type": "text/plain", "Server": "EC2ws", **found.headers, "Content-Length": len(found.body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}\r\n{head}\r\n".encode() + found.body
