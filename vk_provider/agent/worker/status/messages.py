"""Termination messages: what a container left in its file, or the end of its log. Blocking; call in a thread."""

from __future__ import annotations

import os
from pathlib import Path

MAX_MESSAGE_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80
_READ_BYTES = 64 * 1024
"""Of a log's end: whole lines are needed, and a runtime writes up to 16 KiB of content into one."""


def read_termination_message(
    mounts: dict[str, str], message_path: str, log_path: str, *, fallback_to_logs: bool
) -> str:
    """Return the message of an ended container.

    mounts:           container path -> path on the instance
    message_path:     terminationMessagePath of the container, "" none
    fallback_to_logs: policy FallbackToLogsOnError and the container failed after it had started
    """
    text = ""
    if message_path and not message_path.startswith("/"):
        message_path = f"/{message_path}"
    host_path = mounts.get(message_path) if message_path else None
    if host_path is not None:
        try:
            text = _read_end(Path(host_path), MAX_MESSAGE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"Error on reading termination log {host_path}: {error}"
    if text or not fallback_to_logs:
        return text
    try:
        return read_log_end(Path(log_path))
    except OSError as error:
        return f"Error on reading termination message from logs: {error}"


def read_log_end(path: Path) -> str:
    """Content of the last lines of a CRI log file, at most 80 lines and 2048 bytes."""
    raw = _read_end(path, _READ_BYTES)
    if len(raw) == _READ_BYTES:  # it may begin in the middle of a line
        raw = raw.partition(b"\n")[2]
    lines = raw.split(b"\n")[:-1] if raw.endswith(b"\n") else raw.split(b"\n")
    lines = [line + b"\n" for line in lines][-MAX_LOG_LINES:]
    content = b"".join(_content(line) for line in lines)
    return content[-MAX_LOG_BYTES:].decode(errors="ignore")


def _content(line: bytes) -> bytes:
    """Strip `<time> <stream> <tags> ` of a CRI log line; a partial line has no newline of its own."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return b""
    content = parts[3]
    return content.rstrip(b"\n") if parts[2].startswith(b"P") else content


def _read_end(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            file.seek(size - limit)
        return file.read(limit)
