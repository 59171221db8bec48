"""What a pod's RuntimeClass asks of its instance, and the architectures of its images where there is a choice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from vk_provider.aiokit.backoff import Backoff
from vk_provider.jsontypes import Json
from vk_provider.preparing.architectures import ImageArchitectures
from vk_provider.preparing.credentials import PullSecrets
from vk_provider.sizing.requirement import Given, names_architecture, read_class_annotations

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MAX_S = 0.2, 30.0


class PodObjects(Protocol):
    """kube.references.ReferenceStore."""

    def peek_runtime_class(self, pod: Json) -> tuple[bool, Json | None]: ...

    async def read_runtime_class(self, pod: Json) -> Json | None: ...

    async def read_pull_secrets(self, pod: Json) -> PullSecrets: ...


class PodFactFinder:
    """pods.facts.PodFacts. offered: architectures of the cloud: with one alone, no image is asked for its own."""

    def __init__(self, objects: PodObjects, images: ImageArchitectures, offered: Callable[[], Collection[str]]) -> None:
        self._objects = objects
        self._images = images
        self._offered = offered

    def peek(self, pod: Json) -> Given | None:
        is_read, runtime_class = self._objects.peek_runtime_class(pod)
        if not is_read:
            return None
        given = Given(annotations=read_class_annotations(runtime_class))
        if not self._must_ask(pod, given):
            return given
        architectures = self._images.peek(pod)
        return None if architectures is None else self._with(given, architectures)

    async def find(self, pod: Json) -> Given:
        """A RuntimeClass that cannot be read is read again: a pod must not run where its class forbids it."""
        given = Given(annotations=read_class_annotations(await self._read_class(pod)))
        if not self._must_ask(pod, given):
            return given
        try:
            pull_secrets = await self._objects.read_pull_secrets(pod)
            return self._with(given, await self._images.find(pod, pull_secrets))
        except Exception as error:  # of an image: the Node's own architecture it is
            log.warning("pod %s: the architectures of its images: %s", pod["metadata"].get("name"), error)
            return given

    async def close(self) -> None:
        await self._images.close()

    def _must_ask(self, pod: Json, given: Given) -> bool:
        return len(self._offered()) > 1 and not names_architecture(pod, given)

    def _with(self, given: Given, architectures: tuple[str, ...]) -> Given:
        """Those that can be had; none of them is as good as not knowing."""
        offered = self._offered()
        return replace(given, architectures=tuple(name for name in architectures if name in offered))

    async def _read_class(self, pod: Json) -> Json | None:
        backoff = Backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while pod["spec"].get("runtimeClassName"):
            try:
                return await self._objects.read_runtime_class(pod)
            except Exception as error:
                log.warning("pod %s waits for its RuntimeClass: %s", pod["metadata"].get("name"), error)
            await asyncio.sleep(backoff.next_delay_s())
        return None
