"""Lifecycle hooks (postStart, preStop): exec, httpGet and sleep; tcpSocket is an invalid handler for a kubelet too.

Source: pkg/kubelet/lifecycle/handlers.go (v1.37).
"""

from __future__ import annotations

import asyncio

from vk_provider import eventreasons
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.worker.http.get import HttpClient, HttpGetError
from vk_provider.agent.worker.http.request import build_headers, build_url
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.spec import describe_pod
from vk_provider.errors import AgentError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.fieldref import quote

_MAX_OUTPUT_BYTES = 1024
"""Of what a hook wrote: it becomes part of the pod's status."""


class HookError(AgentError):
    """A hook failed; str() is what the container's status shows."""


class HookRunner:
    """Runs hooks; no time limit of its own, the caller's grace period is the limit."""

    def __init__(self, runtime: ContainerRuntime, http: HttpClient, recorder: Recorder) -> None:
        self._runtime = runtime
        self._http = http
        self._recorder = recorder

    async def run(self, pod: Json, container: Json, handler: Json, container_id: str, pod_ip: str) -> None:
        """Raises HookError."""
        where = f'for Container "{container["name"]}" in Pod "{describe_pod(pod)}"'
        if handler.get("exec"):
            await self._exec(handler["exec"].get("command") or [], container_id, where)
        elif handler.get("httpGet"):
            await self._http_get(handler["httpGet"], container, pod_ip, where)
        elif handler.get("sleep"):
            await asyncio.sleep(float(handler["sleep"].get("seconds") or 0))
        else:
            raise HookError(f"Cannot run handler: invalid handler: {sorted(handler)}")

    async def _exec(self, command: list[str], container_id: str, where: str) -> None:
        prefix = f"Exec lifecycle hook ([{' '.join(command)}]) {where} failed"
        try:
            result = await self._runtime.exec_sync(container_id, command, 0)
        except RuntimeServiceError as error:
            raise HookError(f'{prefix} - error: {error.status_text}, message: ""') from error
        if result.exit_code != 0:
            output = (result.stdout + result.stderr)[:_MAX_OUTPUT_BYTES].decode(errors="replace")
            stderr = result.stderr[:_MAX_OUTPUT_BYTES].decode(errors="replace")
            raise HookError(
                f"{prefix} - error: command '{' '.join(command)}' exited with {result.exit_code}: {stderr}, "
                f"message: {quote(output)}"
            )

    async def _http_get(self, action: Json, container: Json, pod_ip: str, where: str) -> None:
        """The answer's status does not count, only that there is one."""
        prefix = f"HTTP lifecycle hook ({action.get('path', '')}) {where} failed - error"
        try:
            url = build_url(action, container, pod_ip)
        except ValueError as error:
            raise HookError(f"{prefix}: {error}") from error
        headers = build_headers(action, "lifecycle")
        try:
            await self._http.get(url, headers, None)
        except HttpGetError as error:
            if not error.plain_http:
                raise HookError(f"{prefix}: {error}") from error
            headers.pop("Authorization", None)
            try:
                await self._http.get(url.with_scheme("http"), headers, None)
            except HttpGetError:
                raise HookError(f"{prefix}: {error}") from error
            self._recorder.warn(
                eventreasons.LIFECYCLE_HTTP_FALLBACK,
                f"request to HTTPS lifecycle hook {url.host}:{url.port} got HTTP response, retry with HTTP succeeded",
            )
