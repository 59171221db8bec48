"""Pins the key of each instance: only the first key that it proves is ever accepted.

A key is proved by the boot secret (exchange) or by a certificate of our CA (any verified connection). The check is part
of the TLS handshake, so it covers sessions, requests and raw streams.
"""

from __future__ import annotations

import hashlib
import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from vk_provider.errors import AgentIdentityError
from vk_provider.wire import routes


class KeyRefused(ssl.SSLCertVerificationError):
    """Fails a handshake; asyncio and aiohttp report it as a certificate error. str() has the reason."""


class KeyPins:
    """SHA-256 of the SubjectPublicKeyInfo of each instance's key, in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def pin(self, instance_id: str, key: bytes) -> None:
        """Pin a key that the instance has proved. Raises AgentIdentityError when another one is pinned."""
        if self._keys.setdefault(instance_id, key) != key:
            raise AgentIdentityError(f"{instance_id}: the agent shows another key than the instance's first one")

    def forget(self, instance_id: str) -> None:
        """Drop the key of an instance that is gone."""
        self._keys.pop(instance_id, None)

    def guard(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Check every handshake of a client's context. A key that is seen for the first time is pinned if the context
        verifies certificates; otherwise it is not proved yet."""
        check, verifies = self._check, context.verify_mode is ssl.CERT_REQUIRED

        class PinnedTls(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                check(self.server_hostname or "", self.getpeercert(True), verifies)

        context.sslobject_class = PinnedTls
        return context

    def _check(self, server_name: str, certificate: bytes | None, verified: bool) -> None:
        instance_id = routes.instance_of(server_name)
        if not verified and instance_id not in self._keys:
            return
        try:
            self.pin(instance_id, fingerprint(x509.load_der_x509_certificate(certificate or b"")))
        except (AgentIdentityError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyRefused(str(error)) from None


def fingerprint(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo. Raises ValueError when the key cannot be read."""
    key = holder.public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()
