"""The door to AWS: the only module that knows the SDK. One client for each service, made once at the start.

The SDK repeats nothing: how fast a verb may be called, and whether a call without an answer is repeated, is decided
where all calls of that verb are seen (instances.pace, instances.launches).

aioboto3 holds its aiobotocore at one old version; the SDK's own retries, its paginators and resources are not used, so
any asynchronous client with botocore's calling convention takes its place here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
import msgspec
from aiobotocore.config import AioConfig
from botocore import exceptions as botocore

from vk_provider.cloud.aws.operations import AnswerT, Operation, Service, Site
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.base import Offering
from vk_provider.cloud.codes import build_error
from vk_provider.errors import BadStartError, CloudAccessError, CloudError, CloudRequestError

_SERVICES: tuple[Service, ...] = ("ec2", "pricing", "sqs", "ssm")
MAX_SITES = 64
"""Clients: a Region is named by the images of pods, and a client takes a megabyte. A partition has 34 Regions at most,
with 4 endpoints for FIPS (see registry_regions): no user takes the place of another's."""
_PRICING_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
"""The Pricing API is in few Regions, and knows the prices of all: the nearest one, "us-east-1" for the others."""
_NO_ACCESS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.TokenRetrievalError,
    botocore.SSOError,
    botocore.UnauthorizedSSOTokenError,
    botocore.NoAuthTokenError,
    FileNotFoundError,  # the token of a web identity or of a container
)
_SERVER_ERROR = 500


class AwsClient:
    """AwsApi over HTTPS. Use `start` once; `close` may be called in any state."""

    def __init__(self, settings: AwsCloudSettings) -> None:
        self._settings = settings
        self._clients: dict[tuple[Service, Site], Any] = {}
        self._home = Site("")
        self._registry_regions: frozenset[str] = frozenset()
        self._making = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Make the clients: this reads the SDK's data files for a moment. No call is made. Raises BadStartError."""
        settings = self._settings
        self._config = AioConfig(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            max_pool_connections=settings.connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent_extra="vk-provider",
            tcp_keepalive=True,
        )
        try:
            self._session = aioboto3.Session(profile_name=settings.profile or None, region_name=settings.region or None)
            self._home = Site(self._session.region_name or "")
            for service in (*_SERVICES, *_services_of(settings)):
                await self._make(service, self._home)
            if settings.ecr_credentials:
                self._registry_regions = await self._find_registry_regions()
        except (botocore.BotoCoreError, ValueError) as error:
            await self.close()
            raise BadStartError(f"cloud.aws: {_one_line(error)}") from error

    async def _make(self, service: Service, site: Site) -> Any:
        endpoint_url = self._settings.endpoint_url or None
        config = self._config
        if site.fips and endpoint_url is None:
            config = config.merge(AioConfig(use_fips_endpoint=True))
        region = _pricing_region(site.region) if service == "pricing" else site.region or None
        client = self._session.client(service, region_name=region, endpoint_url=endpoint_url, config=config)
        made = self._clients[(service, site)] = await self._stack.enter_async_context(client)
        return made

    async def _find(self, operation: Operation[Any], site: Site) -> Any:
        """Clients of other Regions are made when they are needed first."""
        client = self._clients.get((operation.service, site))
        if client is not None:
            return client
        if not self._clients:
            raise CloudRequestError(f"{operation.name}: the client of {operation.service} is not started")
        async with self._making:
            if (client := self._clients.get((operation.service, site))) is not None:
                return client
            if len(self._clients) >= MAX_SITES:
                raise CloudRequestError(f"{operation.name}: {MAX_SITES} Regions at most, {site.region} is one more")
            try:
                return await self._make(operation.service, site)
            except (botocore.BotoCoreError, ValueError) as error:
                raise CloudRequestError(f"{operation.name}: {site.region}: {_one_line(error)}") from error

    @property
    def region(self) -> str:
        """The one that the settings or the SDK's chain name; after `start`."""
        return self._home.region

    @property
    def registry_regions(self) -> frozenset[str]:
        """Where the provider's partition has Amazon ECR, as the SDK's data say, "fips-us-east-1" among them; after
        `start`. A Region that is newer than the SDK is not there, but for the provider's own."""
        return self._registry_regions

    async def _find_registry_regions(self) -> frozenset[str]:
        home = self._home.region
        try:
            partition = self._session.get_partition_for_region(home)
        except botocore.UnknownRegionError:
            return frozenset({home})
        known = await self._session.get_available_regions("ecr", partition, allow_non_regional=True)
        return frozenset({*known, home})

    async def close(self) -> None:
        self._clients.clear()
        await self._stack.aclose()

    async def call(
        self,
        operation: Operation[AnswerT],
        parameters: Mapping[str, Any],
        offering: Offering | None = None,
        *,
        site: Site | None = None,
    ) -> AnswerT:
        """See AwsApi."""
        client = await self._find(operation, site or self._home)
        try:
            raw = await getattr(client, operation.method)(**parameters)
        except botocore.ClientError as error:
            raise _of_answer(operation.name, error, offering) from error
        except botocore.ParamValidationError as error:
            raise CloudRequestError(f"InvalidParameterValue: {operation.name}: {_one_line(error)}") from error
        except _NO_ACCESS as error:
            raise CloudAccessError(f"{operation.name}: {_one_line(error)}") from error
        except (botocore.BotoCoreError, OSError) as error:  # TimeoutError is an OSError
            raise CloudError(f"{operation.name}: no answer: {_one_line(error)}") from error
        try:
            return msgspec.convert(raw, operation.answer)
        except msgspec.ValidationError as error:
            raise CloudError(f"{operation.name}: the answer cannot be read: {error}") from error


def _services_of(settings: AwsCloudSettings) -> tuple[Service, ...]:
    """Of the abilities that are switched on."""
    registries: tuple[Service, ...] = ("ecr",) if settings.ecr_credentials else ()
    return (*registries, "eks-auth") if settings.eks_cluster else registries


def _pricing_region(region: str | None) -> str:
    return _PRICING_REGIONS.get((region or "").partition("-")[0], "us-east-1")


def _of_answer(name: str, error: botocore.ClientError, offering: Offering | None) -> CloudError:
    """The error that AWS answered with. A server's error without a code that is known may have done anything."""
    response: Mapping[str, Any] = error.response
    said, meta = response.get("Error") or {}, response.get("ResponseMetadata") or {}
    if error.operation_name != name:  # the chain of credentials has called, for a token of its own
        return CloudAccessError(f"{said.get('Code')}: {error.operation_name}: {_short(str(said.get('Message') or ''))}")
    code, message = str(said.get("Code") or "InternalError"), _short(str(said.get("Message") or ""))
    delay_s = _seconds((meta.get("HTTPHeaders") or {}).get("retry-after"))
    built = build_error(code, f"{name}: {message}", offering, delay_s)
    if type(built) is CloudRequestError and int(meta.get("HTTPStatusCode") or 0) >= _SERVER_ERROR:
        return CloudError(str(built))
    return built


def _seconds(text: Any) -> float:
    """Of a Retry-After header; 0.0 without one, or with a date."""
    try:
        return max(0.0, float(text or 0.0))
    except ValueError:
        return 0.0


def _one_line(error: Exception) -> str:
    return _short(str(error) or type(error).__name__)


def _short(text: str) -> str:
    return " ".join(text.split())[:500]
