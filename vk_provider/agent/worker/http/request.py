"""The request of an HTTPGetAction: its URL, as Go parses and writes it, and its headers.

Source: pkg/probe/http/request.go, pkg/probe/util.go (v1.37); net/url and net/textproto of Go.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from multidict import CIMultiDict
from yarl import URL

from vk_provider.agent.worker.http.words import join_host_port
from vk_provider.jsontypes import Json

VERSION = "1.37"
BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2}).{0,2}")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH_CHARACTERS = "/$&+,:;=@!'()*[]"
_OF_THE_CONNECTION = ("Content-Length", "Transfer-Encoding", "Trailer")
"""A request without a body has none of them, whatever the pod says."""


class OpaqueUrlError(ValueError):
    """A path like "a:b" is a URL of its own, and not one that can be asked for."""


def build_url(action: Json, container: Json, default_host: str) -> URL:
    """URL of an HTTPGetAction; raises ValueError when its port is unknown, OpaqueUrlError with that URL."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or default_host
    port = resolve_port(action["port"], container)
    return URL(f"{scheme}://{join_host_port(host, port)}{_resource(scheme, action.get('path') or '')}", encoded=True)


def _resource(scheme: str, path: str) -> str:
    """Path, query and fragment of a URL that was parsed by Go; a path that is no URL is escaped as a whole."""
    before, mark, query = path.partition("#")[0].partition("?")
    rest = before
    if found := _SCHEME.match(before):
        rest = before[found.end() :]
        if not rest.startswith("/"):
            raise OpaqueUrlError(f"{scheme}:{rest}{mark}{query}")
    elif ":" in before.partition("/")[0]:
        return _rooted(escape(path, ""))
    if BAD_ESCAPE.search(before) or _CONTROL.search(path):
        return _rooted(escape(path, ""))
    if rest.startswith("//"):  # a host, which the pod's replaces
        rest = "/" + rest[2:].partition("/")[2] if "/" in rest[2:] else ""
    return _rooted(escape(rest, "%")) + mark + query


def _rooted(path: str) -> str:
    return path if path.startswith("/") else "/" + path


def escape(path: str, also: str) -> str:
    return quote(path, _PATH_CHARACTERS + also, errors="surrogateescape")


def build_headers(action: Json, agent_name: str) -> CIMultiDict[str]:
    """Headers of an HTTPGetAction. agent_name: "probe" or "lifecycle"; a header set to "" is left out."""
    headers: CIMultiDict[str] = CIMultiDict()
    for header in action.get("httpHeaders") or []:
        headers.add(canonical_name(header["name"]), (header.get("value") or "").strip(" \t\r\n"))
    for name in ("Host", "User-Agent"):  # the first counts
        if name in headers:
            headers[name] = headers.getone(name)
            if not headers[name]:
                del headers[name]
        elif name == "User-Agent":
            headers[name] = f"kube-{agent_name}/{VERSION}"
    if "Accept" not in headers:
        headers["Accept"] = "*/*"
    elif not headers.getone("Accept"):
        del headers["Accept"]
    for name in _OF_THE_CONNECTION:
        headers.pop(name, None)
    if "Connection" in headers:
        headers.add("Connection", "close")
    return headers


def canonical_name(name: str) -> str:
    """Go's form of a header's name: X-One-Two; a name that is not a token stays as it is."""
    if not _TOKEN.fullmatch(name):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def resolve_port(port: int | str, container: Json) -> int:
    """Port by number or by the name of one of the container's ports; raises ValueError."""
    number: int | None
    if isinstance(port, int):
        number = port
    else:
        named = (entry for entry in container.get("ports") or [] if entry.get("name") == port)
        number = next((int(entry["containerPort"]) for entry in named), None)
        if number is None:
            raise ValueError(f'port "{port}" not found')
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number
