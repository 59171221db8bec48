"""Puts the Node's own logins at registries among the references of the pods whose images are there."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, Protocol

from vk_provider import eventreasons
from vk_provider.jsontypes import Json
from vk_provider.kube.podcertificates import OnPodEvent
from vk_provider.kube.subscription import PodSubscription
from vk_provider.podmodel.registrylogins import NODE_LOGINS, FoundLogins, build_pull_secret
from vk_provider.wire.session import References


class PodLogins(Protocol):
    """registry.logins.RegistryLogins."""

    def peek(self, pod: Json) -> FoundLogins | None: ...

    async def find(self, pod: Json) -> FoundLogins: ...


class NodeLogins:
    """on_event: as of ReferenceStore."""

    def __init__(self, logins: PodLogins, on_event: OnPodEvent) -> None:
        self._logins, self._on_event = logins, on_event

    def add(self, pod: Json, record: PodSubscription, references: References) -> Coroutine[Any, Any, None] | None:
        """Add them now where they are known, else return what does it. A pod without the login is sent all the same:
        its images may need none, or be there."""
        known = self._logins.peek(pod)
        if known is None:
            return self._find(pod, record, references)
        self._put(pod, record, known, references)
        return None

    async def _find(self, pod: Json, record: PodSubscription, references: References) -> None:
        self._put(pod, record, await self._logins.find(pod), references)

    def _put(self, pod: Json, record: PodSubscription, found: FoundLogins, references: References) -> None:
        if found.logins:
            references["registryLogins"] = dict(found.logins)
        if math.isfinite(found.fresh_for_s):
            record.plan_refresh(found.fresh_for_s)
        for host, error in found.errors.items():
            if record.login_errors.get(host) != error:
                text = f"no login of the Node's at {host}, its images are pulled with the pod's own secrets: {error}"
                self._on_event(pod, "Warning", eventreasons.REGISTRY_LOGIN_FAILED, text)
        record.login_errors = dict(found.errors)

    async def add_secret(self, pod: Json, secrets: dict[str, Json | None]) -> None:
        """Add them as one more pull secret of the pod, the last."""
        if logins := (await self._logins.find(pod)).logins:
            secrets[NODE_LOGINS] = build_pull_secret(logins)
