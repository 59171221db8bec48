"""Runs one probe once: exec, httpGet, tcpSocket, grpc."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.worker.http.get import HttpClient, HttpGetError
from vk_provider.agent.worker.http.request import OpaqueUrlError, build_headers, build_url, resolve_port
from vk_provider.agent.worker.http.words import describe_dial_error, format_timeout
from vk_provider.jsontypes import Json
from vk_provider.podmodel.expansion import expand
from vk_provider.podmodel.fieldref import quote

_MAX_OUTPUT_BYTES = 10 * 1024
_MAX_ERROR_TRIES = 3

Verdict = Literal["success", "warning", "failure", "error"]


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The running container that is probed. pod_ip: where its ports are; pod: how a kubelet's messages name it."""

    container: Json
    container_id: str
    pod_ip: str
    pod: str = ""


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """verdict "error": the probe itself could not be run, its result does not count; a kubelet's event then names
    error_state, "failure" once an answer had begun, else "unknown"."""

    verdict: Verdict
    output: str = ""
    error_state: Literal["unknown", "failure"] = "unknown"


class Prober:
    """Runs probes with the kubelet's rules for what counts as success."""

    def __init__(self, runtime: ContainerRuntime, http: HttpClient) -> None:
        self._runtime = runtime
        self._http = http

    async def probe(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        """Run once; an error is tried again at once, three times in all."""
        outcome = ProbeOutcome("error")
        for _ in range(_MAX_ERROR_TRIES):
            outcome = await self._probe_once(probe, target)
            if outcome.verdict != "error":
                break
        return outcome

    async def _probe_once(self, probe: Json, target: ProbeTarget) -> ProbeOutcome:
        timeout_s = float(probe.get("timeoutSeconds") or 1)
        if probe.get("exec"):
            return await self._exec(probe["exec"], target, timeout_s)
        if probe.get("httpGet"):
            return await self._http_get(probe["httpGet"], target, timeout_s)
        if probe.get("tcpSocket"):
            return await _tcp_connect(probe["tcpSocket"], target, timeout_s)
        if probe.get("grpc"):
            from vk_provider.agent.worker.probes.grpc import check_health

            action = probe["grpc"]
            healthy, output = await check_health(
                target.pod_ip, int(action["port"]), action.get("service") or "", timeout_s
            )
            return ProbeOutcome("success" if healthy else "failure", output)
        return ProbeOutcome("error", f"missing probe handler for {target.pod}:{target.container['name']}")

    async def _exec(self, action: Json, target: ProbeTarget, timeout_s: float) -> ProbeOutcome:
        command = _expand_static(action.get("command") or [], target.container)
        try:
            result = await self._runtime.exec_sync(target.container_id, command, timeout_s)
        except RuntimeServiceError as error:
            if error.code == "DEADLINE_EXCEEDED":
                text = f"command timed out: {quote(' '.join(command))} timed out after {format_timeout(timeout_s)}"
                return ProbeOutcome("failure", text)
            return ProbeOutcome("error", error.status_text)
        output = (result.stdout + result.stderr)[:_MAX_OUTPUT_BYTES].decode(errors="replace")
        return ProbeOutcome("success" if result.exit_code == 0 else "failure", output)

    async def _http_get(self, action: Json, target: ProbeTarget, timeout_s: float) -> ProbeOutcome:
        try:
            url = build_url(action, target.container, target.pod_ip)
        except OpaqueUrlError as error:
            return ProbeOutcome("failure", f'Get "{error}": http: no Host in request URL')
        except ValueError as error:
            return ProbeOutcome("error", str(error))
        try:
            reply = await self._http.get(url, build_headers(action, "probe"), timeout_s)
        except HttpGetError as error:
            return ProbeOutcome("failure", str(error))
        if reply.body_error:
            return ProbeOutcome("error", reply.body_error, "failure")
        if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
            return ProbeOutcome("warning", f"Probe terminated redirects, Response body: {reply.body}")
        if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
            return ProbeOutcome("success", reply.body)
        return ProbeOutcome("failure", f"HTTP probe failed with statuscode: {reply.status}")


async def _tcp_connect(action: Json, target: ProbeTarget, timeout_s: float) -> ProbeOutcome:
    try:
        port = resolve_port(action["port"], target.container)
    except ValueError as error:
        return ProbeOutcome("error", str(error))
    host = action.get("host") or target.pod_ip
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # a TimeoutError is one
        return ProbeOutcome("failure", describe_dial_error(host, port, error))
    except UnicodeError:  # not a name that could be looked up
        return ProbeOutcome("failure", f"dial tcp: lookup {host}: no such host")
    writer.transport.abort()
    return ProbeOutcome("success")


def _expand_static(command: list[str], container: Json) -> list[str]:
    """Variables by their plain value alone: one that has its value from elsewhere is empty."""
    static = {entry["name"]: entry.get("value") or "" for entry in container.get("env") or []}
    return [expand(word, static) for word in command]
