"""A few plain requests to the API server or to a component's health port, over verified TLS."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIELD_MANAGER = "vk-cluster"


class Refused(Exception):
    """The server answered with an error status."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:500]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Rest:
    """One base URL, the CA that signed its certificate, and a client certificate pair or None."""

    url: str
    ca: Path
    pair: tuple[Path, Path] | None = None

    def request(self, method: str, path: str, body: Any = None, timeout_s: float = 60) -> str:
        """The body of the answer. Raises Refused on a status of 400 or more, OSError when nothing answers."""
        target = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            target.hostname or "", target.port, timeout=timeout_s, context=self._context()
        )
        content = {"PATCH": "application/apply-patch+yaml"}.get(method, "application/json")
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": content})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, text)
        return text

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return json.loads(self.request("GET", path))

    def apply(self, path: str, manifest: Mapping[str, Any]) -> None:
        """Server-side apply of `manifest` at `path` (with its name): creates or changes it."""
        self.request("PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", manifest)

    def answers(self, path: str) -> bool:
        """Whether `path` answers with success just now."""
        try:
            self.request("GET", path, timeout_s=3)
        except (OSError, http.client.HTTPException, Refused):
            return False
        return True

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.pair:
            context.load_cert_chain(*self.pair)
        return context
