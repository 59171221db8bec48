"""Digest of the parameters of a launch, which belong to its client token, see LaunchRequest.client_token."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import orjson

from vk_provider.cloud.base import TAG_GROUP, LaunchRequest, Offering, offering_key
from vk_provider.errors import CloudRequestError


def digest_parameters(request: LaunchRequest) -> str:
    """SHA-256 (hex) of a request without its client token and its image store, which TAG_GROUP stands for, too."""
    parameters = [
        {name: value for name, value in request.tags.items() if name != TAG_GROUP},
        request.user_data,
        request.count,
        request.disk_bytes,
        list(request.shared_host_paths),
    ]
    if request.options:
        parameters.append(dict(request.options))
    if (store := request.local_store) is not None:
        parameters.append([store.least_bytes, store.root_disk_bytes])
    digest = hashlib.sha256(_describe(request.offerings))
    digest.update(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _describe(offerings: tuple[Offering, ...]) -> bytes:
    """Their names: a price that has changed meanwhile makes no other request of it."""
    return orjson.dumps([offering_key(offering) for offering in offerings])


def check_same_parameters(request: LaunchRequest, first: str) -> None:
    """Raise CloudRequestError when the token was used for other parameters, whose digest is `first`."""
    if digest_parameters(request) != first:
        raise CloudRequestError(
            f"IdempotentParameterMismatch: client token {request.client_token} was used with other parameters"
        )
