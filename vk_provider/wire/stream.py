"""Query parameters of EXEC and ATTACH, as kubelets take them: input, output, error and tty are set by "1"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class StreamOptionsError(ValueError):
    """The options are invalid; str() is the body of the 400."""


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
    for whole in (value for name, value in query if name == "port"):
        if not whole:
            raise StreamOptionsError('query parameter "port" cannot be empty')
        for text in whole.split(","):
            digits = text.isascii() and text.isdigit()
            if not digits or len(text) > 20 or int(text) > 65535:
                why = "value out of range" if digits else "invalid syntax"
                raise StreamOptionsError(
                    f'unable to parse "{whole}" as a port: strconv.ParseUint: parsing "{text}": {why}'
                )
            if int(text) == 0:
                raise StreamOptionsError(f'port "{whole}" must be > 0')
            ports.append(int(text))
    if not ports:
        raise StreamOptionsError('query parameter "port" is required')
    return ports
