"""RegistryLogins: remembers the logins that a cloud gives to the Node, and when they are due for renewal.

Pods that need the same login at the same time are one request. A failure is remembered, too: it is told on the pods of
that registry, which are pulled with their own secrets alone, and holds up no other pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.guard import contained
from vk_provider.aiokit.tasks import BackgroundTasks
from vk_provider.cloud.credentials import CredentialSource, RegistryLogin
from vk_provider.errors import CloudError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.registrylogins import FoundLogins, find_registries

log = logging.getLogger(__name__)

WAIT_S = 5.0
"""A pod is sent without a login that takes longer; the login follows."""
LOOK_AGAIN_S = 2.0
"""For a login that took longer; then after as long as it has taken by then."""
RENEW_BEFORE_S = 3600.0
"""Ahead of the end of a login (ECR's lives 12 hours), half its life at most: a long pull begins with a good one."""
SPREAD_S = 300.0
"""Pods that have a good login look for the next one over this time, not all at once, half of the login's rest at
most."""
FAILURE_SPREAD = 1.5
"""Pods without a login look again after the time for the next request, and up to this multiple of it."""
FAILURE_FIRST_S, FAILURE_MAX_S = 15.0, 300.0
MAX_SCOPES = 256
"""Users name registries: what was used longest ago is forgotten."""


@dataclass(slots=True, eq=False)
class _Scope:
    """due: when the login is asked for again. asked_at: when it was last."""

    login: RegistryLogin | None = None
    error: str = ""
    due: float = 0.0
    asked_at: float = 0.0
    asking: asyncio.Task[None] | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(FAILURE_FIRST_S, FAILURE_MAX_S))

    def valid_login(self, now: float) -> RegistryLogin | None:
        return self.login if self.login is not None and now < self.login.expires_at else None

    def look_again_s(self, now: float) -> float:
        """When a pod of this scope looks again. Never for all pods at the same time: each costs a pass over the pod,
        and those of other registries would wait for them."""
        left_s = max(LOOK_AGAIN_S, now - self.asked_at if self.asking is not None else self.due - now)
        login = self.valid_login(now)
        if login is not None:
            return left_s + random.uniform(0, min(SPREAD_S, (login.expires_at - now) / 2))
        return left_s * random.uniform(1.0, FAILURE_SPREAD)


class RegistryLogins:
    """kube.references.PodLogins. clock: Unix time."""

    def __init__(self, source: CredentialSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()
        self._tasks = BackgroundTasks()
        self._closed = False

    def peek(self, pod: Json) -> FoundLogins | None:
        """See `find`, from memory; None when a login must be waited for."""
        scopes = self._scopes_of(pod)
        return None if any(self._ask(scope) for scope in scopes.values()) else self._collect(scopes)

    async def find(self, pod: Json) -> FoundLogins:
        """The logins at the registries of the pod's images. Never raises CloudError."""
        scopes = self._scopes_of(pod)
        asked = {self._ask(scope) for scope in scopes.values()} - {None}
        if asked:
            await asyncio.wait({task for task in asked if task is not None}, timeout=WAIT_S)
        return self._collect(scopes)

    def _scopes_of(self, pod: Json) -> dict[str, _Scope]:
        named = ((host, self._source.scope_of(host)) for host in find_registries(pod))
        return {host: self._scope(name) for host, name in named if name}

    def _scope(self, name: str) -> _Scope:
        scope = self._scopes.get(name)
        if scope is None:
            scope = self._scopes[name] = _Scope()
            if len(self._scopes) > MAX_SCOPES:
                self._scopes.popitem(last=False)
        self._scopes.move_to_end(name)
        if scope.asking is None and self._clock() >= scope.due and not self._closed:
            scope.asked_at = self._clock()
            scope.asking = self._tasks.spawn(self._log_in(name, scope), f"login {name}")
        return scope

    def _ask(self, scope: _Scope) -> asyncio.Task[None] | None:
        """What to wait for: nothing where there is a login, or where others have waited."""
        now = self._clock()
        is_waited_for = scope.valid_login(now) is None and now < scope.asked_at + WAIT_S
        return scope.asking if is_waited_for else None

    async def _log_in(self, name: str, scope: _Scope) -> None:
        fault = "the login could not be asked for"
        try:
            with contained(f"login {name}"):
                fault = await self._renew(name, scope)
        finally:
            scope.asking = None
        if fault:
            if fault != scope.error:
                log.warning("no login for %s: %s", name, fault)
            scope.error = fault
            scope.due = self._clock() + scope.backoff.next_delay_s()

    async def _renew(self, name: str, scope: _Scope) -> str:
        """Returns why there is no login, "" when there is."""
        try:
            login = await self._source.log_in(name)
        except CloudError as error:
            return str(error)
        left_s = login.expires_at - self._clock()
        if left_s <= 0:
            return f"{name}: a login that has expired already"
        scope.login, scope.error = login, ""
        scope.due = login.expires_at - min(RENEW_BEFORE_S, left_s / 2)
        scope.backoff.reset()
        return ""

    def _collect(self, scopes: Mapping[str, _Scope]) -> FoundLogins:
        now, logins, errors, fresh_for_s = self._clock(), dict[str, Json](), dict[str, str](), float("inf")
        for host, scope in scopes.items():
            login = scope.valid_login(now)
            if login is not None:
                logins[host] = {"username": login.username, "password": login.password}
            else:
                errors[host] = scope.error or f"no answer within {WAIT_S:.0f} s"
            fresh_for_s = min(fresh_for_s, scope.look_again_s(now))
        return FoundLogins(logins, errors, fresh_for_s)

    async def close(self) -> None:
        """End the requests under way; none begins any more."""
        self._closed = True
        await self._tasks.close()
