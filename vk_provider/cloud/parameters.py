"""Digest of the parameters of a launch, which belong to its client token, see LaunchRequest.client_token."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache

from vk_provider.cloud.base import LaunchRequest, Offering
from vk_provider.errors import CloudRequestError


def digest_parameters(request: LaunchRequest) -> str:
    """SHA-256 (hex) of a request without its client token."""
    parameters = [dict(request.tags), request.user_data, request.disk_bytes]
    if request.shared_host_paths:  # without, as an earlier version has computed it
        parameters.append(list(request.shared_host_paths))
    # The JSON text of one list, with the part that many requests share made once.
    text = f"[{_describe(request.offering)}, {json.dumps(parameters, sort_keys=True)[1:]}"
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=256)
def _describe(offering: Offering) -> str:
    return json.dumps(asdict(offering), sort_keys=True)


def check_same_parameters(request: LaunchRequest, first: str) -> None:
    """Raise CloudRequestError when the token was used for other parameters, whose digest is `first`."""
    if digest_parameters(request) != first:
        raise CloudRequestError(
            f"IdempotentParameterMismatch: client token {request.client_token} was used with other parameters"
        )
