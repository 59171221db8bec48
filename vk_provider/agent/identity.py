"""The agent's identity: a key made on the instance, proved once with the boot secret, certified by the provider.

The protocol is wire.routes.IDENTITY_REQUEST and IDENTITY_CERTIFICATE. Key and certificate stay on the instance's disk,
so that a restarted agent keeps its identity without an exchange. `cryptography` is imported only to create or check
keys and certificates: such a restart does not need it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from vk_provider.errors import AgentError
from vk_provider.wire import routes


class IdentityRefused(AgentError):
    """A certificate that is not ours, or not of our provider's CA."""


class AgentIdentity:
    """Key, certificate and TLS context of one instance's agent. Methods block for some milliseconds at most."""

    def __init__(self, directory: Path, instance_id: str, ca_pem: str, boot_secret: str) -> None:
        # A directory per instance: an image made from a used disk must not hand its key to other instances.
        self._directory = directory / instance_id
        self._instance_id = instance_id
        self._ca_pem = ca_pem
        self._boot_secret = boot_secret
        self._key_path = self._directory / "key.pem"
        self._csr_path = self._directory / "csr.pem"
        self._certificate_path = self._directory / "certificate.pem"
        self.is_issued = False
        """Whether the provider's CA has signed the certificate in use."""
        self.context = self._build_context()
        """TLS context of the server; live: new connections present the newest certificate."""

    def load_or_create(self) -> None:
        """Take key and certificate from the disk, or make a key and a self-signed certificate."""
        if self._load_issued():
            return
        self._create()

    def answer(self, nonce: str, versions: Sequence[int]) -> dict[str, object]:
        """The answer to an identity request."""
        csr_pem = self._csr_path.read_text()
        return {
            "versions": list(versions),
            "instanceID": self._instance_id,
            "csr": csr_pem,
            "hmac": compute_proof(self._boot_secret, nonce, self._instance_id, csr_pem),
        }

    def accept(self, certificate_pem: str) -> None:
        """Use a certificate of the provider from the next connection on. Raises IdentityRefused."""
        self._check(certificate_pem)
        _write_private(self._certificate_path, certificate_pem)
        self.context.load_cert_chain(self._certificate_path, self._key_path)
        self.is_issued = True

    def client_context(self) -> ssl.SSLContext:
        """TLS context for connections to other agents, with the certificate in use now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self._ca_pem)
        context.load_cert_chain(self._certificate_path, self._key_path)
        return context

    def _build_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self._ca_pem)
        context.num_tickets = 0  # a resumed session would keep the certificate of its first handshake
        return context

    def _load_issued(self) -> bool:
        if not (self._certificate_path.exists() and self._key_path.exists() and self._csr_path.exists()):
            return False
        try:
            self.context.load_cert_chain(self._certificate_path, self._key_path)
        except (ssl.SSLError, OSError):
            return False
        self.is_issued = True
        return True

    def _create(self) -> None:
        from vk_provider.agent.certificates import create_credentials

        made = create_credentials(routes.server_name(self._instance_id))
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(self._key_path, made.key_pem)
        _write_private(self._csr_path, made.csr_pem)
        self_signed_path = self._directory / "self-signed.pem"
        _write_private(self_signed_path, made.self_signed_pem)
        self.context.load_cert_chain(self_signed_path, self._key_path)

    def _check(self, certificate_pem: str) -> None:
        from vk_provider.agent.certificates import find_fault

        name = routes.server_name(self._instance_id)
        fault = find_fault(certificate_pem, self._key_path.read_text(), self._ca_pem, name)
        if fault:
            raise IdentityRefused(f"certificate refused: {fault}")


def compute_proof(boot_secret: str, nonce: str, instance_id: str, csr_pem: str) -> str:
    """The HMAC (hex) that wire.routes.IDENTITY_REQUEST describes."""
    message = b"\n".join((nonce.encode(), instance_id.encode(), csr_pem.encode()))
    return hmac.new(bytes.fromhex(boot_secret), message, hashlib.sha256).hexdigest()


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)
