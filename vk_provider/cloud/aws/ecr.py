"""Logins at Amazon ECR: one for each Region, and one for ECR Public.

Source: cloud-provider-aws, cmd/ecr-credential-provider, and the patterns of images that EKS configures it for. A login
is good for all registries of a Region that the provider's principal may pull from, whatever their account.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from datetime import datetime

from vk_provider.cloud.aws.operations import GET_AUTHORIZATION_TOKEN, GET_PUBLIC_AUTHORIZATION_TOKEN, AwsApi, Site
from vk_provider.cloud.credentials import RegistryLogin
from vk_provider.errors import CloudRequestError

_PRIVATE = re.compile(
    r"\d{12}\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2})"
    r"\.(?:amazonaws\.com(?:\.cn)?|on\.(?:aws|amazonwebservices\.com\.cn)|amazonaws\.eu|sc2s\.sgov\.gov|c2s\.ic\.gov)"
)
"""With dkr-ecr: the names that have IPv6 addresses, too."""
_PUBLIC_HOST = "public.ecr.aws"
_PUBLIC_REGION = "us-east-1"
_WITHOUT_PUBLIC = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")
"""Partitions whose principals ECR Public does not know."""
_FIPS = "fips-"
_UNKNOWN = "unknown Region"
"""The scope of all registries whose Region is not known: users name Regions, and each is a request, a client and
something to remember."""


class EcrCredentials:
    """cloud.credentials.CredentialSource. region: the provider's own; known: Regions that have ECR, see
    AwsClient.registry_regions."""

    def __init__(self, api: AwsApi, region: str, known: Collection[str]) -> None:
        self._api, self._region, self._known = api, region, known
        self._has_public = not region.startswith(_WITHOUT_PUBLIC)

    def scope_of(self, host: str) -> str:
        """ "eu-central-1", "fips-us-east-1", "public.ecr.aws", "unknown Region" or ""."""
        if host == _PUBLIC_HOST:
            return host if self._has_public else ""
        found = _PRIVATE.fullmatch(host)
        if found is None:
            return ""
        scope = (_FIPS if found["fips"] else "") + found["region"]
        return scope if scope in self._known else _UNKNOWN

    async def log_in(self, scope: str) -> RegistryLogin:
        if scope == _PUBLIC_HOST:
            answer = await self._api.call(GET_PUBLIC_AUTHORIZATION_TOKEN, {}, site=Site(_PUBLIC_REGION))
            return _read(answer.authorization_data.authorization_token, answer.authorization_data.expires_at)
        if scope == _UNKNOWN:
            raise CloudRequestError(f"no Region of Amazon ECR that the SDK knows in the partition of {self._region}")
        site = Site(scope.removeprefix(_FIPS), scope.startswith(_FIPS))
        for data in (await self._api.call(GET_AUTHORIZATION_TOKEN, {}, site=site)).authorization_data:
            return _read(data.authorization_token, data.expires_at)
        raise CloudRequestError("GetAuthorizationToken: the answer has no token")


def _read(token: str, expires_at: datetime) -> RegistryLogin:
    try:
        name, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise CloudRequestError("GetAuthorizationToken: the token of the answer is no name with a password")
    return RegistryLogin(name, password, expires_at.timestamp())
