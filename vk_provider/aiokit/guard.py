"""Limits a fault to the item that caused it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def contained(subject: str) -> Iterator[None]:
    """Log an exception inside with `subject` instead of raising it, so that a loop continues with the next item."""
    try:
        yield
    except Exception as error:
        log.error("%s cannot be handled: %s: %s", subject, type(error).__name__, " ".join(str(error).split())[:500])
        log.debug("traceback", exc_info=error)
