"""Which registries are Amazon ECR's, what is asked where, and what an answer is."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from vk_provider.cloud.aws.ecr import EcrCredentials
from vk_provider.cloud.aws.operations import Operation, Site
from vk_provider.cloud.aws.secretanswers import AuthorizationToken, AuthorizationTokens, PublicAuthorizationToken
from vk_provider.errors import CloudRequestError

END = datetime(2030, 1, 1, tzinfo=UTC)
KNOWN = {
    *("eu-central-1", "cn-north-1", "fips-us-gov-west-1", "eu-west-1", "fips-us-east-1", "cn-northwest-1"),
    *("us-iso-east-1", "us-isob-east-1"),
}


class Api:
    def __init__(self, token: str = "AWS:hush") -> None:
        self.calls: list[tuple[str, Site]] = []
        self.token = AuthorizationToken(base64.b64encode(token.encode()).decode(), END)
        self.has_data = True

    async def call(self, operation: Operation[Any], parameters: Any, offering: Any = None, *, site: Any = None) -> Any:
        assert not parameters
        self.calls.append((operation.service, site))
        if operation.service == "ecr":
            return AuthorizationTokens([self.token] if self.has_data else [])
        return PublicAuthorizationToken(self.token)


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "fips-us-gov-west-1"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1"),
        ("123456789012.dkr-ecr-fips.us-east-1.on.aws", "fips-us-east-1"),
        ("123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn", "cn-northwest-1"),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
        ("public.ecr.aws", "public.ecr.aws"),
        ("docker.io", ""),
        ("public.ecr.aws:443", ""),
        ("xpublic.ecr.aws", ""),
        ("12345678901.dkr.ecr.eu-central-1.amazonaws.com", ""),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example", ""),
        ("123456789012.dkr.ecr.evil.example/.eu-central-1.amazonaws.com", ""),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com:8443", ""),
        ("123456789012.dkr.ecr.anything.amazonaws.com", ""),
        ("123456789012.dkr.ecr.xx-evil-1.amazonaws.com", "unknown Region"),
        ("123456789012.dkr.ecr.yy-evil-2.amazonaws.com", "unknown Region"),
        ("123456789012.dkr.ecr-fips.eu-central-1.amazonaws.com", "unknown Region"),
    ],
)
def test_a_registry_of_ecr_is_known_by_its_name(host: str, scope: str) -> None:
    api: Any = Api()
    assert EcrCredentials(api, "eu-central-1", KNOWN).scope_of(host) == scope


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "us-iso-east-1"])
def test_ecr_public_is_not_asked_from_a_partition_that_it_does_not_know(region: str) -> None:
    api: Any = Api()
    assert EcrCredentials(api, region, KNOWN).scope_of("public.ecr.aws") == ""


@pytest.mark.parametrize(
    ("scope", "service", "site"),
    [
        ("eu-west-1", "ecr", Site("eu-west-1")),
        ("fips-us-east-1", "ecr", Site("us-east-1", fips=True)),
        ("public.ecr.aws", "ecr-public", Site("us-east-1")),
    ],
)
async def test_a_login_is_asked_for_in_the_registrys_region(scope: str, service: str, site: Site) -> None:
    api: Any = Api()
    login = await EcrCredentials(api, "eu-central-1", KNOWN).log_in(scope)
    assert api.calls == [(service, site)]
    assert (login.username, login.password, login.expires_at) == ("AWS", "hush", END.timestamp())


async def test_an_answer_without_a_password_is_an_error_that_shows_nothing_of_it() -> None:
    api: Any = Api("nothing-of-the-kind")
    with pytest.raises(CloudRequestError) as caught:
        await EcrCredentials(api, "eu-central-1", KNOWN).log_in("eu-west-1")
    assert "nothing" not in str(caught.value)
    api.has_data = False
    with pytest.raises(CloudRequestError):
        await EcrCredentials(api, "eu-central-1", KNOWN).log_in("eu-west-1")


async def test_a_region_that_is_not_known_is_no_call() -> None:
    api: Any = Api()
    credentials = EcrCredentials(api, "eu-central-1", KNOWN)
    with pytest.raises(CloudRequestError, match="partition of eu-central-1"):
        await credentials.log_in(credentials.scope_of("123456789012.dkr.ecr.xx-evil-1.amazonaws.com"))
    assert not api.calls


def test_answers_show_nothing_of_what_they_hold() -> None:
    assert "hush" not in repr(AuthorizationTokens([AuthorizationToken("hush", END)]))
