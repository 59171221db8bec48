"""The X.509 part of the agent's identity. Apart, because importing `cryptography` takes longer than its work here."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_EPOCH = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_FAR = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM texts of a new key, its CSR and a self-signed certificate (good only until the provider has signed one)."""

    key_pem: str
    csr_pem: str
    self_signed_pem: str


def create_credentials(server_name: str) -> Credentials:
    """Make a P-256 key with CSR and self-signed certificate for `server_name`. No clock: it may be wrong at boot."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name holds 64 characters at most; the name that counts is the SAN.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_name[:64])])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(server_name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(alternatives, critical=False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_EPOCH)
        .not_valid_after(_FAR)
        .add_extension(alternatives, critical=False)
    )
    pem = serialization.Encoding.PEM
    return Credentials(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        csr.sign(key, hashes.SHA256()).public_bytes(pem).decode(),
        certificate.sign(key, hashes.SHA256()).public_bytes(pem).decode(),
    )


def find_fault(certificate_pem: str, key_pem: str, ca_pem: str, server_name: str) -> str:
    """Why a certificate (PEM chain, leaf first) is not one for this key, name and CA; "" when it is.

    Its dates are not looked at: the provider judges them by its own clock, ours may be wrong.
    """
    try:
        leaf, *_ = x509.load_pem_x509_certificates(certificate_pem.encode())
        authority = x509.load_pem_x509_certificate(ca_pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        return f"malformed ({error})"
    if leaf.public_key() != key.public_key():
        return "it is for another key"
    if server_name not in names.get_values_for_type(x509.DNSName):
        return f"it is not for {server_name}"
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return "it is not signed by the provider's CA"
    return ""
