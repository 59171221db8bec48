"""Go's words for what fails on a network: a kubelet puts them into events as they are. Source: Go's net, os, time."""

from __future__ import annotations

import errno
import os
import re
import socket

_ADDRESS = re.compile(r"Connect call failed \('([^']+)', ")
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def format_timeout(seconds: float) -> str:
    """A whole number of seconds as a Go duration: 1s, 1m30s, 1h0m0s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def join_host_port(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe_dial_error(host: str, port: int | None, error: OSError) -> str:
    """A TCP connection that could not be made, to a name or an address."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"dial tcp {join_host_port(host, port)}: i/o timeout"
    found = _ADDRESS.search(str(error))  # the first of a name's addresses
    return f"dial tcp {join_host_port(found[1] if found else host, port)}: {describe_os_error(error)}"


def describe_os_error(error: OSError, call: str = "connect: ") -> str:
    """The error of a system call as Go names it, after the name of the call."""
    number = error.errno
    if number is None:  # asyncio joins the errors of several addresses
        found = _ERRNO.search(str(error))
        number = int(found[1]) if found else None
    if number is None:
        return f"{call}{str(error).lower()}"
    if number == errno.ETIMEDOUT:
        return f"{call}connection timed out"
    return f"{call}{os.strerror(number).lower()}"
