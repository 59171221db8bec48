"""Keys, signing requests and dates of a serving certificate. Pure except for the random keys."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM certificate chain and PEM private key."""

    certificate: bytes
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    def is_usable(self, names: Iterable[str], now: datetime) -> bool:
        """Whether the certificate is valid now, belongs to the key and has all the names."""
        try:
            leaf, key = self.leaf, serialization.load_pem_private_key(self.key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # TypeError: the key is encrypted with a password.
            return False
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            return False
        if _spki(leaf.public_key()) != _spki(key.public_key()):
            return False
        return {str(_parse_name(name)) for name in names} <= subject_names(leaf)


def generate_key_pem() -> bytes:
    """An ECDSA P-256 key, PKCS#8 PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def build_serving_request(key_pem: bytes, node_name: str, names: Iterable[str]) -> bytes:
    """PEM request as the signer kubernetes.io/kubelet-serving demands: O=system:nodes, CN=system:node:NAME."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
        ]
    )
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def subject_names(certificate: x509.Certificate) -> set[str]:
    """DNS names and addresses of the certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return set(names.get_values_for_type(x509.DNSName)) | addresses


def compute_rotation_at(certificate: x509.Certificate, fraction: float) -> float:
    """Unix time at which `fraction` of the certificate's life has passed (kubelet: 0.7 to 0.9 at random)."""
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return begin + (end - begin) * fraction


def _parse_name(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    """An address, which can be written in several ways, or a DNS name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return name


def _general_name(name: str) -> x509.GeneralName:
    parsed = _parse_name(name)
    return x509.DNSName(parsed) if isinstance(parsed, str) else x509.IPAddress(parsed)


def _spki(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(encoded, bytes)
    return encoded
