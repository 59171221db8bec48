"""What is done to a pod: each verb with its arguments, and an answer that can be compared.

snap {}                                     compare the twins' statuses at this moment
exec {cmd, container, stdin, tty}           a command in a container: exit code, stdout, stderr (with a tty in stdout)
logs {container, previous, tailLines, ...}  the log with any options of PodLogOptions: status and body; with follow
                                            what comes within four seconds, and whether it has ended by then
attach {container, stdin, lines}            attach to a container, and what comes within two seconds
portforward {port, send}                    one connection to a port: what comes back
cp {container, path, content}               `kubectl cp` of a file into the pod; without content, out of it
patch {body, type, sub, kind, name}         of the pod (sub: status, resize, ephemeralcontainers) or another object
ephemeral {container}                       add an ephemeral container
resize {container, resources}               through the subresource resize
delete {grace}                              delete the pod
evict {grace}                               through the subresource eviction
create {object}, remove {kind, name}        of other objects
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from io import FileIO
from pathlib import Path

from tests.cluster.controlplane import ControlPlane
from tests.differential.api import STRATEGIC, Answer, Api
from tests.differential.case import Action
from vk_provider.jsontypes import Json

CHANGES = frozenset({"patch", "ephemeral", "resize", "delete", "evict", "create", "apply", "remove"})
"""Verbs that are one request to the API server; the others ask the node something, and may take long."""
EXEC_LIMIT_S = 15.0
ATTACH_S = 2.5
LINES_S = 8.0
"""How long an attach waits for the number of lines that it is asked for: a client alone may need seconds to connect."""
PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets", "Pod": "pods", "Service": "services"}
LOG_LIMIT = 4000
FOLLOW_S = 4.0
"""How long a log is followed."""


class Actor:
    """Acts on one pod."""

    def __init__(self, api: Api, plane: ControlPlane, namespace: str, pod: str) -> None:
        self._api = api
        self._plane = plane
        self._namespace = namespace
        self._pod = pod
        self._verbs: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "exec": self._exec,
            "logs": self._logs,
            "attach": self._attach,
            "portforward": self._forward,
            "port-forward": self._forward,
            "cp": self._copy,
            "patch": self._patch,
            "ephemeral": self._ephemeral,
            "resize": self._resize,
            "delete": self._delete,
            "evict": self._evict,
            "create": self._create,
            "apply": self._create,
            "remove": self._remove,
        }

    def knows(self, verb: str) -> bool:
        """Whether there is such a verb; `snap` is the caller's."""
        return verb in self._verbs

    async def perform(self, action: Action) -> Json:
        """The answer; an action that does not end within its time says so."""
        try:
            return await self._verbs[action.verb](dict(action.arguments))
        except TimeoutError:
            return {"error": "no end within the time limit"}

    def path(self, kind: str = "Pod", name: str = "", sub: str = "") -> str:
        """Of an object of the namespace."""
        plural = PLURALS.get(kind, f"{kind.lower()}s")
        tail = f"/{name or self._pod}" + (f"/{sub}" if sub else "")
        return f"/api/v1/namespaces/{self._namespace}/{plural}{tail}"

    # kubectl.

    async def _exec(self, given: Json) -> Json:
        words = ["exec", self._pod]
        words += ["-c", given["container"]] if given.get("container") else []
        stdin = given.get("stdin")
        words += ["-i"] if stdin is not None else []
        command = given.get("cmd") or given.get("command") or []
        if given.get("tty"):
            return await self._exec_with_terminal([*words, "-i", "-t", "--", *map(str, command)])
        return await self._kubectl([*words, "--", *map(str, command)], None if stdin is None else str(stdin))

    async def _kubectl(self, words: list[str], stdin: str | None = None) -> Json:
        done = await self._plane.kubectl_async(
            "-n", self._namespace, *words, check=False, stdin=stdin, timeout_s=EXEC_LIMIT_S
        )
        return {"code": done.returncode, "stdout": done.stdout[:LOG_LIMIT], "stderr": done.stderr[:LOG_LIMIT]}

    async def _exec_with_terminal(self, words: list[str]) -> Json:
        """As in a terminal of its own, without which kubectl asks for none."""
        ours, its = os.openpty()
        out = os.fdopen(ours, "rb", buffering=0)
        try:
            try:
                process = await self._start(words, its)
            finally:
                os.close(its)
            reading = asyncio.create_task(asyncio.to_thread(_read_terminal, out), name="terminal")
            try:
                async with asyncio.timeout(EXEC_LIMIT_S):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                said = await reading
            return {"code": process.returncode, "stdout": said.decode(errors="replace")}
        finally:
            out.close()

    async def _copy(self, given: Json) -> Json:
        with tempfile.TemporaryDirectory() as directory:
            if "content" not in given:
                return await self._copy_out(given, Path(directory, "file"))
            file = await asyncio.to_thread(_write, directory, str(given.get("content", "")))
            words = ["cp", file, f"{self._pod}:{given['path']}"]
            words += ["-c", given["container"]] if given.get("container") else []
            answer = await self._kubectl(words)
        return {
            key: value.replace(directory, "DIR") if isinstance(value, str) else value for key, value in answer.items()
        }

    async def _copy_out(self, given: Json, file: Path) -> Json:
        words = ["cp", f"{self._pod}:{given['path']}", str(file)]
        words += ["-c", given["container"]] if given.get("container") else []
        answer = await self._kubectl(words)
        content = await asyncio.to_thread(lambda: file.read_text() if file.is_file() else None)
        return {**answer, "content": content[:LOG_LIMIT] if content is not None else None}

    async def _attach(self, given: Json) -> Json:
        """Attach for a while; `lines`: only how many lines came at least, as their number depends on the moment."""
        words = ["attach", self._pod, "-q", *(["-c", given["container"]] if given.get("container") else [])]
        stdin = given.get("stdin")
        words += ["-i"] if stdin is not None else []
        process = await self._start(words)
        assert process.stdin is not None and process.stdout is not None
        if stdin is not None:
            process.stdin.write(str(stdin).encode())
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
        wanted = int(given.get("lines") or 0)
        first = await read_lines(process.stdout, wanted) if wanted else b""
        ended = True
        try:
            async with asyncio.timeout(0.1 if wanted else ATTACH_S):
                await process.wait()
        except TimeoutError:
            ended = False
            process.send_signal(signal.SIGKILL)
        rest, err = await process.communicate()
        out = first + rest
        answer: Json = {
            "stderr": err.decode()[:LOG_LIMIT],
            "ended": ended,
            "code": process.returncode if ended else None,
        }
        if wanted:
            return {**answer, "enough lines": len(out.splitlines()) >= wanted}
        return {**answer, "stdout": out.decode()[:LOG_LIMIT]}

    async def _start(self, words: list[str], terminal: int | None = None) -> asyncio.subprocess.Process:
        stream = asyncio.subprocess.PIPE if terminal is None else terminal
        return await asyncio.create_subprocess_exec(
            str(self._plane.binaries["kubectl"]),
            f"--kubeconfig={self._plane.kubeconfig}",
            f"--namespace={self._namespace}",
            *words,
            stdin=stream,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "HOME": str(self._plane.state.root)},
        )

    async def _forward(self, given: Json) -> Json:
        """One connection through `kubectl port-forward`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = await self._start(["port-forward", f"pod/{self._pod}", f"{port}:{given['port']}"])
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(EXEC_LIMIT_S):
                line = (await process.stdout.readline()).decode()
            body = await self._ask(port, str(given.get("send", ""))) if line.startswith("Forwarding") else ""
        finally:
            if process.returncode is None:
                process.terminate()
        _, err = await process.communicate()
        said = re.sub(r"0x[0-9a-f]+|\b\d{5}\b", "N", err.decode())
        return {"forwarding": line.startswith("Forwarding"), "body": _without_date(body), "stderr": said[:LOG_LIMIT]}

    async def _ask(self, port: int, text: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(text.encode())
            async with asyncio.timeout(5):
                return (await read_all(reader)).decode(errors="replace")
        except (TimeoutError, ConnectionError) as error:
            return type(error).__name__
        finally:
            writer.close()

    # The API.

    async def _logs(self, given: Json) -> Json:
        query = {key: str(value) for key, value in given.items()}
        if query.pop("follow", "").lower() == "true":
            query["follow"] = "true"
            answer, ended = await self._api.read_for(self.path(sub="log"), query, FOLLOW_S)
            text = answer.text if answer.ok else answer.message
            return {"status": answer.status, "body": text[:LOG_LIMIT], "ended": ended}
        answer = await self._api.call("GET", self.path(sub="log"), query=query)
        text = answer.text if answer.ok else answer.message
        return {"status": answer.status, "body": text[:LOG_LIMIT]}

    async def _patch(self, given: Json) -> Json:
        kind = given.get("kind") or "Pod"
        path = self.path(kind, given.get("name", ""), given.get("sub") or given.get("subresource") or "")
        return _said(await self._api.call("PATCH", path, given["body"], given.get("type") or STRATEGIC))

    async def _ephemeral(self, given: Json) -> Json:
        container = given.get("container") or given.get("body") or {}
        containers = container if isinstance(container, list) else [container]
        body = {"spec": {"ephemeralContainers": containers}}
        return _said(await self._api.call("PATCH", self.path(sub="ephemeralcontainers"), body, STRATEGIC))

    async def _resize(self, given: Json) -> Json:
        container = {"name": given.get("container", "main"), "resources": given.get("resources") or {}}
        body = given.get("body") or {"spec": {"containers": [container]}}
        return _said(await self._api.call("PATCH", self.path(sub="resize"), body, STRATEGIC))

    async def _delete(self, given: Json) -> Json:
        grace = next((given[key] for key in ("grace", "gracePeriodSeconds") if given.get(key) is not None), None)
        body = None if grace is None else {"gracePeriodSeconds": grace}
        return _said(await self._api.call("DELETE", self.path(), body))

    async def _evict(self, given: Json) -> Json:
        body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": self._pod}}
        if given.get("grace") is not None:
            body["deleteOptions"] = {"gracePeriodSeconds": given["grace"]}
        return _said(await self._api.call("POST", self.path(sub="eviction"), body))

    async def _create(self, given: Json) -> Json:
        manifest = given.get("object") or given.get("body") or {}
        path = self.path(manifest.get("kind", ""), "-").rpartition("/")[0]
        return _said(await self._api.call("POST", path, manifest))

    async def _remove(self, given: Json) -> Json:
        return _said(await self._api.call("DELETE", self.path(given["kind"], given["name"])))


async def read_all(stream: asyncio.StreamReader) -> bytes:
    """To its end, in however many pieces it comes, LOG_LIMIT bytes at most."""
    read = b""
    while len(read) < LOG_LIMIT and (piece := await stream.read(LOG_LIMIT - len(read))):
        read += piece
    return read


async def read_lines(stream: asyncio.StreamReader, number: int) -> bytes:
    """As many lines, fewer when the stream ends or none comes for too long."""
    lines = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINES_S):
            while lines.count(b"\n") < number and (line := await stream.readline()):
                lines += line
    return lines


def _read_terminal(out: FileIO) -> bytes:
    """All that is written to a terminal, until nobody has its other end any more (EIO on Linux)."""
    said = b""
    with contextlib.suppress(OSError):
        while piece := out.read(LOG_LIMIT):
            said += piece[: LOG_LIMIT - len(said)]
    return said


def _write(directory: str, content: str) -> str:
    file = Path(directory, "file")
    file.write_text(content)
    return str(file)


def _said(answer: Answer) -> Json:
    return {"status": answer.status} if answer.ok else {"status": answer.status, "message": answer.message}


def _without_date(text: str) -> str:
    return re.sub(r"(?m)^(Date|Last-Modified|ETag):.*$", r"\1: ...", text)
