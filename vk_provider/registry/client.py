"""Asks a registry, with the credentials of a pod: for the digest of a name by a HEAD of the manifest (distribution-spec
v1.1, "Checking if content exists in the registry"), where an answer is the proof that the credentials suffice; for
manifests by their digests; and for the architectures of an image by its manifest.

Authentication as containerd does it (core/remotes/docker/authorizer.go): Basic, or a token that is asked for where the
challenge says. No redirect is followed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import orjson
from yarl import URL

from vk_provider.errors import VkError
from vk_provider.imagesets.imageset import PinnedImage, split_reference
from vk_provider.podmodel.imagemanifest import MAX_MANIFEST_BYTES
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.registry.challenge import Challenge, find_challenge
from vk_provider.registry.guard import GuardedResolver, check_literal
from vk_provider.registry.lanes import Lanes
from vk_provider.registry.manifest import read_config, read_manifest

AnswerT = TypeVar("AnswerT")

REQUEST_LIMIT_S = 5.0
NAMES_TTL_S = 120
"""An address is used again for so long."""
MAX_TOKEN_BYTES = 64 * 1024
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "*/*",
    )
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CLIENT_ID = "vk-provider"
_ALIASES = {"docker.io": "registry-1.docker.io"}


class RegistryError(VkError):
    """The registry did not say what the name stands for: it cannot be reached, or its answer cannot be used."""


class AccessDeniedError(RegistryError):
    """The credentials do not suffice, or the registry wants some."""


class ImageNotFoundError(RegistryError):
    """There is no such name, or the registry hides it."""


class RegistryClient:
    """registries: as in wire.bootdata, for hosts that are reached in another way than by HTTPS at their own name."""

    def __init__(self, registries: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._registries = registries or {}
        servers = [str(each.get("server") or "") for each in self._registries.values()]
        names = [URL(server).host for server in servers if server]
        names += [URL(f"//{host}").host for host in self._registries]
        self._trusted = frozenset(name for name in names if name)
        self._lanes = Lanes()
        self._resolver = GuardedResolver(self._trusted)
        self._http: aiohttp.ClientSession | None = None

    async def resolve(self, reference: str, credential: RegistryCredential | None) -> PinnedImage:
        """What a canonical reference stands for now. Raises RegistryError."""
        repository, suffix = split_reference(reference)
        host, _, path = repository.partition("/")
        url = f"{self._server(host)}/v2/{path}/manifests/{suffix}"
        try:
            async with self._lanes.turn(host), asyncio.timeout(REQUEST_LIMIT_S):
                return PinnedImage(reference, await self._head(URL(url, encoded=True), path, credential))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise RegistryError(f"{host}: {error or 'no answer'}") from None

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]:
        """The architectures of a canonical reference's images for Linux, by their Kubernetes names, which are Go's;
        empty when the registry does not tell. At some registries it counts as a pull. Raises RegistryError."""
        repository, suffix = split_reference(reference)
        host, _, path = repository.partition("/")
        base = f"{self._server(host)}/v2/{path}"
        try:
            async with self._lanes.turn(host), asyncio.timeout(REQUEST_LIMIT_S):
                url = URL(f"{base}/manifests/{suffix}", encoded=True)
                architectures, config = read_manifest(await self._ask("GET", url, path, credential, _read_manifest))
                if architectures or not config:
                    return architectures
                url = URL(f"{base}/blobs/{config}", encoded=True)
                return read_config(await self._ask("GET", url, path, credential, _read_manifest))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise RegistryError(f"{host}: {error or 'no answer'}") from None

    async def fetch_manifest(self, repository: str, digest: str, credential: RegistryCredential | None) -> bytes:
        """The manifest or index of this digest, which is checked. Raises RegistryError."""
        host, _, path = repository.partition("/")
        url = URL(f"{self._server(host)}/v2/{path}/manifests/{digest}", encoded=True)
        try:
            async with self._lanes.turn(host), asyncio.timeout(REQUEST_LIMIT_S):
                content = await self._ask("GET", url, path, credential, _read_manifest)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise RegistryError(f"{host}: {error or 'no answer'}") from None
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise RegistryError(f"{host}: not the content of {digest}")
        return content

    def _server(self, host: str) -> str:
        options = self._registries.get(host)
        if options is None:
            return f"https://{_ALIASES.get(host, host)}"
        scheme = "http" if options.get("plain_http") else "https"
        return str(options.get("server") or f"{scheme}://{host}").rstrip("/")

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=15, resolver=self._resolver, ttl_dns_cache=NAMES_TTL_S
            )
            # No answer is decompressed: a few bytes of one may be gigabytes.
            self._http = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            )
        return self._http

    def _check_host(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise RegistryError(f"not the URL of a server: {str(url)[:200]}")
        if check_literal(url.host) is False and url.host not in self._trusted:
            raise RegistryError(f"no registry may be at {url.host}")

    async def _head(self, url: URL, path: str, credential: RegistryCredential | None) -> str:
        async def read(answer: aiohttp.ClientResponse) -> str:
            return _read_digest(answer.headers.get("Docker-Content-Digest", ""), url.name)

        return await self._ask("HEAD", url, path, credential, read)

    async def _ask(
        self,
        method: str,
        url: URL,
        path: str,
        credential: RegistryCredential | None,
        read: Callable[[aiohttp.ClientResponse], Awaitable[AnswerT]],
    ) -> AnswerT:
        """What `read` makes of the answer; the challenge is answered once."""
        authorization = ""
        if credential is not None and credential.registry_token:
            authorization = f"Bearer {credential.registry_token}"
        for _ in range(2):
            self._check_host(url)
            headers = {"Accept": _ACCEPT, **({"Authorization": authorization} if authorization else {})}
            async with self._session().request(method, url, headers=headers, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.OK:
                    return await read(answer)
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise ImageNotFoundError(f"{url.host}: {path} has no {url.name}")
                if answer.status == HTTPStatus.FORBIDDEN or (
                    answer.status == HTTPStatus.UNAUTHORIZED and authorization
                ):
                    raise AccessDeniedError(f"{url.host}: access to {path} is denied")
                if answer.status != HTTPStatus.UNAUTHORIZED:
                    raise RegistryError(f"{url.host}: status {answer.status}")
                challenge = find_challenge(answer.headers.getall("WWW-Authenticate", []))
            authorization = await self._answer(challenge, url, path, credential)
        raise AccessDeniedError(f"{url.host}: access to {path} is denied")

    async def _answer(
        self, challenge: Challenge | None, url: URL, path: str, credential: RegistryCredential | None
    ) -> str:
        """The value of Authorization."""
        if challenge is not None and challenge.scheme == "bearer":
            return f"Bearer {await self._ask_token(challenge, url, path, credential)}"
        if challenge is not None and credential is not None and credential.username:
            return _encode_basic(credential)
        raise AccessDeniedError(f"{url.host}: {path} needs credentials")

    async def _ask_token(self, challenge: Challenge, url: URL, path: str, credential: RegistryCredential | None) -> str:
        realm = URL(challenge.parameters.get("realm", ""))
        self._check_host(realm)
        if realm.scheme != "https" and url.scheme == "https":
            raise RegistryError(f"{url.host}: its tokens come from {realm.host} without TLS")
        asked = {"scope": f"repository:{path}:pull"}
        if "service" in challenge.parameters:
            asked["service"] = challenge.parameters["service"]
        if credential is not None and credential.identity_token:
            form = {
                **asked,
                "grant_type": "refresh_token",
                "client_id": _CLIENT_ID,
                "refresh_token": credential.identity_token,
            }
            call = self._session().post(realm, data=form, allow_redirects=False)
        else:
            headers = {}
            if credential is not None and credential.username:
                headers["Authorization"] = _encode_basic(credential)
            call = self._session().get(realm.update_query(asked), headers=headers, allow_redirects=False)
        async with call as answer:
            if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST):
                raise AccessDeniedError(f"{url.host}: no token for {path}")
            if answer.status != HTTPStatus.OK:
                raise RegistryError(f"{url.host}: status {answer.status} where tokens are asked for")
            body = await _read_bounded(answer, MAX_TOKEN_BYTES)
        document = orjson.loads(body)
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{url.host}: no token in the answer")
        return token

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
        await self._resolver.close()


def _encode_basic(credential: RegistryCredential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


async def _read_bounded(answer: aiohttp.ClientResponse, limit: int = MAX_TOKEN_BYTES) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise RegistryError(f"an answer of more than {limit} bytes")
    return bytes(body)


async def _read_manifest(answer: aiohttp.ClientResponse) -> bytes:
    return await _read_bounded(answer, MAX_MANIFEST_BYTES)


def _read_digest(header: str, asked: str) -> str:
    """What was asked by its digest is nothing else."""
    if _DIGEST.fullmatch(asked):
        return asked
    if not _DIGEST.fullmatch(header):
        raise RegistryError("the registry does not name the digest")
    return header
