"""Query parameters of EXEC and ATTACH, as kubelets take them: input, output, error and tty count when they are "1"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class StreamOptionsError(ValueError):
    """The options make no sense; str() is the body of the 400."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams the client wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def parse_stream_options(query: Mapping[str, str]) -> StreamOptions:
    """Decode the options; with a tty there is no separate stderr. Raises StreamOptionsError."""
    tty = query.get("tty") == "1"
    stdin, stdout, stderr = (query.get(name) == "1" for name in ("input", "output", "error"))
    if tty and stderr:
        stderr = False
    if not (stdin or stdout or stderr):
        raise StreamOptionsError("you must specify at least 1 of stdin, stdout, stderr")
    return StreamOptions(stdin, stdout, stderr, tty)


def parse_forward_ports(query: list[tuple[str, str]]) -> list[int]:
    """Ports of a WebSocket port-forward: `port` repeated or comma separated. Raises StreamOptionsError."""
    ports: list[int] = []
    for text in (part for name, value in query if name == "port" for part in value.split(",")):
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise StreamOptionsError(f'unable to parse "{text}" as a port' if text else "port is empty")
        ports.append(int(text))
    if not ports:
        raise StreamOptionsError('query parameter "port" is required')
    return ports
