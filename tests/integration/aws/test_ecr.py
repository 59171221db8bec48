"""Images of Amazon ECR are pulled with a login that the provider gets: moto's ECR, and a registry that demands it."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import pytest

from tests.integration.aws.conftest import started
from tests.moto.plan import Plan, Rule
from tests.moto.server import Account, MotoServer
from tests.password_registry import PasswordRegistry, make_image, make_layer
from vk_provider.jsontypes import Json
from vk_provider.kube.references import ReferenceStore
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.podmodel.registrylogins import NODE_LOGINS
from vk_provider.preparing.authority import PullAuthority
from vk_provider.registry.client import RegistryClient
from vk_provider.registry.logins import RegistryLogins

HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
FAR = "123456789012.dkr.ecr.us-west-2.amazonaws.com"


def pod(*images: str, name: str = "p") -> Json:
    metadata = {"name": name, "namespace": "ns", "uid": f"u-{name}"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": image} for image in images]}}


class Store:
    """A ReferenceStore without an API server: these pods refer to no object of it."""

    def __init__(self, logins: RegistryLogins) -> None:
        self.events: list[tuple[str, str]] = []
        client: Any = None

        def tell(pod: Json, kind: str, reason: str, text: str) -> None:
            self.events.append((reason, text))

        self.references = ReferenceStore(client, ServiceEnvironment(client), on_event=tell, logins=logins)
        self.references.synced.set()

    async def resolve(self, pod: Json) -> Any:
        return await self.references.resolve(pod)


@pytest.fixture
async def world(moto: MotoServer, account: Account) -> Any:
    async with started(moto, account) as cloud:
        source = cloud.credentials
        assert source is not None
        logins = RegistryLogins(source)
        store = Store(logins)
        yield store
        for uid in list(store.references._records):
            store.references.release(uid)
        await logins.close()


async def test_the_login_opens_a_registry_that_demands_it(world: Store, moto: MotoServer) -> None:
    """The registry stands in for the one of ECR's name."""
    found = await world.resolve(pod(f"{HOST}/app:1", "busybox"))
    login = found["registryLogins"][HOST]
    assert list(found["registryLogins"]) == [HOST] and login["username"] == "AWS" and login["password"]
    registry = PasswordRegistry(users={"AWS": login["password"]})
    registry.push("app", "1", make_image([make_layer({"f": b"x"})]))
    await registry.start()
    client = RegistryClient({HOST: {"server": f"http://{registry.host}", "plain_http": True}})
    authority = PullAuthority(client)
    try:
        secrets = await world.references.read_pull_secrets(pod(f"{HOST}/app:1"))
        assert list(secrets) == [NODE_LOGINS]
        assert await authority.prove(f"{HOST}/app:1", {}) is None, "nobody else gets it"
        image = await authority.prove(f"{HOST}/app:1", secrets)
        assert image is not None and authority.allows(image, secrets) and not authority.allows(image, {})
    finally:
        await authority.close()
        await client.close()
        await registry.stop()


async def test_many_pods_are_one_call_for_each_region(world: Store, moto: MotoServer) -> None:
    pods = [pod(f"{HOST if n % 2 else FAR}/app:{n}", name=f"p{n}") for n in range(100)]
    found = await asyncio.gather(*map(world.resolve, pods))
    passwords = {host: login["password"] for each in found for host, login in each["registryLogins"].items()}
    assert all(len(each["registryLogins"]) == 1 for each in found)
    assert "eu-central-1" in passwords[HOST] and "us-west-2" in passwords[FAR]
    assert moto.calls()["GetAuthorizationToken"] == 2


async def test_a_refusal_is_told_on_the_pod_once_and_holds_up_nothing(world: Store, moto: MotoServer) -> None:
    moto.plan(Plan(rules=(Rule("GetAuthorizationToken", code="AccessDeniedException", message="not you"),)))
    for _ in range(3):
        found = await world.resolve(pod(f"{HOST}/app:1"))
        assert "registryLogins" not in found and found["errors"] == {}
    assert moto.calls()["GetAuthorizationToken"] == 1
    [(reason, text)] = world.events
    assert reason == "RegistryLoginFailed" and HOST in text and "not you" in text
    assert "registryLogins" not in await world.resolve(pod("busybox", name="other"))
    assert len(world.events) == 1


async def test_a_login_is_good_for_twelve_hours_and_is_read_as_ecr_shapes_it(moto: MotoServer) -> None:
    [data] = moto.client("ecr").get_authorization_token()["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    assert 43100 < data["expiresAt"].timestamp() - time.time() <= 43200


async def test_ecr_public_is_asked_in_its_one_region(world: Store, moto: MotoServer) -> None:
    """moto has no ECR Public: the call is made, and its failure leaves the pod to pull as anybody may."""
    found = await world.resolve(pod("public.ecr.aws/docker/library/busybox:1"))
    assert "registryLogins" not in found
    assert [reason for reason, _ in world.events] == ["RegistryLoginFailed"]


async def test_a_cloud_without_the_setting_has_no_logins(moto: MotoServer, account: Account) -> None:
    async with started(moto, account, ecr_credentials=False) as cloud:
        assert cloud.credentials is None
