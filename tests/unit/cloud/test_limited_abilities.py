"""What a cloud gives besides instances answers within a limit, or its caller gets the error that it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vk_provider import clouds
from vk_provider.cloud import limitedabilities
from vk_provider.cloud.imagestores import BuilderDiedError
from vk_provider.cloud.limitedabilities import (
    LimitedCredentials,
    LimitedImageStores,
    LimitedPodIdentity,
    LimitedSpotPrices,
)
from vk_provider.clouds import find_access, find_image_stores
from vk_provider.errors import CloudError
from vk_provider.settings import NodeSettings, Settings


class Hanging:
    """Every ability, and no answer."""

    shares_machine, period_s, audience = False, 60.0, "pods"

    def scope_of(self, host: str) -> str:
        return host

    async def hang(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    prepare = list_prepared = forget = fetch_changes = log_in = assume_role = hang


IMAGES: Any = None
HANGING: Any = Hanging()
CALLS: dict[str, Callable[[], Awaitable[Any]]] = {
    "prepare": lambda: LimitedImageStores(HANGING).prepare(IMAGES, (), 1),
    "list_prepared": lambda: LimitedImageStores(HANGING).list_prepared(),
    "forget": lambda: LimitedImageStores(HANGING).forget("h"),
    "fetch_changes": lambda: LimitedSpotPrices(HANGING).fetch_changes((), 0.0),
    "log_in": lambda: LimitedCredentials(HANGING).log_in("r.io"),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in vars(limitedabilities) if name.endswith("_LIMIT_S")]:
        monkeypatch.setattr(limitedabilities, name, 0.01)


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_hangs_is_an_error_of_the_clouds(call: str) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(CloudError) as caught:
            await CALLS[call]()
    assert isinstance(caught.value, BuilderDiedError) == (call == "prepare")


async def test_a_role_that_hangs_is_an_answer_that_is_asked_for_again() -> None:
    async with asyncio.timeout(5):
        answer = await LimitedPodIdentity(HANGING).assume_role("token")
    assert answer.status == 503 and answer.fresh_for_s == 0.0


async def test_whoever_is_given_an_ability_of_a_cloud_is_given_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = type("Backend", (), {})()
    backend.keeps_images = lambda own: True
    backend.image_stores = backend.credentials = backend.pod_identity = backend.spot_prices = lambda cloud: HANGING
    monkeypatch.setattr(clouds, "find_backend", lambda settings: (backend, None))
    settings, cloud = Settings((NodeSettings("n"),)), HANGING
    stores, access = find_image_stores(settings, cloud), find_access(settings, cloud)
    assert stores is not None and access.credentials is not None
    assert access.pod_identity is not None and access.spot_prices is not None
    async with asyncio.timeout(5):
        for call in (stores.list_prepared(), access.credentials.log_in("r"), access.spot_prices.fetch_changes((), 0.0)):
            with pytest.raises(CloudError):
                await call
        assert (await access.pod_identity.assume_role("token")).status == 503
