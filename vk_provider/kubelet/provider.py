"""Protocols of what the kubelet API needs of the provider; `pods` and `kube` implement them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
        """The instance whose agent can be called; None while it boots, or when it is gone."""

    @property
    def archive(self) -> ArchivedPodLogs | None: ...

    @property
    def stats(self) -> Json | None:
        """Newest sample that the agent pushed, valid and about this pod: see wire.session.StatsMessage."""


class PodSource(Protocol):
    """All pods of the provider, from memory."""

    def pods(self, node: str) -> Iterable[Json]:
        """API pods bound to the node, with their newest status."""

    def find(self, namespace: str, name: str, uid: str | None) -> PodHandle | None:
        """The pod of that name; None when it has another UID than `uid`, if one is given."""


class Explainer(Protocol):
    """Says why pods can connect."""

    async def explain(self, uid: str, written: str, protocol: str) -> Mapping[str, object]:
        """uid: of the pod that asks; written: TARGET[:PORT]. Raises QuestionError, KubeApiError, TimeoutError."""


class BillSource(Protocol):
    """Says what runs and what it costs."""

    def instances(self, node: str) -> Sequence[Mapping[str, object]]:
        """The instances of a Node, the oldest first; see vk_provider.bills."""

    async def cost(self, node: str, given: Mapping[str, str]) -> Mapping[str, object]:
        """given: by, since, until, source ("ledger" or "tags"). Returns a ledger.question.CostReport of the Node.
        Raises CostQuestionError, LedgerStoreError, CloudError."""


class StatusPage(Protocol):
    """A page for people, without names of its own: everything is in it."""

    headers: Mapping[str, str]

    async def render(self) -> bytes:
        """HTML in UTF-8."""


class ReviewClient(Protocol):
    """Creates TokenReviews and SubjectAccessReviews."""

    async def create(self, path: str, body: Json, timeout_s: float = 30.0) -> Json:
        """POST; returns the created object. Raises KubeApiError."""


class ClientCaSource(Protocol):
    """CAs (PEM) of the client certificates that the kubelet API accepts."""

    async def load(self) -> str:
        """The bundle; "" for none. Raises BadStartError."""

    async def run(self, on_change: Callable[[str], None]) -> None:
        """After `load`: tells of new bundles until cancelled. When on_change raises OSError (or ssl.SSLError), the old
        one stays."""
