"""What is opened step by step: if one step fails, those before it are taken back."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self


class Opened:
    """Use as a context manager; `_open` pushes onto `_stack` whatever has to be taken back."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def _open(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
