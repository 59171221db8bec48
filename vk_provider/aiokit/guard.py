"""Limits a fault to the item that caused it."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class contained:  # noqa: N801 - reads as contextlib.suppress does
    """Log an exception inside with `subject` instead of raising it, so that a loop continues with the next item."""

    __slots__ = ("_subject",)

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        said = " ".join(str(error).split())[:500]
        log.error("%s cannot be handled: %s: %s", self._subject, type(error).__name__, said)
        log.debug("traceback", exc_info=error)
        return True
