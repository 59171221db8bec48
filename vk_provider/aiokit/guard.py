"""A fault about one of many ends with that one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def contained(subject: str) -> Iterator[None]:
    """What fails inside is one log line that names `subject`; the loop around it goes on with the next one."""
    try:
        yield
    except Exception as error:
        log.error("%s cannot be handled: %s: %s", subject, type(error).__name__, " ".join(str(error).split())[:500])
        log.debug("traceback", exc_info=error)
