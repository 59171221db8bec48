"""A registry with nothing but some content, for a containerd in the same network namespace: read-only, by digest, and
by the names that it was given (distribution-spec v1.1, "Pulling manifests")."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vk_provider.cloud.local.takeover import Collection

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/?]+)(?:\?.*)?")


@contextmanager
def serve(collection: Collection, names: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """The URL of the registry, until the end. names: (path of the repository, tag) to digest."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            match = _PATH.fullmatch(self.path)
            digest = "" if match is None else names.get((match["name"], match["reference"]), match["reference"])
            digits = digest.removeprefix("sha256:")
            if digits not in collection.media_types:
                self.send_response(HTTPStatus.OK if self.path == "/v2/" else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            with open(collection.path(digits), "rb") as file:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", collection.media_types[digits])
                self.send_header("Content-Length", str(collection.path(digits).stat().st_size))
                self.send_header("Docker-Content-Digest", digest)
                self.end_headers()
                if with_body:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        def log_message(self, format: str, *args: object) -> None:
            """No line for each request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="blob server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
