"""Logging of the process: text on a terminal, one JSON object a line in clusters. Never logs a secret's value."""

from __future__ import annotations

import json
import logging
import sys

from vk_provider.aiokit.textlog import TextFormatter
from vk_provider.rfc3339 import format_milli_time
from vk_provider.settings import LogSettings


class JsonFormatter(logging.Formatter):
    """{"time", "level", "logger", "message"} and "error" with a traceback's last line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": format_milli_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            document["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


def set_up_logging(settings: LogSettings) -> None:
    """Configure the root logger; libraries log warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("vk_provider").setLevel(settings.level.upper())
