"""A cloud of instances that are addresses of 127.0.0.0/8: their agents live in the test, the provider beside it.

`CloudServer` is the cloud's API, in the test's process; `CloudClient` is the provider's `Cloud`, and speaks to it over
a unix socket. Instances outlive the provider, as everywhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vk_provider.cloud.base import (
    Instance,
    InstancePage,
    InstanceRuntime,
    LaunchAnswer,
    LaunchRequest,
    Notice,
    Offering,
)
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.errors import CloudError

FIRST_ADDRESS = "127.0.16.2"
OWNER = "hostile"

Boot = Callable[[Instance, LaunchRequest], Awaitable[None]]


class CloudServer:
    """The API. `boot` starts the agent of a new instance, `on_gone` is told of each that ends."""

    def __init__(self, socket: Path, boot: Boot, on_gone: Callable[[str], None]) -> None:
        self._socket, self._boot = socket, boot
        self.cloud = SimulatedCloud(SimulationConfig(), OWNER)
        self.cloud._next_address = int(ipaddress.IPv4Address(FIRST_ADDRESS))
        self.cloud.on_gone = on_gone
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, arguments = pickle.loads(await reader.read())
            try:
                answer = await self._call(method, arguments)
            except CloudError as error:
                answer = error
            writer.write(pickle.dumps(answer))
            await writer.drain()
        except ConnectionError:
            pass  # a provider that was killed
        finally:
            writer.close()

    async def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if method != "launch":
            return await getattr(self.cloud, method)(*arguments)
        (request,) = arguments
        known = {instance.instance_id for instance in await list_owned(self.cloud)}
        answer = await self.cloud.launch(request)
        for instance in answer.instances:
            if instance.instance_id not in known:
                await self._boot(instance, request)
        return answer


class CloudClient:
    """vk_provider.cloud.base.Cloud over the socket."""

    name = "hostile"
    shares_host_paths = False
    group_limit = 1
    """Each instance is launched for one pod, whose script its agent follows."""
    listing_lag_s = 0.0

    def __init__(self, socket: str) -> None:
        self._socket = socket

    async def start(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release."""

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                writer.write(pickle.dumps((method, arguments)))
                writer.write_eof()
                answer = pickle.loads(await reader.read())
            finally:
                writer.close()
        except (OSError, EOFError) as error:
            raise CloudError(f"{method}: {error}") from None
        if isinstance(answer, CloudError):
            raise answer
        return answer

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        return await self._call("launch", request)

    async def list_page(self, page: str = "") -> InstancePage:
        return await self._call("list_page", page)

    async def describe(self, instance_ids: Sequence[str]) -> list[Instance]:
        return await self._call("describe", list(instance_ids))

    async def terminate(self, instance_ids: Sequence[str]) -> Any:
        return await self._call("terminate", list(instance_ids))

    async def create_tags(self, instance_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        await self._call("create_tags", list(instance_ids), dict(tags))

    async def notices(self) -> AsyncIterator[Notice]:
        """None."""
        return
        yield

    async def describe_offerings(self) -> list[Offering]:
        return await self._call("describe_offerings")

    async def describe_runtime(self) -> InstanceRuntime:
        return await self._call("describe_runtime")
