"""Answers of AWS that hold secrets, see answers: they show nothing of what they hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

Secret = Annotated[str, Meta(min_length=1, max_length=64 << 10)]
Arn = Annotated[str, Meta(max_length=2048)]


class SecretAnswer(Struct, rename="camel", frozen=True, gc=False):
    """Names as in the API: expires_at is expiresAt."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class AuthorizationToken(SecretAnswer, frozen=True):
    """Base64 of "name:password"."""

    authorization_token: Secret
    expires_at: datetime


class AuthorizationTokens(SecretAnswer, frozen=True):
    authorization_data: list[AuthorizationToken] = []


class PublicAuthorizationToken(SecretAnswer, frozen=True):
    authorization_data: AuthorizationToken


class TemporaryCredentials(SecretAnswer, frozen=True):
    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret
    expiration: datetime


class AssumedRoleUser(SecretAnswer, frozen=True):
    arn: Arn


class PodIdentityAnswer(SecretAnswer, frozen=True):
    credentials: TemporaryCredentials
    assumed_role_user: AssumedRoleUser
