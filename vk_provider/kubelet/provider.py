"""What the kubelet API needs of the rest of the provider: Protocols, implemented by `pods` and `kube`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json


class ArchivedPodLogs(Protocol):
    """Logs of one finished pod whose instance is gone."""

    def read(self, container: str, previous: bool) -> str | None:
        """Path of the container's log file in CRI format; None when there is none."""


class PodHandle(Protocol):
    """One pod as the provider knows it now."""

    @property
    def pod(self) -> Json:
        """The API pod."""

    @property
    def status(self) -> Json:
        """Newest known PodStatus, the agent's if there is one."""

    @property
    def instance(self) -> Instance | None:
        """The instance whose agent answers; None while it boots, or when it is gone."""

    @property
    def archive(self) -> ArchivedPodLogs | None: ...

    @property
    def stats(self) -> Json | None:
        """Newest sample that the agent pushed, valid and about this pod: see wire.session.StatsMessage."""


class PodSource(Protocol):
    """All pods of the provider. Cheap: answers from memory."""

    def pods(self, node: str) -> Iterable[Json]:
        """API pods bound to the node, with their newest status."""

    def find(self, namespace: str, name: str, uid: str | None) -> PodHandle | None:
        """The pod of that name; with a uid only if it is that very pod."""


class ReviewClient(Protocol):
    """Creates TokenReviews and SubjectAccessReviews."""

    async def create(self, path: str, body: Json, timeout_s: float = 30.0) -> Json:
        """POST; returns the created object. Raises KubeApiError."""
