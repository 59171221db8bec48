"""TCP keepalive: detects within about 30 s that the peer's machine is gone, also on an idle connection."""

from __future__ import annotations

import socket
from typing import Any

_OPTIONS = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def set_keepalive(connection: Any) -> None:
    """Turn it on; `connection` is a socket, or what a transport calls one."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket with keepalive for an address as getaddrinfo gives it."""
    connection = socket.socket(*address[:3])
    set_keepalive(connection)
    return connection
