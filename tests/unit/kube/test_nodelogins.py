"""The Node's logins among a pod's references: sent again when they are due, told once when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from vk_provider.kube.nodelogins import NodeLogins
from vk_provider.podmodel.images import match_credentials, parse_pull_secret
from vk_provider.podmodel.registrylogins import NODE_LOGINS, FoundLogins

POD: Any = {"metadata": {"uid": "u", "namespace": "ns", "name": "p"}, "spec": {"containers": []}}
LOGIN = {"username": "AWS", "password": "hush"}


class Logins:
    """PodLogins: `found`, at once or after a wait."""

    def __init__(self, found: FoundLogins) -> None:
        self.found = found
        self.is_known = True

    def peek(self, pod: Any) -> FoundLogins | None:
        return self.found if self.is_known else None

    async def find(self, pod: Any) -> FoundLogins:
        return self.found


class Subscription:
    """What is used of a PodSubscription."""

    def __init__(self) -> None:
        self.planned: list[float] = []
        self.login_errors: dict[str, str] = {}

    def plan_refresh(self, delay_s: float) -> None:
        self.planned.append(delay_s)


class World:
    def __init__(self, found: FoundLogins) -> None:
        self.source, self.subscription = Logins(found), Subscription()
        self.events: list[str] = []
        self.logins = NodeLogins(self.source, lambda pod, kind, reason, text: self.events.append(text))

    async def resolve(self) -> Any:
        references: Any = {}
        subscription: Any = self.subscription
        step = self.logins.add(POD, subscription, references)
        if step is not None:
            await step
        return references


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_login_is_sent_and_sent_again_when_it_is_due(is_known: bool) -> None:
    world = World(FoundLogins({"r.example": LOGIN}, {}, 600.0))
    world.source.is_known = is_known
    assert await world.resolve() == {"registryLogins": {"r.example": LOGIN}}
    assert world.subscription.planned == [600.0] and not world.events


async def test_a_pod_of_other_registries_is_sent_nothing_and_never_again_for_it() -> None:
    world = World(FoundLogins())
    assert await world.resolve() == {} and not world.subscription.planned


async def test_a_missing_login_is_told_when_its_reason_changes() -> None:
    world = World(FoundLogins({}, {"r.example": "denied"}, 15.0))
    for _ in range(3):
        assert await world.resolve() == {}
    world.source.found = FoundLogins({}, {"r.example": "throttled"}, 15.0)
    await world.resolve()
    world.source.found = FoundLogins({"r.example": LOGIN}, {}, 600.0)
    await world.resolve()
    world.source.found = FoundLogins({}, {"r.example": "throttled"}, 15.0)
    await world.resolve()
    assert [text.rpartition(": ")[2] for text in world.events] == ["denied", "throttled", "throttled"]
    assert world.subscription.planned == [15.0] * 4 + [600.0, 15.0]


async def test_the_logins_are_one_more_pull_secret_for_whoever_asks_the_registry() -> None:
    secrets: dict[str, Any] = {"mine": None}
    await World(FoundLogins({"r.example": LOGIN}, {}, 600.0)).logins.add_secret(POD, secrets)
    config = parse_pull_secret(secrets[NODE_LOGINS])
    assert list(secrets) == ["mine", NODE_LOGINS] and config is not None
    [credential] = match_credentials("r.example/app:1", [config])
    assert (credential.username, credential.password) == ("AWS", "hush")
    assert match_credentials("other.example/app:1", [config]) == []
    await World(FoundLogins()).logins.add_secret(POD, secrets := {})
    assert not secrets


def test_a_password_never_shows() -> None:
    assert "hush" not in repr(FoundLogins({"r.example": LOGIN}))
