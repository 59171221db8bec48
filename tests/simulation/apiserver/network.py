"""What stands between the provider's HTTP client and the API server: latency, and every fault of a network.

`Transport` takes the place of the aiohttp session in `KubeClient`, so all of the client above it is the real one. A
request that was sent goes on at the server when its sender is killed or gives up.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from tests.simulation.apiserver.rules import refuse
from tests.simulation.apiserver.server import BOOKMARK_S, Answer, ApiServer, Watch, error_answer
from tests.simulation.loop import IN_ORDER_S, PROCESS, Process, Reply, outside_later, outside_soon
from vk_provider.kube.paths import RequestInfo, parse_request

LATENCY_S = (0.002, 0.02)
SERVER = "https://api.simulated"


@dataclass
class Faults:
    """What goes wrong with requests now. Rates are probabilities of a request.

    away:         nothing is answered, watches break
    lost_request: the connection breaks before the server has it; lost_answer: after it was carried out
    unavailable:  503; throttled: 429 with Retry-After
    slow:         takes up to slow_s seconds more, in each direction
    hangs:        requests that it says yes to get no answer, and are not carried out
    stalled:      watches send nothing, and send it all later
    """

    away: bool = False
    lost_request: float = 0.0
    lost_answer: float = 0.0
    unavailable: float = 0.0
    throttled: float = 0.0
    slow: float = 0.0
    slow_s: float = 5.0
    stalled: bool = False
    hangs: list[Callable[[RequestInfo], bool]] = field(default_factory=list)

    @property
    def is_calm(self) -> bool:
        rates = self.lost_request, self.lost_answer, self.unavailable, self.throttled, self.slow
        return not (self.away or self.stalled or any(rates))


class Network:
    """`faults` are changed by the plan. `break_watches` ends all streams."""

    def __init__(self, server: ApiServer, rng: random.Random) -> None:
        self.server, self.faults = server, Faults()
        self._rng = rng
        self._streams: list[Stream] = []

    def latency_s(self) -> float:
        faults = self.faults
        extra_s = self._rng.uniform(0.0, faults.slow_s) if faults.slow and self._rng.random() < faults.slow else 0.0
        return self._rng.uniform(*LATENCY_S) + extra_s

    def draw(self, info: RequestInfo) -> str:
        """The fault of one request; "" for none."""
        faults = self.faults
        if any(hang(info) for hang in faults.hangs):
            return "hang"
        if faults.away:
            return "lost request"
        number = self._rng.random()
        for rate, name in (
            (faults.lost_request, "lost request"),
            (faults.lost_answer, "lost answer"),
            (faults.unavailable, "unavailable"),
            (faults.throttled, "throttled"),
        ):
            if number < rate:
                return name
            number -= rate
        return ""

    def break_watches(self) -> None:
        for stream in list(self._streams):
            stream.fail(aiohttp.ClientPayloadError("the connection was lost"))

    def hang_up(self, process: Process) -> None:
        """The streams of a process that is gone."""
        for stream in [each for each in self._streams if each.process is process]:
            stream.close()

    def stall(self, stalled: bool) -> None:
        self.faults.stalled = stalled
        if not stalled:
            for stream in list(self._streams):
                stream.flush()

    def open_stream(self, path: str, query: Mapping[str, str]) -> Stream | Answer:
        stream = Stream(self, PROCESS.get())
        opened = self.server.open_watch(path, query, stream.take)
        if isinstance(opened, Answer):
            return opened
        stream.watch = opened
        self._streams.append(stream)
        stream.begin(float(query.get("timeoutSeconds") or 300))
        return stream

    def forget(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
        if stream.watch is not None:
            self.server.close_watch(stream.watch)


class Stream:
    """The body of one watch: lines arrive in their order, with the network's latency."""

    def __init__(self, network: Network, process: Process | None) -> None:
        self._network = network
        self.process = process
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._arrives_at = 0.0
        self._on_its_way: deque[bytes | None] = deque()
        self._held: list[bytes | None] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._broken = False
        self.watch: Watch | None = None

    def begin(self, limit_s: float) -> None:
        self._timers.append(outside_later(limit_s, self.take, None))
        self._bookmark_later()

    def _bookmark_later(self) -> None:
        self._timers[1:] = [outside_later(BOOKMARK_S, self._bookmark)]

    def _bookmark(self) -> None:
        if self.watch is not None and not self._broken:
            self._network.server.bookmark(self.watch)
            self._bookmark_later()

    def take(self, line: bytes | None) -> None:
        """A line from the server, or the end."""
        if self._broken:
            return
        if self._network.faults.stalled:
            self._held.append(line)
            return
        now = asyncio.get_running_loop().time()
        self._arrives_at = max(self._arrives_at + IN_ORDER_S, now + self._network.latency_s())
        self._on_its_way.append(line)
        outside_later(self._arrives_at - now, self._arrive)

    def _arrive(self) -> None:
        """The oldest line, whichever timer it was that fired."""
        self._queue.put_nowait(self._on_its_way.popleft())

    def flush(self) -> None:
        held, self._held = self._held, []
        for line in held:
            self.take(line)

    def fail(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            outside_soon(self._queue.put_nowait, error)
            self.close()

    def close(self) -> None:
        self._broken = True
        for timer in self._timers:
            timer.cancel()
        self._network.forget(self)

    async def chunks(self, silence_s: float) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    line = await self._queue.get()
            except TimeoutError:
                raise aiohttp.SocketTimeoutError("nothing was sent") from None
            if line is None:
                return
            if isinstance(line, Exception):
                raise line
            yield line


class Transport:
    """aiohttp.ClientSession as KubeClient uses it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._closed = False

    def request(
        self,
        method: str,
        url: URL,
        *,
        params: Mapping[str, str] | None,
        data: bytes | None,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        **_: Any,
    ) -> _Request:
        path, query = url.path, dict(params or {})
        arguments = (method, path, query, headers.get("Content-Type", ""), data)
        return _Request(self._network, arguments, timeout.total)

    def get(self, url: URL, *, params: Mapping[str, str], timeout: aiohttp.ClientTimeout, **_: Any) -> _WatchRequest:
        return _WatchRequest(self._network, url.path, dict(params), timeout)

    async def close(self) -> None:
        self._closed = True


class _Response:
    def __init__(self, answer: Answer) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._body = answer.body

    async def read(self) -> bytes:
        return self._body


class _Request:
    """Context manager around one request."""

    def __init__(self, network: Network, arguments: tuple[Any, ...], limit_s: float | None) -> None:
        self._network, self._arguments, self._limit_s = network, arguments, limit_s

    async def __aenter__(self) -> _Response:
        reply = Reply()
        network = self._network
        fault = network.draw(parse_request(*self._arguments[:3]))

        def arrive() -> None:
            if fault == "hang":
                return
            if fault == "lost request":
                outside_later(0.0, reply.deliver, aiohttp.ServerDisconnectedError())
            elif fault == "unavailable":
                error = refuse(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", "the server is not ready")
                outside_later(network.latency_s(), reply.deliver, error_answer(error))
            elif fault == "throttled":
                error = refuse(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", "too many requests")
                outside_later(network.latency_s(), reply.deliver, error_answer(error, {"Retry-After": "1"}))
            else:
                answer: Any = network.server.handle(*self._arguments)
                answer = aiohttp.ServerDisconnectedError() if fault == "lost answer" else answer
                outside_later(network.latency_s(), reply.deliver, answer)

        outside_later(network.latency_s(), arrive)
        async with asyncio.timeout(self._limit_s):
            return _Response(await reply.wait())

    async def __aexit__(self, *_: object) -> None:
        return None


class _Content:
    def __init__(self, stream: Stream, silence_s: float) -> None:
        self._stream, self._silence_s = stream, silence_s

    def iter_any(self) -> AsyncIterator[bytes]:
        return self._stream.chunks(self._silence_s)


class _WatchResponse(_Response):
    def __init__(self, answer: Answer, stream: Stream | None, silence_s: float) -> None:
        super().__init__(answer)
        if stream is not None:
            self.content = _Content(stream, silence_s)


class _WatchRequest:
    def __init__(self, network: Network, path: str, query: dict[str, str], timeout: aiohttp.ClientTimeout) -> None:
        self._network, self._path, self._query, self._timeout = network, path, query, timeout
        self._stream: Stream | None = None

    async def __aenter__(self) -> _WatchResponse:
        network, info = self._network, parse_request("GET", self._path, self._query)
        await asyncio.sleep(network.latency_s())
        fault = network.draw(info)
        if fault == "hang":
            await asyncio.sleep(self._timeout.sock_read or 0)
            raise aiohttp.SocketTimeoutError("no answer")
        if fault in ("lost request", "lost answer"):
            raise aiohttp.ServerDisconnectedError()
        if fault:
            status = HTTPStatus.TOO_MANY_REQUESTS if fault == "throttled" else HTTPStatus.SERVICE_UNAVAILABLE
            return _WatchResponse(error_answer(refuse(status, "", "the server is not ready")), None, 0)
        opened = network.open_stream(self._path, self._query)
        if isinstance(opened, Answer):
            return _WatchResponse(opened, None, 0)
        self._stream = opened
        return _WatchResponse(Answer(HTTPStatus.OK, b""), opened, self._timeout.sock_read or 3600.0)

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


class NoCredentials:
    """kube.credentials.Credentials of a cluster that asks for none."""

    server, source = SERVER, "the simulation"
    ssl_context = server_hostname = proxy = None

    def __init__(self, *_: object) -> None:
        """Nothing to read."""

    async def load(self) -> None:
        """Nothing to read."""

    async def reload(self) -> bool:
        return False

    async def authorization(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing to close."""
