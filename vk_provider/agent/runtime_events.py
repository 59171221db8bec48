"""containerd's own event stream, reduced to what happens to containers: the agent's replacement of the kubelet's PLEG.

Source: containerd API services/events/v1; topics /tasks/*. It works on containerd 1.6 and 2.x alike, which
CRI's GetContainerEvents does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from vk_provider.agent.cri import api_grpc, events_grpc, events_pb2
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.connection import RuntimeConnection, RuntimeServiceError, translate_errors
from vk_provider.aiokit.backoff import Backoff

log = logging.getLogger(__name__)

_KINDS = ("create", "start", "exit", "oom", "delete")
_FILTERS = [f'namespace==k8s.io,topic=="/tasks/{kind}"' for kind in _KINDS]
_HEALTHY_S = 5.0
"""A subscription that lasted this long was not refused."""


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a container.

    kind: "create" "start" "exit" "oom" "delete" (of a container's own process, never of an exec);
          "sandbox-exit" when the process of a pod sandbox ended; "resync" after each (re)connect: events may have
          been missed, list again.
    CRI learns of an exit from the same stream, so its status may still say RUNNING for some milliseconds after
    "exit"; "delete" follows once CRI has handled the exit.
    """

    kind: str
    container_id: str
    exit_status: int | None = None


async def watch_events(connection: RuntimeConnection, sandbox_ids: set[str]) -> AsyncIterator[RuntimeEvent]:
    """Yield events forever; `sandbox_ids` (live) distinguishes sandboxes from containers."""
    backoff = Backoff(first_s=0.02, max_s=1.0)
    warned = False
    while True:
        started_s = time.monotonic()
        try:
            with translate_errors(connection.address):
                async with events_grpc.EventsStub(connection.channel).Subscribe.open() as stream:
                    await stream.send_message(events_pb2.SubscribeRequest(filters=_FILTERS), end=True)
                    # A round trip on the same connection: the subscription stands before the caller lists.
                    await api_grpc.RuntimeServiceStub(connection.channel).Version(pb.VersionRequest(), timeout=5.0)
                    yield RuntimeEvent("resync", "")
                    async for envelope in stream:
                        event = parse_event(envelope, sandbox_ids)
                        if event is not None:
                            yield event
        except RuntimeServiceError as error:
            if not warned:
                log.warning("container events: %s", error)
                warned = True
        if time.monotonic() - started_s > _HEALTHY_S:
            backoff.reset()
            warned = False
        await asyncio.sleep(backoff.next_delay_s())


def parse_event(envelope: events_pb2.Envelope, sandbox_ids: set[str]) -> RuntimeEvent | None:
    """Translate one envelope; None for events of exec processes."""
    kind = envelope.topic.rpartition("/")[2]
    data = envelope.event.value
    if kind == "exit":
        ended = events_pb2.TaskExit.FromString(data)
        if ended.id not in ("", ended.container_id):
            return None
        shown = "sandbox-exit" if ended.container_id in sandbox_ids else kind
        return RuntimeEvent(shown, ended.container_id, ended.exit_status)
    if kind == "delete":
        deleted = events_pb2.TaskDelete.FromString(data)
        if deleted.id not in ("", deleted.container_id):
            return None
        return RuntimeEvent(kind, deleted.container_id, deleted.exit_status)
    return RuntimeEvent(kind, events_pb2.TaskEvent.FromString(data).container_id)
