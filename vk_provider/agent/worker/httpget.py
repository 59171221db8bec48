"""One HTTP GET as a kubelet makes it for probes and hooks: no keep-alive, no proxy, no certificate check.

Source: pkg/probe/http/{http,request}.go (v1.37).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json

VERSION = "1.37"
MAX_BODY_BYTES = 10 * 1024
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""What Go's client follows; another 3xx is the answer itself."""
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_PATH_CHARACTERS = "/$&+,:;=@!'()*[]"


class HttpGetError(AgentError):
    """No answer; str() is the text of Go's HTTP client. `plain_http`: the server does not speak TLS."""

    def __init__(self, message: str, plain_http: bool = False) -> None:
        super().__init__(message)
        self.plain_http = plain_http


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    body: str


class HttpClient:
    """Opens its session with the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: URL, headers: CIMultiDict[str], timeout_s: float | None) -> HttpReply:
        """GET, following redirects to the same host; another host's redirect is returned as it is.

        Raises HttpGetError.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(url, headers)
        except TimeoutError:
            raise HttpGetError(
                f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
            ) from None
        except aiohttp.ClientConnectorSSLError as error:
            plain = "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error)
            reason = "http: server gave HTTP response to HTTPS client" if plain else str(error)
            raise HttpGetError(f'Get "{url}": {reason}', plain_http=plain) from error
        except aiohttp.ClientConnectorError as error:
            raise HttpGetError(
                f'Get "{url}": dial tcp {url.host}:{url.port}: {describe_os_error(error.os_error)}'
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HttpGetError(f'Get "{url}": {str(error) or "EOF"}') from error

    async def _follow(self, url: URL, headers: CIMultiDict[str]) -> HttpReply:
        first_host = url.host
        for _ in range(_MAX_REDIRECTS):
            reply, location = await self._once(url, headers)
            if location is None:
                return reply
            target = url.join(URL(location))
            if target.host != first_host:
                return reply
            url = target
        raise HttpGetError(f'Get "{url}": stopped after 10 redirects')

    async def _once(self, url: URL, headers: CIMultiDict[str]) -> tuple[HttpReply, str | None]:
        session = self._open()
        async with session.get(
            url,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        ) as response:
            body = await response.content.read(MAX_BODY_BYTES)
            location = response.headers.get("Location") if response.status in _REDIRECTS else None
            return HttpReply(response.status, body.decode(errors="replace")), location

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connector = aiohttp.TCPConnector(ssl=context, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def build_url(action: Json, container: Json, default_host: str) -> URL:
    """URL of an HTTPGetAction; raises ValueError when its port name is unknown."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or default_host
    if ":" in host:
        host = f"[{host}]"
    path = str(action.get("path") or "")
    if not path.startswith("/"):
        path = "/" + path
    return URL(f"{scheme}://{host}:{resolve_port(action['port'], container)}{_escape(path)}", encoded=True)


def _escape(path: str) -> str:
    """Escape what cannot stand in a request line, as Go's URL does; what is escaped already stays as it is."""
    before, mark, query = path.partition("?")
    if _BAD_ESCAPE.search(before):  # not a URL: all of it is taken to be the path
        return quote(path, _PATH_CHARACTERS)
    return quote(before, _PATH_CHARACTERS + "%#") + mark + quote(query, _PATH_CHARACTERS + "%#?")


def build_headers(action: Json, agent_name: str) -> CIMultiDict[str]:
    """Headers of an HTTPGetAction. agent_name: "probe" or "lifecycle"; a header set to "" is left out."""
    headers: CIMultiDict[str] = CIMultiDict()
    for header in action.get("httpHeaders") or []:
        headers.add(header["name"], header.get("value") or "")
    for name, value in (("User-Agent", f"kube-{agent_name}/{VERSION}"), ("Accept", "*/*")):
        if name not in headers:
            headers[name] = value
        elif headers[name] == "":
            del headers[name]
    return headers


def resolve_port(port: int | str, container: Json) -> int:
    """Port by number or by the name of one of the container's ports; raises ValueError."""
    number: int | None
    if isinstance(port, int) or str(port).isdigit():
        number = int(port)
    else:
        named = (entry for entry in container.get("ports") or [] if entry.get("name") == port)
        number = next((int(entry["containerPort"]) for entry in named), None)
        if number is None:
            raise ValueError(f'port "{port}" not found')
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number


def describe_os_error(error: OSError) -> str:
    """Go's words for a failed connect."""
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    text = (error.strerror or str(error)).lower()
    return f"connect: {text.split('[')[0].strip().rstrip(':') or text}"
