"""Keys and certificates of one control plane, written below a directory and reused when they are there.

One CA signs everything (servers, clients, and through the controller manager the nodes' serving certificates); a
second one signs the aggregator's client certificate, as the API server demands of requestheader authentication.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = datetime.timedelta(days=365)
CLOCK_SKEW = datetime.timedelta(minutes=5)


class Authority:
    """A certificate authority kept as `<name>.crt` and `<name>.key` in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.certificate_path = directory / f"{name}.crt"
        self.key_path = directory / f"{name}.key"
        if not self.certificate_path.exists():
            self._create(name)
        self.certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        self._key = _load_key(self.key_path)

    def _create(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, ())
        builder = _builder(subject, subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_key(self.key_path, key)
        _write(self.certificate_path, _pem(builder.sign(key, hashes.SHA256())), 0o644)

    def issue_server(self, name: str, common_name: str, hosts: Iterable[str]) -> tuple[Path, Path]:
        """A serving certificate for `hosts` (DNS names and addresses): (certificate path, key path)."""
        alternatives = x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys(hosts)])
        usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._issue(name, _name(common_name, ()), usages, alternatives)

    def issue_client(self, name: str, user: str, groups: Iterable[str] = ()) -> tuple[Path, Path]:
        """A client certificate of `user` (CN) in `groups` (O): (certificate path, key path)."""
        return self._issue(name, _name(user, groups), (ExtendedKeyUsageOID.CLIENT_AUTH,), None)

    def _issue(
        self,
        name: str,
        subject: x509.Name,
        usages: Iterable[x509.ObjectIdentifier],
        alternatives: x509.SubjectAlternativeName | None,
    ) -> tuple[Path, Path]:
        """Issue once: what an earlier start wrote is used again as long as it says the same."""
        certificate, key_file = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        if key_file.exists() and _says(certificate, subject, alternatives):
            return certificate, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        if alternatives:
            builder = builder.add_extension(alternatives, critical=False)
        write_key(key_file, key)
        _write(certificate, _pem(builder.sign(self._key, hashes.SHA256())), 0o644)
        return certificate, key_file


def service_account_key(directory: Path) -> tuple[Path, Path]:
    """The key that signs service account tokens: (public key, private key). RSA, since OIDC clients expect RS256."""
    public, private = directory / "service-account.pub", directory / "service-account.key"
    if not public.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        write_key(private, key)
        encoded = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(public, encoded, 0o644)
    return public, private


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    """Write a private key as PEM, readable by its owner alone."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, encoded, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_name(path.name + ".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
        handle.write(content)
    partial.replace(path)


def _says(path: Path, subject: x509.Name, alternatives: x509.SubjectAlternativeName | None) -> bool:
    """Whether the certificate at `path` names `subject` and `alternatives` and lasts another week."""
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    if certificate.not_valid_after_utc < _now() + datetime.timedelta(days=7):
        return False
    try:
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        present = None
    return certificate.subject == subject and present == alternatives


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=_now() - CLOCK_SKEW,
        not_valid_after=_now() + VALID_FOR,
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(user: str, groups: Iterable[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(path: Path) -> CertificateIssuerPrivateKeyTypes:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
