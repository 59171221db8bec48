"""The key of each instance: the first one that it proves is its key for life, whatever another one proves later.

A key is proved by the boot secret (exchange) or by a certificate of our CA (any verified connection). The check stands
in the TLS handshake itself, so sessions, requests and raw streams all pass it, also those of later code.
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
    """Ends a handshake; asyncio and aiohttp pass it on as a certificate that is not accepted. str() has the reason."""


class KeyPins:
    """SHA-256 of the SubjectPublicKeyInfo of each instance's key, in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def pin(self, instance_id: str, key: bytes) -> None:
        """The instance has proved this key. Raises AgentIdentityError when it proved another one before."""
        if self._keys.setdefault(instance_id, key) != key:
            raise AgentIdentityError(f"{instance_id}: the agent shows another key than the instance's first one")

    def forget(self, instance_id: str) -> None:
        """The instance is gone."""
        self._keys.pop(instance_id, None)

    def guard(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Check every handshake of a client's context. Where the context verifies certificates, a key that is seen for
        the first time is pinned; where it does not, the key has proved nothing yet."""
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
