"""Errors of the runtime in the kubelet's words, and containerd's events in ours."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from h2.exceptions import StreamClosedError

from vk_provider.agent.cri import events_pb2
from vk_provider.agent.cri.connection import RuntimeServiceError, translate_errors
from vk_provider.agent.images import classify_pull_errors
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.runtime_events import RuntimeEvent, parse_event


def envelope(topic: str, message: Message) -> events_pb2.Envelope:
    return events_pb2.Envelope(
        namespace="k8s.io", topic=topic, event=AnyMessage(type_url="x", value=message.SerializeToString())
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("NOT_FOUND", "rpc error: code = NotFound desc = no such image"),
        ("CANCELLED", "rpc error: code = Canceled desc = no such image"),
        ("DEADLINE_EXCEEDED", "rpc error: code = DeadlineExceeded desc = no such image"),
    ],
)
def test_status_text_is_worded_as_go_does(code: str, text: str):
    assert RuntimeServiceError(code, "no such image").status_text == text


async def test_a_runtime_that_is_killed_while_we_connect_does_not_answer(tmp_path: Path):
    """Its socket took the connection, and nobody ever reads it: the first write finds that out."""
    for ask in (ContainerRuntime.version, lambda runtime: anext(runtime.events())):
        path = tmp_path / "socket"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        runtime = ContainerRuntime(str(path))
        task = asyncio.ensure_future(ask(runtime))
        await asyncio.sleep(0)
        listener.close()
        await asyncio.wait({task}, timeout=0.1)
        if task.done():
            assert isinstance(error := task.exception(), RuntimeServiceError)
            assert error.code == "UNAVAILABLE"
        else:
            task.cancel()  # The events go on trying.
            await asyncio.wait({task})
        await runtime.close()


@pytest.mark.parametrize("error", [StreamClosedError(1), ConnectionResetError(), AttributeError(name="_transport")])
def test_what_is_below_the_client_does_not_show(error: Exception):
    with pytest.raises(RuntimeServiceError) as found, translate_errors("socket"):
        raise error
    assert found.value.code == "UNAVAILABLE"


def test_a_mistake_of_ours_is_not_the_runtimes():
    with pytest.raises(AttributeError), translate_errors("socket"):
        raise AttributeError(name="typo")


def test_a_failed_pull_keeps_the_code_unless_it_is_unknown():
    not_found = RuntimeServiceError("NOT_FOUND", "failed to resolve")
    assert str(classify_pull_errors("i:1", [not_found])) == "rpc error: code = NotFound desc = failed to resolve"
    unknown = RuntimeServiceError("UNKNOWN", "connection refused")
    assert str(classify_pull_errors("i:1", [unknown])) == "connection refused"
    assert classify_pull_errors("i:1", [unknown]).reason == "ErrImagePull"


def test_errors_of_several_credentials_are_listed_once_each():
    errors = [RuntimeServiceError("UNKNOWN", text) for text in ("first", "second", "first")]
    assert str(classify_pull_errors("i:1", errors)) == "[first, second]"


def test_special_reasons_are_told_by_the_beginning_of_the_message():
    unavailable = classify_pull_errors("i:1", [RuntimeServiceError("UNKNOWN", "RegistryUnavailable: HTTP 503")])
    assert unavailable.reason == "RegistryUnavailable"
    assert str(unavailable) == "image pull failed for i:1 because the registry is unavailable: HTTP 503"
    unsigned = classify_pull_errors("i:1", [RuntimeServiceError("UNKNOWN", "SignatureValidationFailed: no key")])
    assert unsigned.reason == "SignatureValidationFailed"
    assert str(unsigned) == "image pull failed for i:1 because the signature validation failed: no key"


def test_exits_tell_containers_sandboxes_and_execs_apart():
    def exit_of(container_id: str, process_id: str) -> RuntimeEvent | None:
        message = events_pb2.TaskExit(container_id=container_id, id=process_id, exit_status=7)
        return parse_event(envelope("/tasks/exit", message), {"sandbox"})

    assert exit_of("c", "c") == RuntimeEvent("exit", "c", 7)
    assert exit_of("sandbox", "sandbox") == RuntimeEvent("sandbox-exit", "sandbox", 7)
    assert exit_of("c", "exec-1") is None


def test_other_events_carry_the_container():
    message = events_pb2.TaskEvent(container_id="c")
    assert parse_event(envelope("/tasks/oom", message), set()) == RuntimeEvent("oom", "c")
    assert parse_event(envelope("/tasks/start", message), set()) == RuntimeEvent("start", "c")
    deleted = events_pb2.TaskDelete(container_id="c", exit_status=1, id="exec-1")
    assert parse_event(envelope("/tasks/delete", deleted), set()) is None
    deleted = events_pb2.TaskDelete(container_id="c", exit_status=1)
    assert parse_event(envelope("/tasks/delete", deleted), set()) == RuntimeEvent("delete", "c", 1)


async def test_a_runtime_that_has_no_socket_yet_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runtime = ContainerRuntime(str(tmp_path / "containerd.sock"))
    calls: list[object] = []

    async def call(*arguments: object) -> object:
        calls.append(arguments)
        raise RuntimeServiceError("UNAVAILABLE", "not yet")

    monkeypatch.setattr(runtime, "_call", call)
    with pytest.raises(RuntimeServiceError, match="no such socket yet"):
        await runtime.wait_ready(0.1)
    assert calls == []
    (tmp_path / "containerd.sock").touch()
    with pytest.raises(RuntimeServiceError, match="not yet"):
        await runtime.wait_ready(0.1)
    assert calls
    await runtime.close()
