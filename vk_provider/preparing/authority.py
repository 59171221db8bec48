"""Who may have which image: the kubelet's rule with the registry as the judge.

Source: KubeletEnsureSecretPulledImages (KEP-2535) with its default policy NeverVerifyPreloadedImages: what every
instance of the cloud has (`preload`) is everybody's; anything else is for pods whose credentials the registry has
accepted for it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Protocol

from vk_provider.imagesets.imageset import PinnedImage
from vk_provider.imagesets.records import ANONYMOUS, PullRecords, fingerprint
from vk_provider.podmodel.imagemanifest import Manifest, parse_manifest
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.preparing.credentials import PullSecrets, find_credentials
from vk_provider.registry.client import AccessDeniedError, ImageNotFoundError, RegistryError


class Registry(Protocol):
    """Says what a name stands for; raises RegistryError."""

    async def resolve(self, reference: str, credential: RegistryCredential | None) -> PinnedImage: ...

    async def fetch_manifest(self, repository: str, digest: str, credential: RegistryCredential | None) -> bytes: ...


class PullAuthority:
    """Remembers what registries have accepted. Pods that ask the same at the same time are one request."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._records = PullRecords()
        self._salt = secrets.token_bytes(32)
        self._asking: dict[tuple[str, str], asyncio.Task[PinnedImage | RegistryError]] = {}
        self._reading: dict[tuple[str, str, tuple[str, ...]], asyncio.Task[Manifest | None]] = {}

    def allows(self, image: PinnedImage, pull_secrets: PullSecrets) -> bool:
        """Whether a pod with these secrets may have the image, by the records alone."""
        credentials = find_credentials(image.reference, pull_secrets)
        return self._records.allows(image, [fingerprint(each, self._salt) for each in credentials])

    async def prove(self, reference: str, pull_secrets: PullSecrets) -> PinnedImage | None:
        """Ask the registry with each of the pod's credentials for it, or without any when there are none, as a pull
        would. Returns what the reference stands for, and records that; None when none is accepted, or the registry does
        not answer."""
        found = await self.ask(reference, pull_secrets)
        return found if isinstance(found, PinnedImage) else None

    async def ask(self, reference: str, pull_secrets: PullSecrets) -> PinnedImage | RegistryError:
        """As `prove`, with the registry's last word where it shows nothing."""
        candidates: Sequence[RegistryCredential | None] = find_credentials(reference, pull_secrets) or [None]
        for credential in candidates:
            found = await self._ask(reference, credential)
            if isinstance(found, PinnedImage):
                break
        return found

    async def ask_for_anybody(self, reference: str) -> bool:
        """As `prove`, without credentials. Whether the registry has answered, with whatever; False: it may later."""
        found = await self._ask(reference, None)
        return isinstance(found, PinnedImage | AccessDeniedError | ImageNotFoundError)

    async def read_manifest(self, image: PinnedImage, digest: str, pull_secrets: PullSecrets) -> Manifest | None:
        """A manifest of an image that was proved, its own or one that it names; None when the registry does not show it
        or it is none. Pods that ask the same with the same credentials at the same time are one request."""
        credentials = find_credentials(image.reference, pull_secrets)
        key = (image.repository, digest, tuple(fingerprint(each, self._salt) for each in credentials))
        task = self._reading.get(key)
        if task is None:
            reading = self._read(image.repository, digest, credentials or [None])
            task = self._reading[key] = asyncio.create_task(reading, name=f"manifest {digest}")
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(task)

    async def _read(
        self, repository: str, digest: str, candidates: Sequence[RegistryCredential | None]
    ) -> Manifest | None:
        for credential in candidates:
            try:
                return parse_manifest(await self._registry.fetch_manifest(repository, digest, credential))
            except RegistryError:
                continue
        return None

    async def _ask(self, reference: str, credential: RegistryCredential | None) -> PinnedImage | RegistryError:
        who = ANONYMOUS if credential is None else fingerprint(credential, self._salt)
        key = (reference, who)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._resolve(reference, credential, who), name=f"manifest of {reference}")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _resolve(
        self, reference: str, credential: RegistryCredential | None, who: str
    ) -> PinnedImage | RegistryError:
        try:
            found = await self._registry.resolve(reference, credential)
        except RegistryError as error:
            return error
        self._records.add(found, who)
        return found

    async def close(self) -> None:
        """End the requests under way."""
        tasks: list[asyncio.Task[Any]] = [*self._asking.values(), *self._reading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
