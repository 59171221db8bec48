"""CAs of the client certificates that the kubelet API accepts, from a file that an operator or a mount renews."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from vk_provider.aiokit.filechanges import FileChanges
from vk_provider.errors import BadStartError

log = logging.getLogger(__name__)


class ClientCaFile:
    """kubelet.provider.ClientCaSource of a file: a bundle of CAs in PEM, as a kubelet's --client-ca-file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes = FileChanges([path])

    async def load(self) -> str:
        """The bundle. Raises BadStartError with one line."""
        return self._read()

    def _read(self) -> str:
        try:
            pem = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not PEM"
            raise BadStartError(f"kubelet.client_ca_file {self._path}: {reason}") from None
        if not pem.strip():
            raise BadStartError(f"kubelet.client_ca_file {self._path}: is empty")
        return pem

    async def run(self, on_change: Callable[[str], None]) -> None:
        """Watch for a new file until cancelled. When on_change raises OSError or ssl.SSLError, the old CAs stay."""

        def take() -> bool:
            try:
                on_change(self._read())
            except (BadStartError, OSError) as error:  # ssl.SSLError is an OSError
                log.warning("keeping the old CAs for client certificates: %s", error)
                return False
            log.info("the CAs for client certificates of the kubelet API were read again")
            return True

        await self._changes.run(take)
