"""Authentication (client certificate, else bearer token by TokenReview) and authorization (SubjectAccessReview).

Reviews are cached for the times a kubelet uses; equal reviews in flight share one request. There is no anonymous
access. Tokens are kept only as hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from cachetools import TTLCache

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.lograte import LimitedLog
from vk_provider.aiokit.tlssite import mark_authenticated
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kubelet.access.attributes import find_subresources, find_verb
from vk_provider.kubelet.provider import ReviewClient

limited_log = LimitedLog(logging.getLogger(__name__))
"""Anybody who reaches the port can cause these messages."""

TOKEN_TTL_S = 120.0
REFUSED_TOKEN_TTL_S = 10.0
ALLOW_TTL_S = 300.0
DENY_TTL_S = 30.0
CACHE_ENTRIES = 10_000
REVIEW_TRIES = 5
REVIEW_RETRY_S = 0.5
"""A review changes nothing, so it is retried: 4 s in all (apiserver/pkg/util/webhook, DefaultRetryBackoff)."""

REVIEW_TIMEOUT_S = 10.0
"""Of one try (apiserver/pkg/server/options: TokenRequestTimeout, ClientTimeout)."""
REVIEWS_WAITING = 384
"""TokenReviews, and as many SubjectAccessReviews. One address has no more than 256 connections that have not
authenticated (ConnectionLimits), so a flood from one leaves room for the others."""

AUTHENTICATED = "system:authenticated"

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class User:
    """A user.Info: `extra` is part of what is reviewed."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)


class SingleFlight:
    """Runs one call per key at a time; callers that come meanwhile get the same result."""

    def __init__(self) -> None:
        self._running: dict[Any, asyncio.Task[Any]] = {}

    async def do(self, key: Any, call: Callable[[], Awaitable[ValueT]]) -> ValueT:
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(_await(call), name="review")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Shielded: one caller that hangs up must not cancel the result of the others.
        result: ValueT = await asyncio.shield(task)
        return result


async def _await(call: Callable[[], Awaitable[ValueT]]) -> ValueT:
    return await call()


def parse_certificate_user(certificate: Any, der: bytes) -> User | None:
    """User of a verified client certificate (as SSLSocket.getpeercert returns it): CN is the name, each O a group."""
    subject = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
    name = next((value for key, value in subject if key == "commonName"), "")
    if not name:
        return None
    groups = tuple(value for key, value in subject if key == "organizationName")
    credential = "X509SHA256=" + hashlib.sha256(der).hexdigest()
    return User(name, _with_authenticated(groups), "", {"authentication.kubernetes.io/credential-id": [credential]})


def has_expired(certificate: Any, now: float) -> bool:
    """The handshake verified the dates, but a connection may outlive its client's certificate."""
    return "notAfter" in certificate and ssl.cert_time_to_seconds(certificate["notAfter"]) < now


def _with_authenticated(groups: tuple[str, ...]) -> tuple[str, ...]:
    return groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED)


class Reviews:
    """Creates reviews. At most REVIEWS_WAITING are open: any further one fails at once with status 429."""

    def __init__(self, client: ReviewClient) -> None:
        self._client = client
        self._waiting = 0

    async def ask(self, path: str, body: Json) -> Json:
        """The reviewed document. Raises KubeApiError.

        Retries after a lost connection and while the API server is overloaded, as a kubelet does."""
        if self._waiting >= REVIEWS_WAITING:
            raise KubeApiError(429, "TooManyRequests", f"{self._waiting} reviews wait for the API server")
        self._waiting += 1
        try:
            return await self._ask(path, body)
        finally:
            self._waiting -= 1

    async def _ask(self, path: str, body: Json) -> Json:
        backoff = Backoff(REVIEW_RETRY_S, 10.0, factor=1.5, jitter=0.2)
        for left in reversed(range(REVIEW_TRIES)):
            try:
                return await self._client.create(path, body, timeout_s=REVIEW_TIMEOUT_S)
            except KubeApiError as error:
                if not left or not _may_pass(error):
                    raise
            await asyncio.sleep(backoff.next_delay_s())
        raise AssertionError("unreachable: the last try returns or raises")


def _may_pass(error: KubeApiError) -> bool:
    """Not after a timeout: the caller has waited long enough by then."""
    return error.reason == "Unreachable" or error.is_throttled or error.is_server_error


class Authenticator:
    """Finds the user of a request."""

    def __init__(self, reviews: ReviewClient) -> None:
        self._reviews = Reviews(reviews)
        self._users: MutableMapping[bytes, User] = TTLCache(CACHE_ENTRIES, TOKEN_TTL_S)
        self._refused: MutableMapping[bytes, bool] = TTLCache(CACHE_ENTRIES, REFUSED_TOKEN_TTL_S)
        self._flight = SingleFlight()

    async def authenticate(self, request: web.BaseRequest) -> User | None:
        """The user; None for a 401. Raises KubeApiError when the token cannot be reviewed."""
        user = self._authenticate_certificate(request)
        if user is not None:
            return user
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        key = hashlib.sha256(token.encode()).digest()
        if key in self._refused:
            return None
        return self._users.get(key) or await self._flight.do(key, lambda: self._review(key, token))

    @staticmethod
    def _authenticate_certificate(request: web.BaseRequest) -> User | None:
        tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
            return None
        certificate = tls.getpeercert()
        if not certificate or has_expired(certificate, time.time()):
            return None
        return parse_certificate_user(certificate, tls.getpeercert(True) or b"")

    async def _review(self, key: bytes, token: str) -> User | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        review = await self._reviews.ask("/apis/authentication.k8s.io/v1/tokenreviews", body)
        status = review.get("status") or {}
        if not status.get("authenticated"):
            self._refused[key] = True
            return None
        user = status.get("user") or {}
        found = User(
            str(user.get("username") or ""),
            _with_authenticated(tuple(user.get("groups") or ())),
            str(user.get("uid") or ""),
            dict(user.get("extra") or {}),
        )
        self._users[key] = found
        return found


class Authorizer:
    """Asks whether a user may use a subresource of a Node."""

    def __init__(self, reviews: ReviewClient) -> None:
        self._reviews = Reviews(reviews)
        self._allowed: MutableMapping[Any, bool] = TTLCache(CACHE_ENTRIES, ALLOW_TTL_S)
        self._denied: MutableMapping[Any, bool] = TTLCache(CACHE_ENTRIES, DENY_TTL_S)
        self._flight = SingleFlight()

    async def is_allowed(self, user: User, verb: str, node: str, subresource: str) -> bool:
        """Raises KubeApiError when the access cannot be reviewed."""
        extra = tuple((key, tuple(values)) for key, values in sorted(user.extra.items()))
        key = (user, extra, verb, node, subresource)
        if key in self._allowed:
            return True
        if key in self._denied:
            return False
        return await self._flight.do(key, lambda: self._review(key, user, verb, node, subresource))

    async def _review(self, key: Any, user: User, verb: str, node: str, subresource: str) -> bool:
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node}
        spec: Json = {"resourceAttributes": attributes, "user": user.name, "groups": list(user.groups)}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = user.extra
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        review = await self._reviews.ask("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        allowed = bool((review.get("status") or {}).get("allowed"))
        (self._allowed if allowed else self._denied)[key] = True
        return allowed


class AuthFilter:
    """Authenticates and authorizes each request to one Node's server. All Nodes share one pair of caches."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer, node: str) -> None:
        self._authenticator, self._authorizer, self._node = authenticator, authorizer, node

    async def refuse(self, request: web.BaseRequest) -> web.Response | None:
        """None when the request is allowed, else the kubelet's answer."""
        try:
            user = await self._authenticator.authenticate(request)
        except KubeApiError as error:
            limited_log.warning("cannot review a token: %s", error)
            user = None
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        mark_authenticated(request)
        return await self._authorize(user, find_verb(request.method), find_subresources(request.path))

    async def _authorize(self, user: User, verb: str, subresources: list[str]) -> web.Response | None:
        for subresource in subresources:
            try:
                if await self._authorizer.is_allowed(user, verb, self._node, subresource):
                    return None
            except KubeApiError as error:
                who = f"(user={user.name}, verb={verb}, resource=nodes, subresource={subresource})"
                limited_log.warning("authorization error %s: %s", who, error)
                return web.Response(status=500, text=f"Authorization error {who}")
        asked = f"user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(subresources)}]"
        return web.Response(status=403, text=f"Forbidden ({asked})\n")
