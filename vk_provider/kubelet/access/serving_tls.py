"""The TLS context of a kubelet API: it takes a new serving certificate and new client CAs while the server runs."""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.exceptions import InvalidSignature


class ServingTls:
    """`context` serves new handshakes: changes do not affect open connections.

    A trusted CA cannot be removed from an OpenSSL context, so a new bundle gets a new context.
    """

    def __init__(self, client_ca_pem: str) -> None:
        self.context = _build_context(client_ca_pem)
        self._files: tuple[str, str] | None = None

    def load_certificate(self, certificate_file: str, key_file: str) -> None:
        """Raises OSError or ssl.SSLError; then the previous pair stays in force."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file)
        self.context.load_cert_chain(certificate_file, key_file)
        self._files = certificate_file, key_file

    def trust(self, client_ca_pem: str) -> None:
        """Accept certificates of these CAs alone, none at all for "". Raises OSError or ssl.SSLError; then nothing
        changes."""
        context = _build_context(client_ca_pem)
        if self._files is not None:
            context.load_cert_chain(*self._files)
        self.context = context


def _build_context(client_ca_pem: str) -> ssl.SSLContext:
    """A context that requests a client certificate and verifies it if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # No client of a kubelet resumes TLS sessions: tickets would be wasted.
    context.num_tickets = 0
    if client_ca_pem:
        context.load_verify_locations(cadata=client_ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def shows_certificate(tls: ssl.SSLObject) -> bool:
    """Whether the handshake has verified a client certificate of the peer."""
    return bool(tls.getpeercert())


def is_issued_by(der: bytes, ca_pem: str) -> bool:
    """Whether one of the CAs in PEM signed the certificate itself. A certificate below an intermediate CA counts as
    foreign here: only the handshake knows its chain."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        authorities = x509.load_pem_x509_certificates(ca_pem.encode())
    except ValueError:
        return False
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
            return True
        except (ValueError, TypeError, InvalidSignature):
            continue
    return False
