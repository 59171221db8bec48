"""The four collections that kube-proxy watches, served from memory inside a network namespace.

What the API server would send is what the proxy is given, without an etcd, and IPv6 without a dual-stack cluster; the
proxy is the real one.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vk_provider.jsontypes import Json

COLLECTIONS = {
    "/api/v1/services": ("v1", "Service"),
    "/api/v1/nodes": ("v1", "Node"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "/apis/networking.k8s.io/v1/servicecidrs": ("networking.k8s.io/v1", "ServiceCIDR"),
}
UNWANTED = {
    "/api/v1/services": "service.kubernetes.io/service-proxy-name",
    "/apis/discovery.k8s.io/v1/endpointslices": "service.kubernetes.io/headless",
}
"""The proxy asks for what has not this label (cmd/kube-proxy/app/server.go): an object that gets it is gone to it."""
INITIAL_END = {"k8s.io/initial-events-end": "true"}


class ObjectServer:
    """`start` serves on a listening socket. `set` adds, changes or (None) removes an object, before it, too."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Json]] = {path: {} for path in COLLECTIONS}
        self._watches: dict[str, set[queue.SimpleQueue[Json | None]]] = {path: set() for path in COLLECTIONS}
        self._version = 1
        self._lock = threading.Lock()

    def start(self, listener: socket.socket) -> None:
        listener.setblocking(True)
        self._http = _Http(listener.getsockname(), _Handler, bind_and_activate=False)
        self._http.socket.close()
        self._http.socket, self._http.objects = listener, self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="objects")
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.put(None)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def set(self, path: str, key: str, item: Json | None) -> None:
        if item is not None and UNWANTED.get(path) in (item["metadata"].get("labels") or {}):
            item = None
        with self._lock:
            known = self._objects[path]
            before = known.get(key)
            if item is None and before is None:
                return
            self._version += 1
            version, kind = COLLECTIONS[path]
            stored = {"apiVersion": version, "kind": kind, **(item or before or {})}
            stored["metadata"] = {**stored["metadata"], "resourceVersion": str(self._version)}
            if item is None:
                del known[key]
            else:
                known[key] = stored
            change = "DELETED" if item is None else "MODIFIED" if before else "ADDED"
            for watch in self._watches[path]:
                watch.put({"type": change, "object": stored})

    def list(self, path: str) -> Json:
        with self._lock:
            version, kind = COLLECTIONS[path]
            metadata = {"resourceVersion": str(self._version)}
            items = list(self._objects[path].values())
            return {"apiVersion": version, "kind": f"{kind}List", "metadata": metadata, "items": items}

    def watch(self, path: str, initial: bool) -> queue.SimpleQueue[Json | None]:
        """`initial`: what is there first, and then a bookmark that says so (sendInitialEvents)."""
        events: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        with self._lock:
            if initial:
                for item in self._objects[path].values():
                    events.put({"type": "ADDED", "object": item})
                version, kind = COLLECTIONS[path]
                metadata = {"resourceVersion": str(self._version), "annotations": INITIAL_END}
                end = {"apiVersion": version, "kind": kind, "metadata": metadata}
                events.put({"type": "BOOKMARK", "object": end})
            self._watches[path].add(events)
        return events

    def forget(self, path: str, events: queue.SimpleQueue[Json | None]) -> None:
        with self._lock:
            self._watches[path].discard(events)


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    objects: ObjectServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query = parse_qs(target.query)
        label = UNWANTED.get(target.path)
        assert label is None or f"!{label}" in query["labelSelector"], query
        if target.path not in COLLECTIONS:
            self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, 404)
        elif "watch" in query:
            self._stream(target.path, "sendInitialEvents" in query)
        else:
            self._answer(self.server.objects.list(target.path))

    def do_POST(self) -> None:
        """Events: taken and forgotten."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}, 201)

    def _answer(self, document: Json, code: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, path: str, initial: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        events = self.server.objects.watch(path, initial)
        with suppress(OSError):
            while (event := events.get()) is not None:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()
        self.server.objects.forget(path, events)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
