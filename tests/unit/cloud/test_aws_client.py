"""What the SDK raises, as the errors of the Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    UnauthorizedSSOTokenError,
)

from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.ecr import EcrCredentials
from vk_provider.cloud.aws.operations import (
    GET_AUTHORIZATION_TOKEN,
    GET_PUBLIC_AUTHORIZATION_TOKEN,
    RUN_INSTANCES,
    Site,
)
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.errors import CloudAccessError, CloudError, CloudRequestError, CloudThrottledError


class Sdk:
    """A client of the SDK that answers, or raises, what it is told."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    async def run_instances(self, **parameters: Any) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def client(outcome: Any) -> AwsClient:
    made = AwsClient(AwsCloudSettings())
    made._clients[("ec2", Site(""))] = Sdk(outcome)
    return made


def answer(code: str, status: int = 400, operation: str = "RunInstances", **headers: str) -> ClientError:
    meta = {"HTTPStatusCode": status, "HTTPHeaders": {name.replace("_", "-"): text for name, text in headers.items()}}
    return ClientError({"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": meta}, operation)


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (answer("RequestLimitExceeded", 503), CloudThrottledError, "RequestLimitExceeded: RunInstances: said"),
        (answer("Unavailable", 503), CloudError, "Unavailable: RunInstances: said"),
        (answer("Novel", 500), CloudError, "Novel: RunInstances: said"),
        (answer("Novel", 400), CloudRequestError, "Novel: RunInstances: said"),
        (answer("", 502), CloudError, "InternalError: RunInstances: said"),
        (answer("InvalidIdentityToken", 400, "AssumeRoleWithWebIdentity"), CloudAccessError, "InvalidIdentityToken"),
        (NoCredentialsError(), CloudAccessError, "Unable to locate credentials"),
        (CredentialRetrievalError(provider="x", error_msg="gone"), CloudAccessError, "gone"),
        (UnauthorizedSSOTokenError(), CloudAccessError, "SSO"),
        (EndpointConnectionError(endpoint_url="http://x"), CloudError, "no answer"),
        (ConnectTimeoutError(endpoint_url="http://x"), CloudError, "no answer"),
        (ConnectionResetError("reset"), CloudError, "no answer: reset"),
        (ParamValidationError(report="two\nlines"), CloudRequestError, "two lines"),
    ],
)
async def test_what_the_sdk_raises_is_an_error_of_the_protocol(
    raised: Exception, kind: type[CloudError], said: str
) -> None:
    with pytest.raises(CloudError) as caught:
        await client(raised).call(RUN_INSTANCES, {})
    assert type(caught.value) is kind and said in str(caught.value) and "\n" not in str(caught.value)


async def test_a_throttled_answer_says_how_long_to_wait_where_it_does() -> None:
    for text, seconds in (("3", 3.0), ("-1", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)):
        with pytest.raises(CloudThrottledError) as caught:
            await client(answer("Throttling", retry_after=text)).call(RUN_INSTANCES, {})
        assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("raw", [None, [], {"Instances": 5}, {"Instances": [{"InstanceId": "i-1"}]}])
async def test_an_answer_that_cannot_be_read_may_mean_anything(raw: Any) -> None:
    with pytest.raises(CloudError, match="cannot be read") as caught:
        await client(raw).call(RUN_INSTANCES, {})
    assert caught.value.effect_unknown


async def test_an_answer_is_read_as_far_as_it_is_used() -> None:
    raw = {"Instances": [{"InstanceId": "i-1", "State": {"Name": "pending"}, "Novel": {"x": 1}}], "OwnerId": "1"}
    assert (await client(raw).call(RUN_INSTANCES, {})).instances[0].instance_id == "i-1"


@pytest.fixture
async def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsClient]:
    """In the Region of the test's parameter, with an endpoint where nobody listens."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    made = AwsClient(AwsCloudSettings(region=request.param, endpoint_url="http://127.0.0.1:9", connect_timeout_s=1.0))
    await made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("started", ["us-east-1"], indirect=True)
async def test_ecr_public_is_asked_also_from_the_region_that_it_is_in(started: AwsClient) -> None:
    with pytest.raises(CloudError, match="no answer"):
        await started.call(GET_PUBLIC_AUTHORIZATION_TOKEN, {}, site=Site("us-east-1"))


@pytest.mark.parametrize("started", ["eu-central-1"], indirect=True)
async def test_users_cannot_name_so_many_regions_that_one_is_left_out(started: AwsClient) -> None:
    names = started.registry_regions
    assert {"eu-central-1", "us-east-1", "fips-us-east-1"} <= names
    assert not names & {"cn-north-1", "us-gov-west-1"}, "other partitions know nothing of the provider's principal"
    credentials = EcrCredentials(started, started.region, names)
    for name in sorted(names):
        region, fips = name.removeprefix("fips-"), "-fips" if name.startswith("fips-") else ""
        scope = credentials.scope_of(f"123456789012.dkr.ecr{fips}.{region}.amazonaws.com")
        if scope in names:
            await started._find(GET_AUTHORIZATION_TOKEN, Site(region, bool(fips)))
    await started._find(GET_PUBLIC_AUTHORIZATION_TOKEN, Site("us-east-1"))


@pytest.mark.parametrize("started", ["local"], indirect=True)
async def test_a_region_of_no_partition_is_the_only_one(started: AwsClient) -> None:
    assert started.registry_regions == {"local"}
