"""The WSGI application: control on /vk-test/, faults and the calls' record before moto's own.

EC2's calls are carried out one at a time: moto's state is not made for threads.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import msgspec

from tests.moto.ec2 import Ec2
from tests.moto.faults import Faults, Refusal
from tests.moto.plan import Plan, Rule

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class FaultyAws:
    """reset: forgets all that moto has."""

    def __init__(self, inner: Application, faults: Faults, ec2: Ec2, reset: Callable[[], None]) -> None:
        self._inner, self._faults, self._ec2, self._reset = inner, faults, ec2, reset
        self._lock = threading.RLock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path, came_at = environ.get("PATH_INFO", ""), time.time()
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if path.startswith("/vk-test/"):
            with self._lock:
                return self._control(path.removeprefix("/vk-test/"), body, start_response)
        if path.startswith("/moto-api/"):
            return self._inner(environ, start_response)
        api, is_json = _find_api(environ, body)
        with self._lock:
            self._faults.note(api, came_at)
            rule = self._faults.find_rule(api)
            refusal = self._refuse(api, rule)
        if refusal is None:
            answer = self._carry_out(environ, api)
            if rule is not None and rule.after:
                refusal = Refusal(rule.code, rule.message, rule.status, rule.retry_after_s)
        if rule is not None and rule.delay_s:
            time.sleep(rule.delay_s)
        if refusal is not None:
            answer = _build_error(refusal, is_json)
        status, headers, content = answer
        start_response(status, headers)
        return [content]

    def _refuse(self, api: str, rule: Rule | None) -> Refusal | None:
        if rule is not None and rule.code and not rule.after:
            return Refusal(rule.code, rule.message, rule.status, rule.retry_after_s)
        try:
            self._faults.take_request(api)
        except Refusal as refusal:
            return refusal
        return None

    def _carry_out(self, environ: Environ, api: str) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []
        if api == "ReceiveMessage":  # waits for messages
            content = b"".join(self._inner(environ, lambda *answer: started.append(answer)))
        else:
            with self._lock:
                self._ec2.states.advance()
                content = b"".join(self._inner(environ, lambda *answer: started.append(answer)))
        return started[0][0], started[0][1], content

    def _control(self, name: str, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        answer: Any = {}
        if name == "plan":
            self._faults.set(msgspec.json.decode(body, type=Plan))
        elif name == "reset":
            self._reset()
            self._faults.set(Plan())
            self._faults.calls.clear()
            self._faults.throttled.clear()
            self._faults.arrivals.clear()
        elif name == "calls":
            answer = {"calls": dict(self._faults.calls), "throttled": dict(self._faults.throttled)}
        elif name == "arrivals":
            answer = list(self._faults.arrivals)
        else:
            answer = self._ec2.control(name, json.loads(body or b"{}"))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def _find_api(environ: Environ, body: bytes) -> tuple[str, bool]:
    """(name of the call, whether its protocol is JSON)."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rpartition(".")[2], True
    return parse_qs(body.decode("utf-8", "replace")).get("Action", ["?"])[0], False


def _build_error(refusal: Refusal, is_json: bool) -> tuple[str, list[tuple[str, str]], bytes]:
    headers = [("Retry-After", f"{refusal.retry_after_s:g}")] if refusal.retry_after_s else []
    if is_json:
        headers.append(("Content-Type", "application/x-amz-json-1.0"))
        content = json.dumps({"__type": refusal.code, "message": refusal.message})
    else:
        headers.append(("Content-Type", "text/xml"))
        content = (
            '<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>'
            f"<Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
            "</Error></Errors><RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
        )
    return f"{refusal.status} Error", headers, content.encode()
