"""EKS Pod Identity: credentials of the role that is associated with a pod's service account.

Source: eks-pod-identity-agent (pkg/credentials/model.go, pkg/errors/errors.go): the document that SDKs take, and that a
refusal has EKS Auth's own status.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from vk_provider.cloud.aws.operations import ASSUME_ROLE_FOR_POD_IDENTITY, AwsApi
from vk_provider.cloud.aws.secretanswers import PodIdentityAnswer
from vk_provider.cloud.codes import code_of
from vk_provider.cloud.podidentity import RoleAnswer
from vk_provider.errors import CloudError
from vk_provider.rfc3339 import format_time

RENEW_AFTER_S = 3 * 3600.0
"""Half the life of the credentials, which EKS's agent renews after the same time (credential-cache-renewal)."""
REFUSED_FOR_S = 10.0
"""A new association is seen by then."""
_STATUS = {
    "AccessDeniedException": HTTPStatus.BAD_REQUEST,
    "ExpiredTokenException": HTTPStatus.BAD_REQUEST,
    "InvalidParameterException": HTTPStatus.BAD_REQUEST,
    "InvalidRequestException": HTTPStatus.BAD_REQUEST,
    "InvalidTokenException": HTTPStatus.BAD_REQUEST,
    "ResourceNotFoundException": HTTPStatus.NOT_FOUND,
    "ServiceUnavailableException": HTTPStatus.SERVICE_UNAVAILABLE,
    "ThrottlingException": HTTPStatus.TOO_MANY_REQUESTS,
}
"""Of EKS Auth's API reference; anything else is 500, which SDKs ask again after."""


class EksPodIdentity:
    """cloud.podidentity.PodIdentitySource. cluster: its name in EKS. clock: Unix time."""

    audience = "pods.eks.amazonaws.com"

    def __init__(self, api: AwsApi, cluster: str, clock: Callable[[], float] = time.time) -> None:
        self._api, self._cluster, self._clock = api, cluster, clock

    async def assume_role(self, token: str) -> RoleAnswer:
        try:
            answer = await self._api.call(ASSUME_ROLE_FOR_POD_IDENTITY, {"clusterName": self._cluster, "token": token})
        except CloudError as error:
            status = _STATUS.get(code_of(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            is_final = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
            text = f"unable to fetch credentials from EKS Auth: {error}"
            return RoleAnswer(status, text, REFUSED_FOR_S if is_final else 0.0)
        left_s = answer.credentials.expiration.timestamp() - self._clock()
        return RoleAnswer(HTTPStatus.OK, build_document(answer), max(0.0, min(RENEW_AFTER_S, left_s / 2)))


def build_document(answer: PodIdentityAnswer) -> str:
    """What the SDKs' container credentials provider reads."""
    credentials = answer.credentials
    document = {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "AccountId": _account_of(answer.assumed_role_user.arn),
        "Expiration": format_time(credentials.expiration.timestamp()),
    }
    return msgspec.json.encode(document).decode()


def _account_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else ""
