"""Whose key a call is signed with, by each way of the SDK's chain, and that keys which expire are renewed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore import credentials
from botocore.credentials import RefreshableCredentials, SSOProvider
from botocore.tokens import SSOTokenProvider

from tests.sdk_chain import LIFE_S, SdkChain
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.operations import DESCRIBE_SUBNETS
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.errors import CloudAccessError

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/vk-provider"


@pytest.fixture
async def chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[SdkChain]:
    """Nothing is configured but where the services are."""
    made = SdkChain()
    await made.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for service in ("STS", "SSO"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", made.url)
    yield made
    await made.stop()


@pytest.fixture
def ahead(chain: SdkChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's clock is as far ahead as the chain's."""
    remaining = RefreshableCredentials._seconds_remaining
    monkeypatch.setattr(RefreshableCredentials, "_seconds_remaining", lambda self: remaining(self) - chain.passed_s)
    now = credentials._local_now
    monkeypatch.setattr(credentials, "_local_now", lambda: now() + timedelta(seconds=chain.passed_s))


@asynccontextmanager
async def started(chain: SdkChain, **settings: Any) -> AsyncIterator[AwsClient]:
    client = AwsClient(AwsCloudSettings(region=REGION, endpoint_url=chain.url, **settings))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def call(client: AwsClient) -> None:
    await client.call(DESCRIBE_SUBNETS, {})


async def test_without_any_credentials_no_call_is_made(chain: SdkChain) -> None:
    async with started(chain) as client:
        with pytest.raises(CloudAccessError, match="credentials"):
            await call(client)
    assert chain.keys == []


async def test_keys_of_the_environment(chain: SdkChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    async with started(chain) as client:
        await call(client)
    assert chain.keys == ["AKIAENVIRONMENT"]


async def test_a_profile_that_the_settings_name_is_before_the_environment(
    chain: SdkChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n"
        "[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = s\n"
    )
    async with started(chain, profile="team") as client:
        await call(client)
    assert chain.keys == ["AKIATEAM"]


async def test_a_login_of_sso(chain: SdkChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `aws sso login` leaves it."""
    for provider in (SSOProvider, SSOTokenProvider):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / "config").write_text(
        f"[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Operator\n"
        f"[sso-session corp]\nsso_region = {REGION}\nsso_start_url = https://corp.example/start\n"
    )
    token = {
        "startUrl": "https://corp.example/start",
        "region": REGION,
        "accessToken": "of-the-login",
        "expiresAt": (datetime.now(UTC) + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    name = hashlib.sha1(b"corp", usedforsecurity=False).hexdigest()
    (tmp_path / f"{name}.json").write_text(json.dumps(token))
    async with started(chain, profile="dev") as client:
        await call(client)
    assert chain.keys == ["ASIAEXAMPLE1"]
    assert (chain.tokens, chain.roles) == (["of-the-login"], ["123456789012/Operator"])


async def outlive(chain: SdkChain, client: AwsClient, renew: Callable[[], object]) -> None:
    """Two calls, and one after the keys have expired. renew: the token, as a kubelet does."""
    await call(client)
    await call(client)
    renew()
    chain.passed_s += LIFE_S
    await call(client)
    assert chain.keys == ["ASIAEXAMPLE1", "ASIAEXAMPLE1", "ASIAEXAMPLE2"]


@pytest.mark.usefixtures("ahead")
async def test_the_web_identity_of_irsa_is_renewed_with_the_token_of_then(
    chain: SdkChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    async with started(chain) as client:
        await outlive(chain, client, lambda: token.write_text("second"))
    assert (chain.tokens, chain.roles) == (["first", "second"], [ROLE, ROLE])


@pytest.mark.usefixtures("ahead")
async def test_the_credentials_of_eks_pod_identity_are_renewed_with_the_token_of_then(
    chain: SdkChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "eks-pod-identity-token"
    token.write_text("first")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{chain.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    async with started(chain) as client:
        await outlive(chain, client, lambda: token.write_text("second"))
    assert chain.tokens == ["first", "second"]


@pytest.mark.usefixtures("ahead")
async def test_keys_that_cannot_be_renewed_are_an_error_of_access_and_work_again_when_they_can(
    chain: SdkChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    async with started(chain) as client:
        await call(client)
        token.unlink()
        chain.passed_s += LIFE_S
        with pytest.raises(CloudAccessError):
            await call(client)
        token.write_text("second")
        await call(client)
    assert chain.keys[-1] == "ASIAEXAMPLE2" and chain.tokens == ["first", "second"]
