"""Who wants to be told when something has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial


class Followers:
    """Functions without arguments, each until the function that `add` returned for it is called."""

    __slots__ = ("_calls", "_next")

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], None]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Callable[[], None]) -> Callable[[], None]:
        key = self._next = self._next + 1
        self._calls[key] = call
        return partial(self._remove, key)

    def _remove(self, key: int) -> None:
        self._calls.pop(key, None)

    def tell(self) -> Iterator[None]:
        """Call one after the other, a step each: those that leave meanwhile are passed over, new ones are not told."""
        for key in list(self._calls):
            call = self._calls.get(key)
            if call is not None:
                call()
            yield
