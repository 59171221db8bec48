"""The abilities of a cloud with a time limit for every call, as limits.LimitedCloud has them: a call without an answer
is the error that its callers know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from http import HTTPStatus
from typing import TypeVar

from vk_provider.cloud.credentials import CredentialSource, RegistryLogin
from vk_provider.cloud.imagestores import BuilderDiedError, ImageStores, PreparedStore, StoreCosts
from vk_provider.cloud.podidentity import PodIdentitySource, RoleAnswer
from vk_provider.cloud.spotprices import SpotOffering, SpotPriceChange, SpotPriceSource
from vk_provider.errors import CloudError
from vk_provider.imagesets.imageset import ImageSet

ResultT = TypeVar("ResultT")

PREPARE_LIMIT_S = 26 * 3600.0
"""A day is what settings allow a builder at most; its store is copied by the cloud then."""
STORES_LIMIT_S = 120.0
PRICES_LIMIT_S = 300.0
"""Of all pages of a history of prices."""
LOGIN_LIMIT_S = 60.0
ROLE_LIMIT_S = 30.0
"""A container waits for it, and its SDK not much longer."""


async def within(limit_s: float, what: str, call: Awaitable[ResultT]) -> ResultT:
    """Raises CloudError after that time."""
    scope = asyncio.timeout(limit_s)
    try:
        async with scope:
            return await call
    except TimeoutError:
        if not scope.expired():
            raise
        raise CloudError(f"{what}: no answer within {limit_s:g} s") from None


class LimitedImageStores:
    """See imagestores.ImageStores."""

    def __init__(self, stores: ImageStores) -> None:
        self._stores = stores
        self.shares_machine = stores.shares_machine

    def follow_costs(self, costs: StoreCosts) -> None:
        self._stores.follow_costs(costs)

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        scope = asyncio.timeout(PREPARE_LIMIT_S)
        try:
            async with scope:
                return await self._stores.prepare(images, sources, max_bytes, architecture, is_awaited=is_awaited)
        except TimeoutError:
            if not scope.expired():
                raise
            raise BuilderDiedError(f"no prepared images after {PREPARE_LIMIT_S:g} s") from None

    async def list_prepared(self) -> list[PreparedStore]:
        return await within(STORES_LIMIT_S, "list prepared images", self._stores.list_prepared())

    async def forget(self, handle: str) -> None:
        await within(STORES_LIMIT_S, f"forget prepared images {handle}", self._stores.forget(handle))

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        sweep = self._stores.sweep(nobody_prepares=nobody_prepares)
        await within(STORES_LIMIT_S, "sweep prepared images", sweep)


class LimitedSpotPrices:
    """See spotprices.SpotPriceSource."""

    def __init__(self, source: SpotPriceSource) -> None:
        self._source = source
        self.period_s = source.period_s

    async def fetch_changes(self, offered: Collection[SpotOffering], since: float) -> list[SpotPriceChange]:
        return await within(PRICES_LIMIT_S, "fetch spot prices", self._source.fetch_changes(offered, since))


class LimitedCredentials:
    """See credentials.CredentialSource."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def scope_of(self, host: str) -> str:
        return self._source.scope_of(host)

    async def log_in(self, scope: str) -> RegistryLogin:
        return await within(LOGIN_LIMIT_S, f"log in to {scope}", self._source.log_in(scope))


class LimitedPodIdentity:
    """See podidentity.PodIdentitySource."""

    def __init__(self, source: PodIdentitySource) -> None:
        self._source = source
        self.audience = source.audience

    async def assume_role(self, token: str) -> RoleAnswer:
        try:
            return await within(ROLE_LIMIT_S, "assume the pod's role", self._source.assume_role(token))
        except CloudError as error:
            return RoleAnswer(HTTPStatus.SERVICE_UNAVAILABLE, str(error), 0.0)
