"""One HTTP GET as a kubelet makes it for probes and hooks: no keep-alive, no proxy, no certificate check.

What goes wrong is told in the words of Go's HTTP client. Source: pkg/probe/http/http.go (v1.37), net/http of Go.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import AddrInfoType
from multidict import CIMultiDict
from yarl import URL

from vk_provider.agent.worker.http.request import BAD_ESCAPE, escape
from vk_provider.agent.worker.http.words import describe_dial_error, describe_os_error, join_host_port
from vk_provider.errors import AgentError
from vk_provider.podmodel.fieldref import quote

MAX_BODY_BYTES = 10 * 1024
_MAX_REQUESTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""What Go's client follows; another 3xx is the answer itself."""
_INVALID_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_BROKEN = "net/http: HTTP/1.x transport connection broken"
_LATE_BODY = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"


class HttpGetError(AgentError):
    """No answer; str() is the text of Go's HTTP client. `plain_http`: the server does not speak TLS."""

    def __init__(self, message: str, plain_http: bool = False) -> None:
        super().__init__(message)
        self.plain_http = plain_http


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status and the first 10 KiB of the body. body_error: why the body broke off before, "" when it did not."""

    status: int
    body: str
    body_error: str = ""


class HttpClient:
    """Every request has a connection of its own."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    async def get(self, url: URL, headers: CIMultiDict[str], timeout_s: float | None) -> HttpReply:
        """GET, following redirects to the same host; another host's redirect is returned as it is.

        timeout_s: of all requests and bodies together. Raises HttpGetError.
        """
        for name, value in headers.items():
            if _INVALID_VALUE.search(value):
                raise HttpGetError(f'Get "{url}": net/http: invalid header field value for {quote(name)}')
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        own_host, first_host, sent = headers.get("Host"), _hostname(str(url)), headers
        for request in range(1, _MAX_REQUESTS + 1):
            reply, location = await _Request(url, sent, deadline, self._tls()).run()
            target = _resolve(url, location) if location else ""
            if not target or _hostname(target) != first_host:
                return reply
            if request == _MAX_REQUESTS:
                raise HttpGetError(f'Get "{location}": stopped after 10 redirects')
            own_host = None if urlsplit(location).scheme else own_host
            sent = _headers_after_redirect(headers, own_host, str(url), target)
            url = URL(target, encoded=True)
            if url.scheme not in ("http", "https"):
                raise HttpGetError(f'Get "{url}": unsupported protocol scheme {quote(url.scheme)}')
        raise AssertionError("the last redirect is an error")

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the machine's CAs: 40 ms
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        return self._context


class _Request:
    """One request; knows how far it came."""

    def __init__(self, url: URL, headers: CIMultiDict[str], deadline: float | None, context: ssl.SSLContext) -> None:
        self._url, self._headers, self._deadline, self._context = url, headers, deadline, context
        self._connected = False
        self._socket: socket.socket | None = None
        self._addresses = ""
        self._head: tuple[int, str] | None = None
        self._body = b""

    async def run(self) -> tuple[HttpReply, str]:
        """Return the reply and where it redirects to, or ""; raises HttpGetError."""
        body_error = ""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._exchange()
        except TimeoutError as error:
            if self._head is None:
                raise HttpGetError(f'Get "{self._url}": {self._late()}') from error
            body_error = _LATE_BODY
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if self._head is None:
                raise self._translate(error) from error
            body_error = "unexpected EOF"
        assert self._head is not None
        status, location = self._head
        return HttpReply(status, self._body.decode(errors="replace"), body_error), location

    async def _exchange(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._note_connected)
        connector = aiohttp.TCPConnector(ssl=self._context, force_close=True, limit=0, socket_factory=self._make_socket)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        ) as session:
            session._retry_connection = False  # there is no option for it: aiohttp asks again when nobody answered
            async with session.get(
                self._url,
                headers=self._headers,
                allow_redirects=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            ) as response:
                location = response.headers.get("Location", "") if response.status in _REDIRECTS else ""
                self._head = (response.status, location)
                while len(self._body) < MAX_BODY_BYTES:
                    data = await response.content.read(MAX_BODY_BYTES - len(self._body))
                    if not data:
                        break
                    self._body += data

    def _make_socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        self._socket = socket.socket(family, kind, protocol)
        return self._socket

    async def _note_connected(self, *_: Any) -> None:
        self._connected = True
        if self._socket is not None:
            own, other = self._socket.getsockname(), self._socket.getpeername()
            self._addresses = f"{join_host_port(*own[:2])}->{join_host_port(*other[:2])}"

    def _late(self) -> str:
        """The connection is there when its TLS handshake is done; until then Go speaks of waiting for it."""
        waiting = self._url.scheme == "https" and not self._connected
        reason = "net/http: request canceled while waiting for connection" if waiting else "context deadline exceeded"
        return f"{reason} (Client.Timeout exceeded while awaiting headers)"

    def _translate(self, error: Exception) -> HttpGetError:
        def told(reason: str, plain_http: bool = False) -> HttpGetError:
            return HttpGetError(f'Get "{self._url}": {reason}', plain_http)

        match error:
            case aiohttp.ClientConnectorSSLError():
                if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error):
                    return told("http: server gave HTTP response to HTTPS client", plain_http=True)
                return told(str(error))
            case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionResetError):
                return told("EOF")  # in the TLS handshake
            case aiohttp.ClientConnectorError():
                return told(describe_dial_error(str(self._url.host), self._url.port, error.os_error))
            case aiohttp.ServerDisconnectedError():
                return told("EOF")
            case aiohttp.ClientResponseError():
                return told(f"{_BROKEN}: {_malformed(error.message)}")
            case OSError():
                return told(describe_os_error(error, f"read tcp {self._addresses}: read: "))
        return told(str(error) or "EOF")


def _malformed(message: str) -> str:
    """What aiohttp's parser shows of a line, in the words of Go for the most frequent case: it is no HTTP."""
    line = re.search(r"b'(.*?)(?:\\r)?(?:\\n)?'", message)
    return f"malformed HTTP response {quote(line[1])}" if line else message.splitlines()[0] if message else "EOF"


def _resolve(url: URL, location: str) -> str:
    """A Location header as an absolute URL."""

    def refuse(reason: str) -> HttpGetError:
        told = quote(location)
        return HttpGetError(f'Get "{url}": failed to parse Location header {told}: parse {told}: {reason}')

    if bad := BAD_ESCAPE.search(location.partition("?")[0]):
        raise refuse(f"invalid URL escape {quote(bad[0])}")
    try:
        target = urlsplit(urljoin(str(url), location))
    except ValueError:
        raise refuse("missing ']' in host") from None
    return target._replace(path=escape(target.path, "%")).geturl()


def _hostname(url: str) -> str:
    """As it is written: for Go, another case is another host."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _headers_after_redirect(
    first: CIMultiDict[str], own_host: str | None, previous: str, target: str
) -> CIMultiDict[str]:
    """The first request's headers; its Host as long as redirects are relative."""
    headers = CIMultiDict(first)
    if own_host is None:
        headers.pop("Host", None)
    if "Referer" not in headers and not (previous.startswith("https:") and target.startswith("http:")):
        headers["Referer"] = previous
    return headers
