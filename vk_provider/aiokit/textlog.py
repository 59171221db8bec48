"""Log lines for people: one line per message, also with text of an instance, a user or a server in it.

A line break in a text from outside would forge a log line, and an escape sequence would drive the reader's terminal.
"""

from __future__ import annotations

import logging
import re
from types import TracebackType

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line and paragraph separators, what reorders text, and what cannot be encoded."""


def escape(text: str) -> str:
    """`text` on one line: "\\n", "\\x1b" and their like for what does not print."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextFormatter(logging.Formatter):
    """A traceback keeps its lines, each of them indented: none can pass for a message."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escape(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:
        return _indent(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indent(super().formatStack(stack_info))


def _indent(text: str) -> str:
    return "\n".join("  " + escape(line) for line in text.split("\n"))
