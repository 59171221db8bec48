"""The provider's identity: made once, found again, rotated."""

from __future__ import annotations

import base64
import datetime
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vk_provider.agentclient.authority import Authority, read_csr
from vk_provider.agentclient.identity_store import DirectoryIdentityStore, ProviderIdentity, SecretIdentityStore
from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.wire.routes import server_name

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Secrets:
    """The API server's part, for one Secret."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.races = self.put_races = 0
        self.winner = ProviderIdentity.create(NOW)

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/ns/secrets/identity"
        if self.stored is None:
            raise KubeApiError(404, "NotFound", "no")
        return self.stored

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.races:
            self.races -= 1
            self.stored = {"data": {"identity.json": _encode(ProviderIdentity.create(NOW))}}
        if self.stored is not None:
            raise KubeApiError(409, "AlreadyExists", "exists")
        self.stored = body
        return body

    async def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.put_races:
            self.put_races -= 1
            self.stored = {"metadata": {"resourceVersion": "2"}, "data": {"identity.json": _encode(self.winner)}}
            raise KubeApiError(409, "Conflict", "the object has been modified")
        self.stored = body
        return body


def _encode(identity: ProviderIdentity) -> str:
    return base64.b64encode(json.dumps(identity.to_document()).encode()).decode()


async def test_the_identity_is_made_once_and_private(tmp_path: Path) -> None:
    store = DirectoryIdentityStore(str(tmp_path / "id"))
    first = await store.load_or_create()
    assert await store.load_or_create() == first
    assert stat.S_IMODE((tmp_path / "id" / "identity.json").stat().st_mode) == 0o600


async def test_a_damaged_identity_is_not_replaced_silently(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(BadStartError, match="damaged"):
        await DirectoryIdentityStore(str(tmp_path)).load_or_create()


async def test_two_providers_that_start_together_share_one_identity() -> None:
    secrets = Secrets()
    secrets.races = 1
    identity = await SecretIdentityStore(secrets, "ns/identity").load_or_create()
    assert await SecretIdentityStore(secrets, "ns/identity").load_or_create() == identity


async def test_a_secret_reference_needs_namespace_and_name() -> None:
    with pytest.raises(BadStartError, match="namespace/name"):
        SecretIdentityStore(Secrets(), "identity")


def test_old_master_secrets_are_known_for_a_while() -> None:
    identity = ProviderIdentity.create(NOW)
    first = identity.master_secrets[0]
    assert identity.rotated(NOW.timestamp() + 10, 100) is None
    for turn in range(1, 5):
        newest = identity.master_secrets[-1]
        rotated = identity.rotated(NOW.timestamp() + turn * 200, 100)
        assert rotated is not None
        assert identity.master_secrets[-1] == newest, "nobody is told a secret before it is saved"
        identity.take_over(rotated)
        assert identity.master_secrets[-1] != newest
        assert (first in identity.master_secrets) == (turn < 3)


def earlier_document() -> dict[str, Any]:
    """As a version wrote it that told one secret to all instances."""
    document = ProviderIdentity.create(NOW).to_document()
    document["bootSecrets"] = document.pop("masterSecrets")
    return document


async def test_a_document_of_an_earlier_version_keeps_its_ca_and_gets_a_master_that_no_instance_was_told(
    tmp_path: Path,
) -> None:
    document = earlier_document()
    (tmp_path / "identity.json").write_text(json.dumps(document))
    identity = await DirectoryIdentityStore(str(tmp_path)).load_or_create()
    assert identity.ca_pem == document["caCertificate"]
    assert len(identity.master_secrets) == 1 and identity.master_secrets != document["bootSecrets"]
    assert await DirectoryIdentityStore(str(tmp_path)).load_or_create() == identity


@pytest.mark.parametrize("races", [0, 1])
async def test_two_providers_that_meet_an_earlier_document_agree_on_the_new_master(races: int) -> None:
    client = Secrets()
    text = base64.b64encode(json.dumps(earlier_document()).encode()).decode()
    client.stored = {"metadata": {"resourceVersion": "1"}, "data": {"identity.json": text}}
    client.put_races = races
    identity = await SecretIdentityStore(client, "ns/identity").load_or_create()
    assert client.stored is not None
    if races:
        assert identity == client.winner
    else:
        assert client.stored["metadata"]["resourceVersion"] == "1", "the API server decides who was first"
    assert await SecretIdentityStore(client, "ns/identity").load_or_create() == identity


def test_secrets_are_not_in_the_printed_form() -> None:
    identity = ProviderIdentity.create(NOW)
    assert identity.master_secrets[0] not in repr(identity)
    assert "PRIVATE KEY" not in repr(identity)


@pytest.mark.parametrize("change", [{"masterSecrets": []}, {"masterSecrets": ["xyz"]}, {"caKey": "nonsense"}])
async def test_a_damaged_secret_is_one_line(change: dict[str, Any]) -> None:
    client = Secrets()
    document = {**ProviderIdentity.create(NOW).to_document(), **change}
    client.stored = {"data": {"identity.json": base64.b64encode(json.dumps(document).encode()).decode()}}
    with pytest.raises(BadStartError, match="holds no identity"):
        await SecretIdentityStore(client, "ns/identity").load_or_create()


def test_the_authority_decides_the_name_in_a_certificate() -> None:
    identity = ProviderIdentity.create(NOW)
    authority = Authority(identity.ca_pem, identity.ca_key_pem, ttl_s=3600)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "i-other")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(asked).sign(key, hashes.SHA256())
    text = csr.public_bytes(serialization.Encoding.PEM).decode()
    signed = authority.sign_instance(read_csr(text, "i-1"), "i-1", NOW)
    certificate = x509.load_pem_x509_certificate(signed.pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [server_name("i-1")]
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(hours=1)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca_pem.encode()))
