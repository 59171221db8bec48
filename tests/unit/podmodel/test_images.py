import time
from typing import Any

import pytest

from tests.unit.podmodel.builders import b64
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import ImageReference, parse_image
from vk_provider.podmodel.images import default_pull_policy, match_credentials, normalize_image, parse_pull_secret

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("busybox", ImageReference("docker.io", "library/busybox")),
        ("busybox:1.37", ImageReference("docker.io", "library/busybox", "1.37")),
        ("bob/app", ImageReference("docker.io", "bob/app")),
        ("docker.io/busybox", ImageReference("docker.io", "library/busybox")),
        ("index.docker.io/bob/app", ImageReference("docker.io", "bob/app")),
        ("localhost/app", ImageReference("localhost", "app")),
        ("reg:5000/a/b:v1", ImageReference("reg:5000", "a/b", "v1")),
        ("10.1.2.3:5000/x", ImageReference("10.1.2.3:5000", "x")),
        (f"registry.k8s.io/pause@{DIGEST}", ImageReference("registry.k8s.io", "pause", "", DIGEST)),
        (f"quay.io/a/b__c:t@{DIGEST}", ImageReference("quay.io", "a/b__c", "t", DIGEST)),
        ("[::1]:5000/x", ImageReference("[::1]:5000", "x")),
    ],
)
def test_an_image_reference_is_split_into_its_parts(image, reference):
    assert parse_image(image) == reference


@pytest.mark.parametrize(
    "image", ["", "UPPER", "a//b", "-x", "x:", "x:bad tag", "x@sha256:12", "a/b@", "x:-t", "foo/Bar", "a" * 260, "!!"]
)
def test_an_invalid_image_name_is_refused_with_the_kubelets_words(image):
    with pytest.raises(InvalidImageName) as caught:
        normalize_image(image)
    assert str(caught.value).startswith(f'couldn\'t parse image name "{image}": ')


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("reg.io/Upper/x:-x", "invalid reference format: repository name (Upper/x) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("x@sha512:" + "a" * 64, "invalid checksum digest length"),
        ("x@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("reg.io/" + "a" * 256, "repository name must not be more than 255 characters"),
        ("x\n", "invalid reference format"),
    ],
)
def test_what_is_wrong_with_an_image_name_is_told(image, reason):
    with pytest.raises(InvalidImageName) as caught:
        parse_image(image)
    assert str(caught.value) == f'couldn\'t parse image name "{image}": {reason}'


@pytest.mark.parametrize(
    ("image", "normal", "policy"),
    [
        ("busybox", "busybox:latest", "Always"),
        ("busybox:latest", "busybox:latest", "Always"),
        ("reg:5000/x", "reg:5000/x:latest", "Always"),
        ("busybox:1", "busybox:1", "IfNotPresent"),
        (f"x@{DIGEST}", f"x@{DIGEST}", "IfNotPresent"),
    ],
)
def test_the_default_tag_is_latest_and_is_always_pulled(image, normal, policy):
    assert normalize_image(image) == normal
    assert default_pull_policy({"image": image}) == policy
    assert default_pull_policy({"image": image, "imagePullPolicy": "Never"}) == "Never"


def config(**auths):
    return {"auths": {server: {"auth": b64(f"{user}:pw-{user}")} for server, user in auths.items()}}


@pytest.mark.parametrize(
    ("servers", "image", "users"),
    [
        ({"reg.io": "host", "reg.io/team": "team"}, "reg.io/team/app", ["team", "host"]),
        ({"reg.io/other": "other"}, "reg.io/team/app", []),
        ({"https://reg.io/v1/": "host"}, "reg.io/app", ["host"]),
        ({"*.reg.io": "wild"}, "eu.reg.io/app", ["wild"]),
        ({"*.reg.io": "wild"}, "a.b.reg.io/app", []),
        ({"reg.io:5000": "port"}, "reg.io/app", []),
        ({"reg.io:5000": "port"}, "reg.io:5000/app", ["port"]),
        ({"https://index.docker.io/v1/": "hub"}, "busybox", ["hub"]),
        ({"https://index.docker.io/v1/": "hub"}, "bob/app:1", ["hub"]),
        ({"https://index.docker.io/v1/": "hub"}, "reg.io/app", []),
        ({"docker.io": "hub"}, "busybox", ["hub"]),
    ],
)
def test_credentials_match_the_longest_entry_first(servers, image, users):
    found = match_credentials(image, [config(**servers)])
    assert [credential.username for credential in found] == users
    assert all(credential.password == f"pw-{credential.username}" for credential in found)


def test_credentials_of_several_secrets_are_all_tried_and_never_printed():
    found = match_credentials(
        "reg.io/app", [config(**{"reg.io": "a"}), {"reg.io": {"username": "b", "password": "geheim"}}]
    )
    assert [credential.username for credential in found] == ["a", "b"]
    assert "geheim" not in repr(found) and "pw-a" not in repr(found)


def test_pull_secrets_of_both_kinds_are_read_and_broken_ones_ignored():
    modern = {"data": {".dockerconfigjson": b64('{"auths": {"reg.io": {"username": "u", "password": "p"}}}')}}
    legacy = {"data": {".dockercfg": b64('{"reg.io": {"username": "u", "password": "p"}}')}}
    for secret in (modern, legacy):
        document = parse_pull_secret(secret)
        assert document is not None
        assert match_credentials("reg.io/x", [document])[0].username == "u"
    assert parse_pull_secret({"data": {".dockerconfigjson": b64("{")}}) is None
    assert parse_pull_secret({"data": {"other": ""}}) is None


def test_a_pull_secret_that_is_nested_without_end_has_no_credentials() -> None:
    document = b'{"auths": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert parse_pull_secret({"data": {".dockerconfigjson": b64(document.decode())}}) is None


@pytest.mark.parametrize(
    "written",
    [
        {"auths": ["reg.io"]},
        {"auths": "reg.io"},
        {"auths": {"reg.io": "text"}},
        {"auths": {"[": {"username": "u"}, "reg.io[": {"username": "u"}, "": {"username": "u"}}},
        {"auths": {"reg.io": {"auth": 5, "username": [], "password": {}, "identitytoken": 1}}},
    ],
)
def test_what_a_pull_secret_must_not_be_has_no_credentials_and_no_fault(written: Any) -> None:
    assert all(not each.username for each in match_credentials("reg.io/app", [written]))


def test_a_hostile_pull_secret_costs_little() -> None:
    """A regular expression of such a pattern took minutes to compile, on the provider's event loop."""
    began = time.process_time()
    hosts: dict[str, Any] = {"*o" * 100_000 + "z.io": {}, **{f"*{number}*a*b.io": {} for number in range(2_000)}}
    assert match_credentials("reg.io/app", [{"auths": hosts}]) == []
    assert time.process_time() - began < 1.0


def test_a_reference_of_any_length_is_refused_at_once() -> None:
    began = time.process_time()
    for part in ("a", "a-", "a.", "a/", "a__", "[:"):
        with pytest.raises(InvalidImageName) as refused:
            parse_image(part * 400_000)
        assert len(str(refused.value)) < 5_000
    assert time.process_time() - began < 0.5
