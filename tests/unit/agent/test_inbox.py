"""Where messages of the provider go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vk_provider.agent.inbox import Inbox
from vk_provider.agent.metadata_guard import ALLOW_METADATA_ANNOTATION, MetadataGuard


class Worker:
    """Takes every update as a pod worker would."""

    def __init__(self) -> None:
        self.pod: dict[str, Any] | None = None
        self.updates: list[Any] = []

    def update(self, message: Any) -> None:
        self.updates.append(message)
        if message["type"] == "pod":
            self.pod = message["pod"]


def pod_message(uid: str, **annotations: str) -> dict[str, Any]:
    return {
        "type": "pod",
        "pod": {"metadata": {"uid": uid, "annotations": annotations}},
        "references": {},
        "services": [],
        "node": {},
    }


@pytest.fixture
def worker() -> Worker:
    return Worker()


class Tables:
    """Takes texts as the keeper of the tables would."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.has_host_network = False

    def receive(self, message: Any) -> None:
        self.received.append(message)

    def set_host_network(self, is_used: bool) -> None:
        self.has_host_network = is_used


@pytest.fixture
def tables() -> Tables:
    return Tables()


class Notices:
    """Is told for which pod notices are wanted, as the outbox is."""

    def __init__(self) -> None:
        self.wanted_for = ""

    def tell_notices(self, pod_uid: str) -> None:
        self.wanted_for = pod_uid


@pytest.fixture
def notices() -> Notices:
    return Notices()


@pytest.fixture
def inbox(worker: Worker, tables: Tables, notices: Notices, tmp_path: Path) -> Inbox:
    return Inbox(worker, MetadataGuard(tmp_path / "metadata-allowed"), tables, notices)


def test_notices_are_told_to_a_provider_that_wants_them(inbox: Inbox, notices: Notices):
    inbox.receive(pod_message("u"))
    assert notices.wanted_for == ""
    inbox.receive({**pod_message("u"), "node": {"tellNotices": True}})
    assert notices.wanted_for == "u"


class Roles:
    """What answers containers that ask for their role."""

    def __init__(self) -> None:
        self.pods: list[tuple[str, bool]] = []
        self.answers: list[Any] = []

    def take_pod(self, pod: Any, is_on: bool) -> None:
        self.pods.append((pod["metadata"]["uid"], is_on))

    def receive(self, message: Any) -> None:
        self.answers.append(message["answers"])


def test_roles_are_answered_where_the_provider_says_so(
    worker: Worker, tables: Tables, notices: Notices, tmp_path: Path
) -> None:
    roles = Roles()
    inbox = Inbox(worker, MetadataGuard(tmp_path / "metadata-allowed"), tables, notices, None, roles)
    inbox.receive(pod_message("u"))
    inbox.receive({**pod_message("u"), "node": {"podIdentity": True}})
    inbox.receive({"type": "credentials", "answers": {"x": {}}})
    assert roles.pods == [("u", False), ("u", True)] and roles.answers == [{"x": {}}]


def test_pod_references_services_and_stop_reach_the_worker_unknown_types_do_not(inbox: Inbox, worker: Worker):
    assert inbox.pod_uid() == ""
    known = [{"type": "references", "references": {}}, {"type": "services", "services": []}, {"type": "stop"}]
    messages = [pod_message("u"), *known, {"type": "dance"}]
    for message in messages:
        inbox.receive(message)
    assert worker.updates == messages[:4]
    assert inbox.pod_uid() == "u"


def test_tables_reach_their_keeper_but_not_one_that_this_agent_does_not_know(inbox: Inbox, tables: Tables):
    known = {"type": "table", "name": "services", "base": "", "revision": "::1", "text": "add table inet vk-services\n"}
    for message in (known, {**known, "name": "routes"}, {**known, "text": 7}, {"type": "table"}):
        inbox.receive(message)
    assert tables.received == [known]


def test_the_keeper_of_the_tables_learns_of_a_hostnetwork_pod(inbox: Inbox, tables: Tables):
    inbox.receive(pod_message("u"))
    assert not tables.has_host_network
    message = pod_message("u")
    message["pod"]["spec"] = {"hostNetwork": True}
    inbox.receive(message)
    assert tables.has_host_network


def test_a_second_pod_is_refused(inbox: Inbox, worker: Worker):
    for uid in ("u", "v", "u"):
        inbox.receive(pod_message(uid))
    assert [message["pod"]["metadata"]["uid"] for message in worker.updates] == ["u", "u"]


def test_the_annotation_opens_the_metadata_endpoint_and_its_loss_closes_it(inbox: Inbox, tmp_path: Path):
    marker = tmp_path / "metadata-allowed"
    inbox.receive(pod_message("u", **{ALLOW_METADATA_ANNOTATION: "true"}))
    assert marker.exists()
    inbox.receive(pod_message("u", **{ALLOW_METADATA_ANNOTATION: "yes"}))
    assert not marker.exists()


def test_whoever_wants_to_know_of_the_pod_is_told_once(inbox: Inbox) -> None:
    told: list[str] = []
    inbox.on_new_pod = told.append
    for uid in ("one", "one", "two"):
        inbox.receive(pod_message(uid))
    assert told == ["one"]
