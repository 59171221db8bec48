"""The provider's certificate authority: its own client certificate and one short-lived certificate per instance."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vk_provider.errors import AgentIdentityError
from vk_provider.wire import routes

BACKDATE = datetime.timedelta(days=1)
"""An instance checks our client certificate by its own clock, which may be behind ours. The keys are new, so an
earlier start of validity is harmless."""
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not define."""
CA_LIFETIME = datetime.timedelta(days=3650)
CLIENT_LIFETIME = datetime.timedelta(days=30)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def create_authority(now: datetime.datetime) -> tuple[str, str]:
    """Make a new CA; returns (certificate PEM, key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("vk-provider instances")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), _pem_key(key)


@dataclass(frozen=True)
class SignedCertificate:
    pem: str
    not_after: datetime.datetime


class Authority:
    """Signs with the CA's key. Certificates of instances live `ttl_s` seconds."""

    def __init__(self, certificate_pem: str, key_pem: str, ttl_s: int) -> None:
        self.certificate_pem = certificate_pem
        self._certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the CA key is not an elliptic curve key")
        self._key = key
        self._ttl = datetime.timedelta(seconds=ttl_s)

    def sign_instance(
        self, csr: x509.CertificateSigningRequest, instance_id: str, now: datetime.datetime
    ) -> SignedCertificate:
        """Sign an agent's CSR, see read_csr, for one instance. Names in the CSR are ignored: the provider sets
        them."""
        name = routes.server_name(instance_id)
        # A client, too: agents fetch blobs of images from each other. What else they serve is for the provider's name.
        usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        certificate = self._sign(csr.public_key(), instance_id, now, self._ttl, usages, name)
        return SignedCertificate(_pem(certificate), certificate.not_valid_after_utc)

    def _sign(
        self,
        public_key: object,
        common_name: str,
        now: datetime.datetime,
        lifetime: datetime.timedelta,
        usages: tuple[x509.ObjectIdentifier, ...],
        dns_name: str,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())

    def client_context(self, now: datetime.datetime, *, verify: bool, ignore_dates: bool = False) -> ssl.SSLContext:
        """TLS context of the provider towards agents.

        `verify` is False only for the identity exchange, `ignore_dates` True only to renew an expired certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if verify:
            context.load_verify_locations(cadata=self.certificate_pem)
            if ignore_dates:
                context.verify_flags |= _NO_CHECK_TIME
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        key = ec.generate_private_key(ec.SECP256R1())
        usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        common_name = routes.PROVIDER_COMMON_NAME
        certificate = self._sign(key.public_key(), common_name, now, CLIENT_LIFETIME, usages, common_name)
        with tempfile.TemporaryDirectory(prefix="vk-provider-") as directory:
            # ssl loads a client certificate only from a file; the directory has mode 0700 and is removed at once.
            path = Path(directory, "client.pem")
            path.touch(mode=0o600)
            path.write_text(_pem_key(key) + _pem(certificate))
            context.load_cert_chain(path)
        return context


def read_csr(csr_pem: str, instance_id: str) -> x509.CertificateSigningRequest:
    """Parse an agent's CSR. Raises AgentIdentityError unless it has a P-256 key, as agents use, and is signed by it."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        usable = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        if usable and csr.is_signature_valid:
            return csr
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AgentIdentityError(f"{instance_id}: malformed identity answer") from None
    raise AgentIdentityError(f"{instance_id}: the CSR is not signed by a P-256 key of its own")
