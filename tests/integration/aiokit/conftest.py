"""A thread in the network namespace of a test, for what works in the namespace of its thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns


@pytest.fixture
def enter(namespace: tuple[str, ...]) -> Iterator[ThreadPoolExecutor]:
    """A thread in the namespace."""

    def begin() -> None:
        descriptor = os.open(namespace[1].removeprefix("--net="), os.O_RDONLY)
        setns(descriptor, CLONE_NEWNET)
        os.close(descriptor)

    with ThreadPoolExecutor(1, initializer=begin) as made:
        yield made
