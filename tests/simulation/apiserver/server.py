"""Answers requests and feeds watches, at once: latency and faults are the network's (`network`)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

from tests.simulation.apiserver.rules import refuse
from tests.simulation.apiserver.store import KINDS, Change, Selector, Store
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import RequestInfo, parse_request
from vk_provider.rfc3339 import format_time

BOOKMARK_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Watch:
    """One open watch; `send(line)` takes each event, None the end of the stream."""

    resource: str
    selector: Selector
    send: Callable[[bytes | None], None]


Admission = Callable[[RequestInfo, Json], KubeApiError | None]
"""A webhook: (request, its body) -> the refusal, None for a request that passes."""


class ApiServer:
    """`admission`: webhooks, asked before every write. `observers`: told of every change of an object."""

    def __init__(self, rng: random.Random) -> None:
        self.store = Store(rng, self._on_change)
        self.admission: list[Admission] = []
        self.observers: list[Callable[[str, Change], None]] = []
        self._watches: list[Watch] = []
        self._pages: dict[str, tuple[int, list[Json]]] = {}
        self._requests = 0

    # --- requests ----------------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, query: Mapping[str, str], content_type: str, data: bytes | None) -> Answer:
        info = parse_request(method, path, query)
        try:
            body = orjson.loads(data) if data else None
            status, document = self._dispatch(info, query, content_type, body)
            return Answer(status, orjson.dumps(document))
        except KubeApiError as error:
            return error_answer(error)

    def _dispatch(
        self, info: RequestInfo, query: Mapping[str, str], content_type: str, body: Json | None
    ) -> tuple[int, Json]:
        if info.resource == "/version":
            return HTTPStatus.OK, {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
        if info.resource not in KINDS:
            raise refuse(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")
        if info.verb == "list":
            return HTTPStatus.OK, self._list(info, query)
        if info.verb == "get":
            return HTTPStatus.OK, self.store.get(info.resource, info.namespace, info.name)
        for webhook in list(self.admission):
            refusal = webhook(info, body or {})
            if refusal is not None:
                raise refusal
        return self._write(info, content_type, body or {})

    def _write(self, info: RequestInfo, content_type: str, body: Json) -> tuple[int, Json]:
        store, where = self.store, (info.resource, info.namespace, info.name)
        match info.verb:
            case "create" if info.subresource == "token":
                return HTTPStatus.CREATED, _token(body)
            case "create":
                return HTTPStatus.CREATED, store.create(info.resource, info.namespace, body)
            case "update":
                return HTTPStatus.OK, store.update(*where, body, info.subresource)
            case "patch":
                return HTTPStatus.OK, store.patch(*where, body, content_type, info.subresource)
            case "delete":
                return HTTPStatus.OK, store.delete(*where, body)
        raise refuse(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", f"{info.verb} is not modelled")

    def _list(self, info: RequestInfo, query: Mapping[str, str]) -> Json:
        kind = KINDS[info.resource]
        token, limit = query.get("continue", ""), int(query.get("limit") or 0)
        if token:
            if token not in self._pages:
                raise refuse(HTTPStatus.GONE, "Expired", "The provided continue parameter is too old")
            version, items = self._pages.pop(token)
        else:
            version = self.store.version
            items = self.store.items(info.resource, Selector(info.namespace, query.get("fieldSelector", "")))
        metadata: Json = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            self._requests += 1
            metadata["continue"] = f"page-{self._requests}"
            self._pages[metadata["continue"]] = version, items[limit:]
            items = items[:limit]
        bare = [{name: value for name, value in item.items() if name not in ("kind", "apiVersion")} for item in items]
        return {"kind": f"{kind.name}List", "apiVersion": kind.api, "metadata": metadata, "items": bare}

    def compact(self) -> None:
        self._pages.clear()
        self.store.compact()

    # --- watches -----------------------------------------------------------------------------------------------------

    def open_watch(self, path: str, query: Mapping[str, str], send: Callable[[bytes | None], None]) -> Watch | Answer:
        """The watch, which got what has happened since its version; or why it was refused."""
        info = parse_request("GET", path, query)
        if info.resource not in KINDS:
            return error_answer(refuse(HTTPStatus.NOT_FOUND, "NotFound", "no such resource"))
        watch = Watch(info.resource, Selector(info.namespace, query.get("fieldSelector", "")), send)
        try:
            for change in self.store.since(info.resource, int(query.get("resourceVersion") or 0)):
                _feed(watch, change)
        except KubeApiError as error:
            send(_line("ERROR", _status(error)))
            send(None)
            return watch
        self._watches.append(watch)
        return watch

    def close_watch(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def bookmark(self, watch: Watch) -> None:
        kind = KINDS[watch.resource]
        metadata = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
        watch.send(_line("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api, "metadata": metadata}))

    def _on_change(self, resource: str, change: Change) -> None:
        for observe in self.observers:
            observe(resource, change)
        for watch in list(self._watches):
            if watch.resource == resource:
                _feed(watch, change)


def _feed(watch: Watch, change: Change) -> None:
    was, fits = watch.selector.matches(change.old), watch.selector.matches(change.new)
    if fits and change.new is not None:
        watch.send(_line("MODIFIED" if was else "ADDED", change.new))
    elif was and change.old is not None:
        metadata = {**change.old["metadata"], "resourceVersion": str(change.version)}
        watch.send(_line("DELETED", {**change.old, "metadata": metadata}))


def _line(kind: str, item: Json) -> bytes:
    return orjson.dumps({"type": kind, "object": item}) + b"\n"


def _status(error: KubeApiError) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        "reason": error.reason,
        "code": error.status,
    }


def error_answer(error: KubeApiError, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(error.status, orjson.dumps(_status(error)), headers or {})


def _token(body: Json) -> Json:
    seconds = int(body["spec"].get("expirationSeconds") or 3600)
    status = {"token": "a.bound.token", "expirationTimestamp": format_time(time.time() + seconds)}
    return {**body, "status": status}
