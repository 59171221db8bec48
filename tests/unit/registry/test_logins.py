"""Logins of the Node at registries: asked for once, remembered, renewed in time; failures are remembered, too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.kube.fakeclient import settle
from vk_provider.cloud.credentials import RegistryLogin
from vk_provider.errors import CloudAccessError
from vk_provider.registry import logins
from vk_provider.registry.logins import RegistryLogins


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Cloud:
    """A CredentialSource: a registry's scope is its top-level domain, but for "free" ones."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.gates: dict[str, asyncio.Event] = {}

    def scope_of(self, host: str) -> str:
        top = host.rpartition(".")[2]
        return "" if top in ("free", "io") or ":" in top else top

    async def log_in(self, scope: str) -> RegistryLogin:
        self.asked.append(scope)
        await self.gates.get(scope, _open()).wait()
        if self.error is not None:
            raise self.error
        return RegistryLogin("AWS", f"{scope}-{len(self.asked)}", self.clock() + 43200.0)


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(clock: Clock) -> Cloud:
    return Cloud(clock)


@pytest.fixture
async def store(cloud: Cloud, clock: Clock) -> Any:
    made = RegistryLogins(cloud, clock)
    yield made
    await made.close()


def pod(*images: str) -> Any:
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"image": i} for i in images]},
    }


async def test_many_pods_at_once_are_one_request(store: RegistryLogins, cloud: Cloud) -> None:
    found = await asyncio.gather(*(store.find(pod(f"r{n % 7}.eu/a", "x.free/b")) for n in range(500)))
    assert cloud.asked == ["eu"]
    assert found[3].logins == {"r3.eu": {"username": "AWS", "password": "eu-1"}}
    assert not found[3].errors


async def test_a_pod_is_given_the_logins_of_its_own_registries_alone(store: RegistryLogins, cloud: Cloud) -> None:
    await store.find(pod("a.eu/x", "b.us/x"))
    spec: Any = {
        "initContainers": [{"image": "i.eu/x:1"}],
        "containers": [{"image": "busybox"}, {"image": "NOT VALID"}],
        "volumes": [{"name": "v", "image": {"reference": "v.eu/x@sha256:" + "0" * 64}}, {"name": "w", "emptyDir": {}}],
        "ephemeralContainers": [{"image": "e.eu:5000/x"}, {"image": "e.eu/x"}],
    }
    found = store.peek({"metadata": {}, "spec": spec})
    assert found is not None and sorted(found.logins) == ["e.eu", "i.eu", "v.eu"]
    assert sorted(cloud.asked) == ["eu", "us"], "a host with a port is another registry, which has no login"


async def test_what_is_remembered_is_there_at_once(store: RegistryLogins) -> None:
    assert store.peek(pod("a.eu/x")) is None
    await store.find(pod("a.eu/x"))
    found = store.peek(pod("b.eu/x"))
    assert found is not None and found.logins["b.eu"]["password"] == "eu-1"
    nothing = store.peek(pod("a.free/x"))
    assert nothing is not None and not nothing.logins and nothing.fresh_for_s == float("inf")


async def test_a_login_is_renewed_an_hour_before_its_end(store: RegistryLogins, cloud: Cloud, clock: Clock) -> None:
    first = await store.find(pod("a.eu/x"))
    assert 39600 <= first.fresh_for_s <= 39600 + logins.SPREAD_S
    clock.now += first.fresh_for_s
    old = store.peek(pod("a.eu/x"))
    assert old is not None and old.logins["a.eu"]["password"] == "eu-1", "nobody waits while the old one is good"
    assert logins.LOOK_AGAIN_S <= old.fresh_for_s <= logins.LOOK_AGAIN_S + logins.SPREAD_S
    await settle()
    new = store.peek(pod("a.eu/x"))
    assert new is not None and new.logins["a.eu"]["password"] == "eu-2"


async def test_a_failed_renewal_leaves_the_old_login_until_its_end(
    store: RegistryLogins, cloud: Cloud, clock: Clock
) -> None:
    await store.find(pod("a.eu/x"))
    cloud.error = CloudAccessError("AccessDenied: no")
    clock.now += 40000
    await store.find(pod("a.eu/x"))
    await settle()
    kept = await store.find(pod("a.eu/x"))
    assert kept.logins["a.eu"]["password"] == "eu-1" and kept.fresh_for_s <= 20 + logins.SPREAD_S
    clock.now += 3300
    gone = await store.find(pod("a.eu/x"))
    assert not gone.logins and gone.errors == {"a.eu": "AccessDenied: no"}


async def test_a_failure_is_remembered_and_asked_for_again_later_and_later(
    store: RegistryLogins, cloud: Cloud, clock: Clock
) -> None:
    cloud.error = CloudAccessError("AccessDenied: no")
    failed = await store.find(pod("a.eu/x"))
    assert failed.errors == {"a.eu": "AccessDenied: no"}
    assert 13 <= failed.fresh_for_s <= 17 * logins.FAILURE_SPREAD
    assert (await store.find(pod("b.eu/x"))).errors == {"b.eu": "AccessDenied: no"}
    assert cloud.asked == ["eu"]
    for count in range(2, 9):
        clock.now += 400
        await store.find(pod("a.eu/x"))
        assert len(cloud.asked) == count
    cloud.error = None
    assert 250 <= (await store.find(pod("a.eu/x"))).fresh_for_s <= 330 * logins.FAILURE_SPREAD
    clock.now += 400
    assert (await store.find(pod("a.eu/x"))).logins


async def test_a_login_that_hangs_holds_up_no_other_registry(
    store: RegistryLogins, cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "WAIT_S", 0.02)
    gate = cloud.gates["eu"] = asyncio.Event()
    waiting = asyncio.create_task(store.find(pod("a.eu/x", "a.us/x")))
    assert (await store.find(pod("b.us/x"))).logins, "this one does not wait"
    late = await waiting
    assert sorted(late.logins) == ["a.us"] and late.errors == {"a.eu": "no answer within 0 s"}
    assert logins.LOOK_AGAIN_S <= late.fresh_for_s <= logins.LOOK_AGAIN_S * logins.FAILURE_SPREAD
    clock.now += 1
    assert store.peek(pod("c.eu/x")) is not None, "others have waited: nobody waits again"
    gate.set()
    await settle()
    found = store.peek(pod("a.eu/x"))
    assert found is not None and found.logins["a.eu"]["password"].startswith("eu-")


async def test_users_cannot_make_it_remember_without_end(store: RegistryLogins, cloud: Cloud) -> None:
    for number in range(logins.MAX_SCOPES + 10):
        await store.find(pod(f"a.t{number}x/x"))
    await store.find(pod("a.t0x/x"))
    assert cloud.asked.count("t0x") == 2 and cloud.asked.count(f"t{logins.MAX_SCOPES}x") == 1


async def test_a_login_that_has_expired_is_none(store: RegistryLogins, cloud: Cloud, clock: Clock) -> None:
    clock.now -= 100_000
    cloud.clock = Clock()
    cloud.clock.now -= 200_000
    assert "expired" in (await store.find(pod("a.eu/x"))).errors["a.eu"]


async def test_pods_do_not_all_look_again_at_once_while_a_login_fails_or_hangs(
    store: RegistryLogins, cloud: Cloud, clock: Clock
) -> None:
    def looks(count: int = 200) -> list[float]:
        found = [store.peek(pod("a.eu/x")) for _ in range(count)]
        return [each.fresh_for_s for each in found if each is not None]

    cloud.error = CloudAccessError("AccessDenied: no")
    await store.find(pod("a.eu/x"))
    failed = looks()
    assert len(failed) == 200 and max(failed) - min(failed) > 4, "without a login"
    cloud.error = None
    clock.now += 20
    await store.find(pod("a.eu/x"))
    cloud.error = CloudAccessError("AccessDenied: no")
    clock.now += 40_000
    await store.find(pod("a.eu/x"))
    await settle()
    assert max(looks()) - min(looks()) > 200, "while the old login is good"
    cloud.gates["us"] = asyncio.Event()
    hanging = asyncio.create_task(store.find(pod("a.us/x")))
    await settle()
    clock.now += 40
    found = store.peek(pod("a.us/x"))
    assert found is not None and found.fresh_for_s >= 40, "what hangs for long is looked for seldom"
    hanging.cancel()


async def test_a_cloud_that_fails_in_another_way_is_not_asked_at_once_again(
    store: RegistryLogins, cloud: Cloud, clock: Clock
) -> None:
    cloud.error = OverflowError("date value out of range")
    for _ in range(5):
        found = await store.find(pod("a.eu/x"))
    assert cloud.asked == ["eu"] and found.errors == {"a.eu": "the login could not be asked for"}
    cloud.error = None
    clock.now += 20
    assert (await store.find(pod("a.eu/x"))).logins


async def test_nothing_begins_once_it_is_closed(store: RegistryLogins, cloud: Cloud) -> None:
    await store.close()
    assert not (await store.find(pod("a.eu/x"))).logins and not cloud.asked


def test_a_password_never_shows() -> None:
    assert "hush" not in repr(RegistryLogin("AWS", "hush", 0.0))
