"""A registry that demands a password, and one that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp.helpers import is_ip_address

from tests.password_registry import Image, PasswordRegistry, make_image, make_index, make_layer
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.registry.challenge import Challenge, find_challenge
from vk_provider.registry.client import AccessDeniedError, ImageNotFoundError, RegistryClient, RegistryError
from vk_provider.registry.guard import check_literal, is_allowed
from vk_provider.registry.manifest import read_config, read_manifest

RIGHT = RegistryCredential(username="me", password="right")
WRONG = RegistryCredential(username="me", password="wrong")
IMAGE: Image = make_image([make_layer({"a": b"1"})])


@pytest.fixture
async def registry() -> AsyncIterator[PasswordRegistry]:
    found = PasswordRegistry()
    await found.start()
    found.push("team/app", "1", IMAGE)
    yield found
    await found.stop()


@pytest.fixture
async def client(registry: PasswordRegistry) -> AsyncIterator[RegistryClient]:
    found = RegistryClient({registry.host: {"plain_http": True}})
    yield found
    await found.close()


@pytest.mark.parametrize("bearer", [False, True])
async def test_the_digest_is_told_to_the_right_password_alone(
    registry: PasswordRegistry, client: RegistryClient, bearer: bool
) -> None:
    registry.users, registry.bearer = {"me": "right"}, bearer
    reference = f"{registry.host}/team/app:1"
    found = await client.resolve(reference, RIGHT)
    assert (found.reference, found.digest) == (reference, IMAGE.digest)
    for credential in (WRONG, None):
        with pytest.raises(AccessDeniedError):
            await client.resolve(reference, credential)


async def test_a_public_image_needs_nothing_and_nothing_but_its_head_is_asked_for(
    registry: PasswordRegistry, client: RegistryClient
) -> None:
    assert (await client.resolve(f"{registry.host}/team/app:1", None)).digest == IMAGE.digest
    assert (await client.resolve(f"{registry.host}/team/app@{IMAGE.digest}", None)).digest == IMAGE.digest
    assert dict(registry.requests) == {"HEAD manifests": 2}


async def test_a_tag_that_is_gone_is_told_apart(registry: PasswordRegistry, client: RegistryClient) -> None:
    registry.remove_tag("team/app", "1")
    with pytest.raises(ImageNotFoundError):
        await client.resolve(f"{registry.host}/team/app:1", None)


async def test_the_architectures_are_those_of_the_index_or_of_the_configuration(
    registry: PasswordRegistry, client: RegistryClient
) -> None:
    layers = [make_layer({"a": b"1"})]
    both = {name: make_image(layers, architecture=name) for name in ("amd64", "arm64")}
    registry.push("team/both", "1", make_index(both))
    registry.push("team/arm", "1", both["arm64"])
    registry.users = {"me": "right"}
    for name, expected in (("both", {"amd64", "arm64"}), ("arm", {"arm64"})):
        assert await client.fetch_architectures(f"{registry.host}/team/{name}:1", RIGHT) == expected
    with pytest.raises(AccessDeniedError):
        await client.fetch_architectures(f"{registry.host}/team/both:1", WRONG)


def test_a_manifest_says_its_architectures_or_is_refused() -> None:
    part = {"digest": f"sha256:{'0' * 64}", "size": 1}
    windows = {**part, "platform": {"architecture": "amd64", "os": "windows"}}
    assert read_manifest(orjson.dumps({"manifests": [windows, part]})) == (frozenset(), "")
    assert read_manifest(orjson.dumps({"config": part, "layers": []})) == (frozenset(), part["digest"])
    assert read_config(b'{"architecture": "arm64", "os": "freebsd"}') == frozenset()
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(ValueError):
        read_config(deep)
    for body in (
        deep,
        b"",
        b"[]",
        b'{"manifests": 1}',
        b'{"manifests": [{}]}',
        orjson.dumps({"manifests": [part] * 2001}),
    ):
        with pytest.raises(ValueError):
            read_manifest(body)


async def test_a_registry_that_does_not_answer_is_an_error(client: RegistryClient, registry: PasswordRegistry) -> None:
    await registry.stop()
    with pytest.raises(RegistryError):
        await client.resolve(f"{registry.host}/team/app:1", None)


async def test_a_pod_cannot_name_an_address_of_this_machine(registry: PasswordRegistry) -> None:
    client = RegistryClient()
    try:
        for host in (registry.host, "localhost:1", "169.254.169.254"):
            with pytest.raises(RegistryError, match="may be|Cannot connect"):
                await client.resolve(f"{host}/team/app:1", None)
    finally:
        await client.close()
    assert registry.requests.total() == 0


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.1", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
        ("93.184.216.34", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fd00:ec2::254", False),
    ],
)
def test_addresses_where_a_registry_may_be(address: str, allowed: bool) -> None:
    assert is_allowed(address) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("registry.example", None),
        ("0x7f.example", None),
        ("10.0.0.1", True),
        ("127.0.0.1", False),
        ("127.1", False),
        ("127.0.0.1.", False),
        ("0177.0.0.1", False),
        ("2130706433", False),
        ("::ffff:7f00:1", False),
        ("fd00:ec2::254", False),
    ],
)
def test_what_the_http_client_takes_for_an_address_is_judged_and_nothing_else(host: str, allowed: bool | None) -> None:
    assert check_literal(host) is allowed
    assert is_ip_address(host) is (allowed is not None), "the resolver is not asked for it"


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1"])
async def test_no_registry_is_at_another_spelling_of_this_machine(host: str) -> None:
    client = RegistryClient()
    try:
        with pytest.raises(RegistryError, match=f"no registry may be at {host}"):
            await client.resolve(f"{host}:5000/team/app:1", None)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            ['Bearer realm="https://auth.example/token",service="a, b",scope="repository:x:pull"'],
            Challenge(
                "bearer", {"realm": "https://auth.example/token", "service": "a, b", "scope": "repository:x:pull"}
            ),
        ),
        (['Basic realm="x"', "Bearer realm=https://t"], Challenge("bearer", {"realm": "https://t"})),
        (['Basic realm="x", Bearer realm="https://t"'], Challenge("bearer", {"realm": "https://t"})),
        (['basic Realm="a \\"quoted\\" one"'], Challenge("basic", {"realm": 'a "quoted" one'})),
        (["Negotiate"], None),
        ([""], None),
        ([], None),
    ],
)
def test_challenges(headers: list[str], expected: Challenge | None) -> None:
    assert find_challenge(headers) == expected


async def test_a_manifest_is_fetched_by_its_digest_with_the_right_password_alone(
    registry: PasswordRegistry, client: RegistryClient
) -> None:
    registry.users = {"me": "right"}
    repository = f"{registry.host}/team/app"
    assert await client.fetch_manifest(repository, IMAGE.digest, RIGHT) == IMAGE.parts[IMAGE.digest][1]
    with pytest.raises(AccessDeniedError):
        await client.fetch_manifest(repository, IMAGE.digest, WRONG)


async def test_content_of_another_digest_is_no_manifest(registry: PasswordRegistry, client: RegistryClient) -> None:
    wrong = "sha256:" + "0" * 64
    registry._parts[wrong] = registry._parts[IMAGE.digest]
    with pytest.raises(RegistryError, match="not the content"):
        await client.fetch_manifest(f"{registry.host}/team/app", wrong, None)
