"""State of ReferenceStore for one pod: tokens, pod certificates, and the callback for changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from vk_provider.kube.podcertificates import PodCertificateSource
from vk_provider.kube.tokens import BoundToken

_DEBOUNCE_S = 0.05
_SERVICES_SETTLE_S = 2.0
"""Services are read when a container is created: nothing waits for them."""


@dataclass(slots=True)
class PodSubscription:
    """State of one pod by UID. `notify` and `notify_services` call the subscriber once for changes that come
    together."""

    namespace: str
    callback: Callable[[], None] | None = None
    on_services: Callable[[], None] | None = None
    uses_trust_bundles: bool = False
    login_errors: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, BoundToken] = field(default_factory=dict)
    certificates: dict[str, PodCertificateSource] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    closed: bool = False
    _refresh: asyncio.TimerHandle | None = None
    _refresh_due: float = 0.0
    _notify: asyncio.TimerHandle | None = None
    _notify_services: asyncio.TimerHandle | None = None

    def notify(self) -> None:
        if not self.closed and self.callback is not None and self._notify is None:
            self._notify = asyncio.get_running_loop().call_later(_DEBOUNCE_S, self._call)

    def notify_services(self) -> None:
        if not self.closed and self.on_services is not None and self._notify_services is None:
            self._notify_services = asyncio.get_running_loop().call_later(_SERVICES_SETTLE_S, self._call_services)

    def _call_services(self) -> None:
        self._notify_services = None
        if self.on_services is not None and not self.closed:
            self.on_services()

    def _call(self) -> None:
        self._notify = None
        if self.callback is not None and not self.closed:
            self.callback()

    def plan_refresh(self, delay_s: float) -> None:
        """Call the subscriber after `delay_s`, or earlier if that is planned already."""
        if self.closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + max(1.0, delay_s)
        if self._refresh is not None:
            if self._refresh_due <= due:
                return
            self._refresh.cancel()
        self._refresh_due = due
        self._refresh = loop.call_at(due, self._refresh_now)

    def _refresh_now(self) -> None:
        self._refresh = None
        self.notify()

    def close(self) -> None:
        self.closed = True
        for timer in (self._refresh, self._notify, self._notify_services):
            if timer is not None:
                timer.cancel()
        self._refresh = self._notify = self._notify_services = None
        for task in self.tasks:
            task.cancel()
