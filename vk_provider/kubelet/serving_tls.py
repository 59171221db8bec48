"""The TLS context of a kubelet API: it takes a new serving certificate and new client CAs while the server runs."""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.exceptions import InvalidSignature


class ServingTls:
    """`context` is that of the next handshake; what is changed here counts for new handshakes, open connections stay.

    A trusted CA cannot be taken out of an OpenSSL context, so a new bundle gets a context of its own.
    """

    def __init__(self, client_ca_pem: str) -> None:
        self.context = _build_context(client_ca_pem)
        self._files: tuple[str, str] | None = None

    def load_certificate(self, certificate_file: str, key_file: str) -> None:
        """Raises OSError or ssl.SSLError; then the pair before stays in force."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file)
        self.context.load_cert_chain(certificate_file, key_file)
        self._files = certificate_file, key_file

    def trust(self, client_ca_pem: str) -> None:
        """Accept certificates of these CAs and of no others, none of "". Raises OSError or ssl.SSLError; then nothing
        changes."""
        context = _build_context(client_ca_pem)
        if self._files is not None:
            context.load_cert_chain(*self._files)
        self.context = context


def _build_context(client_ca_pem: str) -> ssl.SSLContext:
    """Asks for a client certificate, verifies it if one is given and does without if not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # No client of a kubelet resumes TLS sessions: tickets would only be written for nothing.
    context.num_tickets = 0
    if client_ca_pem:
        context.load_verify_locations(cadata=client_ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def shows_certificate(tls: ssl.SSLObject) -> bool:
    """Whether the peer has authenticated by a client certificate, which the handshake has verified."""
    return bool(tls.getpeercert())


def is_issued_by(der: bytes, ca_pem: str) -> bool:
    """Whether one of the CAs in PEM signed the certificate itself. A certificate below an intermediate CA counts as
    foreign here: its chain is known to the handshake only."""
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
