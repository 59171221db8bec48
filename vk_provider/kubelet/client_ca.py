"""Whose client certificates the kubelet API accepts, from a file that somebody else renews; and the TLS contexts that
take a new CA or a new serving certificate while the server runs."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vk_provider.errors import BadStartError

log = logging.getLogger(__name__)

CHECK_S = 10.0


class ServingTls:
    """`context` is what a server listens with; what is changed here counts for new handshakes, open connections stay.

    A trusted CA cannot be taken out of an OpenSSL context, so a new bundle gets a context of its own, which every
    handshake then changes to.
    """

    def __init__(self, client_ca_pem: str) -> None:
        self.context = self._current = _build_context(client_ca_pem)
        self._files: tuple[str, str] | None = None

    def load_certificate(self, certificate_file: str, key_file: str) -> None:
        """Raises OSError or ssl.SSLError; then the pair before stays in force."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file)
        self._current.load_cert_chain(certificate_file, key_file)
        self._files = certificate_file, key_file

    def trust(self, client_ca_pem: str) -> None:
        """Accept certificates of these CAs and of no others. Raises OSError or ssl.SSLError; then nothing changes."""
        context = _build_context(client_ca_pem)
        if self._files is not None:
            context.load_cert_chain(*self._files)
        self._current = context
        self.context.sni_callback = self._change_context

    def _change_context(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


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


class ClientCaFile:
    """A bundle of CAs in PEM, as a kubelet's --client-ca-file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()

    def load(self) -> str:
        """Raises BadStartError with one line."""
        try:
            pem = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not PEM"
            raise BadStartError(f"kubelet.client_ca_file {self._path}: {reason}") from None
        if not pem.strip():
            raise BadStartError(f"kubelet.client_ca_file {self._path}: is empty")
        return pem

    async def run(self, on_change: Callable[[str], None]) -> None:
        """Look for a new file until cancelled. on_change may raise OSError or ssl.SSLError: the old one stays then."""
        while True:
            await asyncio.sleep(CHECK_S)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            try:
                on_change(self.load())
            except (BadStartError, OSError) as error:  # ssl.SSLError is an OSError
                log.warning("keeping the old CAs for client certificates: %s", error)
                continue
            self._seen = stamp
            log.info("the CAs for client certificates of the kubelet API were read again")

    def _stamp(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino
