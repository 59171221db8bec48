"""How the agent learns that the cloud takes the instance back, and whom it tells."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.booter.imds import Guest, SpotNotice
from tests.booter.imdsserver import MetadataServer
from tests.unit.booter.machines import guest
from tests.wire_check import assert_fits
from vk_provider.agent import interruption
from vk_provider.agent.interruption import InterruptionWatch, SpotAction
from vk_provider.agent.metadata import MetadataClient
from vk_provider.agent.metadata_guard import MetadataGuard, build_rules, find_own_cgroup
from vk_provider.agent.outbox import Outbox

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TIME = "2026-01-02T03:04:05Z"


@dataclass
class Sink:
    told: list[SpotAction] = field(default_factory=list)

    def send_notice(self, action: SpotAction) -> None:
        self.told.append(action)


@dataclass
class Service:
    url: str
    guest: Guest


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    listener = socket.create_server(("127.0.0.1", 0))
    made = Service(f"http://127.0.0.1:{listener.getsockname()[1]}", guest())
    server = MetadataServer(lambda _: made.guest)
    await server.serve(listener)
    yield made
    await server.close()


async def test_each_notice_is_told_once(service: Service):
    sink = Sink()
    async with MetadataClient(service.url) as source:
        watch = InterruptionWatch(source, lambda: True, sink)
        await watch.look()
        assert sink.told == []
        service.guest = replace(service.guest, spot_notice=SpotNotice("terminate", AT))
        await watch.look()
        await watch.look()
        assert sink.told == [SpotAction("terminate", TIME)]
        service.guest = replace(service.guest, spot_notice=SpotNotice("stop", AT))
        await watch.look()
        assert sink.told[1:] == [SpotAction("stop", TIME)]


@pytest.mark.parametrize(
    "document", ["", "[]", '{"action": "dance", "time": "2026-01-02T03:04:05Z"}', '{"action": "stop"}']
)
async def test_a_document_that_cannot_be_read_is_logged_once_and_not_told(
    document: str, caplog: pytest.LogCaptureFixture
):
    class Source:
        async def get(self, path: str) -> str:
            return document

    sink = Sink()
    watch = InterruptionWatch(Source(), lambda: True, sink)
    await watch.look()
    await watch.look()
    assert (sink.told, len(caplog.records)) == ([], 1)


async def test_a_closed_endpoint_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interruption, "POLL_S", 0.0)
    asked, answers = [], iter([False, False, True])

    class Source:
        async def get(self, path: str) -> str:
            asked.append(path)
            raise KeyError(path)

    watch = InterruptionWatch(Source(), lambda: next(answers), Sink())
    with pytest.raises(KeyError):
        await watch.run()
    assert asked == ["meta-data/spot/instance-action"] and next(answers, None) is None


async def test_the_outbox_tells_it_once_a_provider_wants_it_and_again_in_each_session():
    outbox = Outbox()
    outbox.start_session()
    outbox.send_notice(SpotAction("terminate", TIME))
    outbox.send_event("u", "Normal", "Pulled", "pulled")
    assert [message["type"] for message in await outbox.take()] == ["event"]
    outbox.tell_notices("u")
    (notice,) = await outbox.take()
    assert_fits(notice)
    assert notice == {"type": "notice", "podUID": "u", "action": "terminate", "time": TIME}
    outbox.tell_notices("u")
    outbox.start_session()
    assert [message["type"] for message in await outbox.take()] == ["notice", "event"]


def test_the_guard_lets_the_agents_own_service_through_and_nobody_else(tmp_path: Path):
    assert "cgroupv2" not in build_rules()
    rule = 'ip daddr 169.254.169.254 socket cgroupv2 level 2 "system.slice/vk-agent.service" accept'
    lines = [line.strip() for line in build_rules("system.slice/vk-agent.service").splitlines()]
    assert lines.count(rule) == 1
    assert lines[lines.index(rule) + 1] == "ip daddr 169.254.169.254 drop"


@pytest.mark.parametrize(
    ("membership", "found"),
    [
        ("0::/system.slice/vk-agent.service\n", "system.slice/vk-agent.service"),
        ("12:pids:/x\n0::/system.slice/vk-agent.service\n", "system.slice/vk-agent.service"),
        ("0::/\n", ""),
        ("0::/init\n", ""),
        ("0::/../x.service\n", "../x.service"),
        ('0::/a" accept; #.service\n', ""),
        ("12:pids:/system.slice/vk-agent.service\n", ""),
    ],
)
def test_the_agents_own_cgroup_is_that_of_its_service(tmp_path: Path, membership: str, found: str):
    assert find_own_cgroup(membership, tmp_path) == ""  # no unified hierarchy
    (tmp_path / "cgroup.controllers").touch()
    assert find_own_cgroup(membership, tmp_path) == ("" if ".." in found else found)


async def test_the_agent_is_admitted_by_its_cgroup_or_by_the_pods_annotation(tmp_path: Path):
    for own, allowed, admitted in (("", False, False), ("", True, True), ("a.service", False, True)):
        guard = MetadataGuard(tmp_path / "marker", own)
        guard.set_allowed(allowed)
        assert not guard.admits_agent  # the rule is not in force yet
        guard._applied.set()
        assert guard.admits_agent is admitted
