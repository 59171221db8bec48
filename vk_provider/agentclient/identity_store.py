"""Stores the provider's CA and master secrets: the only state that a restarted provider needs.

The document is small and JSON; it lives in a directory or, when the provider may move between machines, in a Secret.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import secrets
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from vk_provider.agentclient.authority import Authority, create_authority
from vk_provider.errors import BadStartError, KubeApiError

KEPT_MASTER_SECRETS = 3
"""Instances launched under an older master may still be booting."""


@dataclass
class ProviderIdentity:
    """CA certificate and key (PEM), master secrets (hex), newest last: each launch's boot secret derives from the
    newest, see bootsecret. Empty in a document of an earlier version, until `with_new_master`."""

    ca_pem: str
    ca_key_pem: str = field(repr=False)
    master_secrets: list[str] = field(repr=False)
    rotated_at: float

    def to_document(self) -> dict[str, Any]:
        return {
            "caCertificate": self.ca_pem,
            "caKey": self.ca_key_pem,
            "masterSecrets": self.master_secrets,
            "rotatedAt": self.rotated_at,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ProviderIdentity:
        """Raises ValueError, KeyError or TypeError when the document is damaged.

        An earlier version gave its `bootSecrets` to every instance, so they are no masters."""
        is_earlier = "masterSecrets" not in document and "bootSecrets" in document
        secret_texts = [str(text) for text in document["bootSecrets" if is_earlier else "masterSecrets"]]
        if not secret_texts or not all(bytes.fromhex(text) for text in secret_texts):
            raise ValueError("no master secret")
        Authority(document["caCertificate"], document["caKey"], 0)
        masters = [] if is_earlier else secret_texts
        return cls(document["caCertificate"], document["caKey"], masters, float(document["rotatedAt"]))

    @classmethod
    def create(cls, now: datetime.datetime) -> ProviderIdentity:
        ca_pem, key_pem = create_authority(now)
        return cls(ca_pem, key_pem, [secrets.token_hex(32)], now.timestamp())

    def rotated(self, now_s: float, ttl_s: float) -> ProviderIdentity | None:
        """The identity with a new master when the newest is older than ttl_s, to be saved before `take_over`."""
        return None if now_s - self.rotated_at < ttl_s else self.with_new_master(now_s)

    def with_new_master(self, now_s: float) -> ProviderIdentity:
        masters = [*self.master_secrets, secrets.token_hex(32)][-KEPT_MASTER_SECRETS:]
        return replace(self, master_secrets=masters, rotated_at=now_s)

    def take_over(self, saved: ProviderIdentity) -> None:
        """Use the newest master of `saved` for further launches."""
        self.master_secrets, self.rotated_at = saved.master_secrets, saved.rotated_at


class IdentityStore(Protocol):
    """Loads or creates the identity exactly once per cluster, also when two providers start at once."""

    async def load_or_create(self) -> ProviderIdentity: ...

    async def save(self, identity: ProviderIdentity) -> None: ...


class DirectoryIdentityStore:
    """identity.json (0600) in a directory of this machine."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, "identity.json")

    async def load_or_create(self) -> ProviderIdentity:
        try:
            now = datetime.datetime.now(datetime.UTC)
            if not self._path.exists():
                identity = ProviderIdentity.create(now)
            else:
                identity = ProviderIdentity.from_document(json.loads(self._path.read_text()))
                if identity.master_secrets:
                    return identity
                identity = identity.with_new_master(now.timestamp())
            await self.save(identity)
            return identity
        except OSError as error:
            raise BadStartError(
                f"cannot keep the provider's identity at {self._path}: {error.strerror}; set identity.directory"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise BadStartError(
                f"{self._path} is damaged ({error}); restore it, or delete it to lose all instances"
            ) from None

    async def save(self, identity: ProviderIdentity) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(identity.to_document(), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)


class SecretClient(Protocol):
    async def get(self, path: str) -> dict[str, Any]: ...

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...

    async def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...


class SecretIdentityStore:
    """An Opaque Secret with one key, identity.json. Of two concurrent creations the API server accepts one."""

    def __init__(self, client: SecretClient, reference: str) -> None:
        namespace, _, name = reference.partition("/")
        if not namespace or not name:
            raise BadStartError(f'identity.secret must be "namespace/name", not {reference!r}')
        self._client = client
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._metadata = {"namespace": namespace, "name": name}

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._metadata['name']}"

    async def load_or_create(self) -> ProviderIdentity:
        try:
            return await self._load()
        except KubeApiError as error:
            if not error.is_not_found:
                raise
        identity = ProviderIdentity.create(datetime.datetime.now(datetime.UTC))
        try:
            await self._client.create(self._collection, self._body(identity))
            return identity
        except KubeApiError as error:
            if not error.is_conflict:
                raise
        return await self._load()

    async def _load(self) -> ProviderIdentity:
        """The stored identity; a document of an earlier version first gets a master, from one provider only."""
        secret = await self._client.get(self._path)
        identity = _from_secret(secret)
        if identity.master_secrets:
            return identity
        identity = identity.with_new_master(datetime.datetime.now(datetime.UTC).timestamp())
        body = self._body(identity)
        body["metadata"] = {**self._metadata, "resourceVersion": secret["metadata"]["resourceVersion"]}
        try:
            await self._client.put(self._path, body)
        except KubeApiError as error:
            if not error.is_conflict:
                raise
            return _from_secret(await self._client.get(self._path))
        return identity

    async def save(self, identity: ProviderIdentity) -> None:
        await self._client.put(self._path, self._body(identity))

    def _body(self, identity: ProviderIdentity) -> dict[str, Any]:
        data = base64.b64encode(json.dumps(identity.to_document()).encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": self._metadata,
            "data": {"identity.json": data},
        }


def _from_secret(secret: dict[str, Any]) -> ProviderIdentity:
    try:
        return ProviderIdentity.from_document(json.loads(base64.b64decode(secret["data"]["identity.json"])))
    except (ValueError, KeyError, TypeError) as error:
        name = secret.get("metadata", {}).get("name")
        raise BadStartError(
            f"Secret {name} holds no identity of a provider ({type(error).__name__} {error}); restore it, or delete it "
            "to lose all instances"
        ) from None
