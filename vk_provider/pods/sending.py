"""Sends a pod to its agent: the whole desired state over the session; the agent compares."""

from __future__ import annotations

import time
from collections.abc import Callable

from vk_provider.agentclient.session import AgentSession, Slot
from vk_provider.instances.instance import OwnedInstance, Sent
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.pods.record import PodRecord
from vk_provider.pods.resolution import ReferenceResolver, references_for, unread_references
from vk_provider.pods.state import DEFAULT_GRACE_S, compute_fingerprint, is_stop_due
from vk_provider.wire.session import SERVICES_FEATURE

PENDING_AFTER_SENT_S = 1.0
"""A pod that was given to its agent just now says Pending no sooner."""
LAST_STATUS_S = 15.0
"""Of the time until an instance is taken back: what the pod's last status and logs need after its containers."""


class PodSender:
    """node_facts: what the agent is told about its Node (wire.session.NodeFacts)."""

    def __init__(self, resolver: ReferenceResolver, node_facts: Callable[[PodRecord], Json]) -> None:
        self._resolver = resolver
        self.node_facts = node_facts

    def read(self, record: PodRecord) -> None:
        """Begin to read the pod's references, unless that is under way."""
        self._resolver.start(record)

    def release(self, record: PodRecord) -> None:
        """Read and follow the pod's references no more."""
        self._resolver.release(record)

    def begin(self, owned: OwnedInstance) -> None:
        """A session has begun: its agent was sent nothing yet."""
        owned.sent = Sent()

    def send(self, record: PodRecord) -> None:
        """Send what has changed, and that the pod is to stop where its instance is taken back."""
        self._send_pod(record)
        if is_stop_due(record):
            self._send_interruption(record)

    def _send_interruption(self, record: PodRecord) -> None:
        """As a kubelet ends pods before its machine shuts down (pkg/kubelet/nodeshutdown, v1.37): Failed, with the
        condition DisruptionTarget. The pod's grace period, or what is left of it with time for the last status."""
        owned, session = record.owned, record.session
        if owned is None or owned.interruption is None or session is None:
            return
        left_s = owned.interruption.at - time.monotonic() - LAST_STATUS_S
        grace_s = record.pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
        session.put(
            Slot.STOP,
            {
                "type": "stop",
                "gracePeriodSeconds": max(1, min(int(left_s), grace_s)),
                "reason": "Terminated",
                "message": f"Pod was terminated in response to imminent node shutdown: {owned.interruption.message}",
                "disruption": True,
            },
        )
        owned.sent.stopped = True

    def _send_pod(self, record: PodRecord) -> None:
        """Send what has changed. Waits for the agent's greeting, which says what it can do, and for references that are
        being read, unless the pod is terminating."""
        owned = record.owned
        session = owned.link.session if owned is not None else None
        if owned is None or session is None or session.hello is None or owned.unmarked:
            return
        sent, fingerprint = owned.sent, compute_fingerprint(record)
        if sent.fingerprint == fingerprint and record.reading.task is None and not record.reading.references_changed:
            self._send_services(record, sent, session)
            return
        references = self._resolver.take(record)
        if references is None:
            if not (record.deleting or record.first.ended is not None) or sent.fingerprint == fingerprint:
                return
            references = sent.references or unread_references(record.pod)
        if sent.fingerprint != fingerprint:
            sent.services = self._resolver.services(record)
            message = {
                "type": "pod",
                "pod": _pod_of_agent(record),
                **references_for(session, references, sent.services),
                "node": self.node_facts(record),
            }
            owned.sent_uid = record.uid
            session.put(Slot.POD, message)
            # The agent answers in a moment: its own status makes a Pending one unnecessary.
            record.publication.postpone_pending(time.monotonic() + PENDING_AFTER_SENT_S)
        elif references != sent.references:
            kept = references_for(session, references, sent.services)["references"]
            session.put(Slot.REFERENCES, {"type": "references", "references": kept})
        sent.fingerprint, sent.references = fingerprint, references
        self._send_services(record, sent, session)

    def _send_services(self, record: PodRecord, sent: Sent, session: AgentSession) -> None:
        """Services that have changed since the pod was sent."""
        services = self._resolver.services(record) if record.reading.services_changed else sent.services
        if services is None or services == sent.services:
            return
        sent.services = services
        if session.has(SERVICES_FEATURE):
            session.put(Slot.SERVICES, {"type": "services", "services": services})
        else:
            kept = references_for(session, sent.references or {}, services)["references"]
            session.put(Slot.REFERENCES, {"type": "references", "references": kept})

    def stop(self, record: PodRecord) -> None:
        """Stop a pod whose API object is gone, with a grace period of 1 s as in a kubelet."""
        if record.session is not None:
            record.session.put(
                Slot.STOP,
                {"type": "stop", "gracePeriodSeconds": 1, "reason": "Killing", "message": "pod object is gone"},
            )


def _pod_of_agent(record: PodRecord) -> Json:
    """The API's pod as it is sent to its agent: a terminal phase, which would end it, only if it was there at first."""
    status: Json = {**(record.pod.get("status") or {}), "startTime": record.start_time}
    if record.first.ended is not None:
        status |= record.first.ended
    elif record.api_phase in TERMINAL_PHASES and record.phase != record.api_phase:
        status = {name: value for name, value in status.items() if name not in ("reason", "message")}
        status["phase"] = record.phase
    return {**record.pod, "status": status}
