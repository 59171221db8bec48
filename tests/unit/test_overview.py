"""The page of a provider with pods, as a browser is sent it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from tests.unit.page.test_page import assert_is_safe
from tests.unit.pods.rig import World
from vk_provider.bills import Bills, StoreBill, build_ledger
from vk_provider.cloud.base import TAG_DISKS, TAG_GROUP, TAG_IMAGE_SET, TAG_NODE, TAG_POOL, InstanceState, Offering
from vk_provider.cloud.imagestores import KeptStore
from vk_provider.errors import CapacityError
from vk_provider.kubelet.endpoints.status_page import is_own_name
from vk_provider.kubelet.server import HealthServer
from vk_provider.ledger.ledger import Ledger
from vk_provider.ledger.question import CostQuestionError
from vk_provider.node_service import Nodes
from vk_provider.overview import FRESH_S, Overview, Subjects
from vk_provider.settings import LedgerSettings, Settings


@pytest.fixture
async def ledger(world: World, tmp_path: Path) -> AsyncIterator[Ledger]:
    settings = Settings(nodes=(), cloud=world.settings.cloud, ledger=LedgerSettings(file=str(tmp_path / "ledger")))
    made = build_ledger(world.room, settings, CollectorRegistry())
    await made.load()
    yield made
    await made.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def overview(world: World, ledger: Ledger) -> Overview:
    registry = world.room.metrics._registry
    return Overview(Subjects(world.room, ledger, world.controller, Nodes(), registry), world.settings.cloud)


async def test_the_facts_are_those_of_the_room_and_the_ledger(world: World, overview: Overview) -> None:
    await world.running()
    await world.running()
    offering = Offering("t", "z", "spot", "amd64", 1, 1, 1.0)
    world.room.shortages.mark(offering, CapacityError("none left"))
    world.room.shortages._offerings = [offering]
    facts = await overview.collect()
    assert facts.phases["Running"] == 2 and facts.stages == {"assigned": 2}
    assert sum(each.instances for each in facts.offerings) == 2
    (namespace,) = facts.namespaces
    assert (namespace.name, namespace.instances) == ("default", 2) and namespace.usd > 0
    assert facts.launches["ok"] == 2
    assert [(each.name, each.count) for each in facts.latencies] == [
        ("launch call", 2), ("agent's session", 2), ("Running", 2),
    ]  # fmt: skip
    assert [what for what, _ in facts.shortages] == ["type t, zone z, capacity spot"]
    assert facts.history is not None and "default" in facts.history.rates


async def test_a_page_is_made_once_for_all_who_ask_in_a_moment(world: World, overview: Overview) -> None:
    now = [1_800_000_000.0]
    overview._clock = lambda: now[0]
    first = await overview.render()
    await world.running()
    assert await overview.render() is first
    now[0] += FRESH_S
    second = await overview.render()
    assert second != first
    assert_is_safe(second.decode())


async def test_the_health_server_serves_it_to_nobody_who_was_led_here(overview: Overview) -> None:
    server = HealthServer("127.0.0.1", 0, lambda: True, overview)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert answer.status == 200 and answer.content_type == "text/html"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
            assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["Cache-Control"] == "no-store"
            assert_is_safe(await answer.text())
        async with session.get(url, headers={"Host": "evil.example:10248"}) as answer:
            assert answer.status == 421
        async with session.post(url) as answer:
            assert answer.status == 405
        async with session.get(url + "/healthz") as answer:
            assert await answer.text() == "ok"
    await server.stop()


async def test_without_a_page_there_is_none() -> None:
    server = HealthServer("127.0.0.1", 0, lambda: True)
    await server.start()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}/") as answer:
        assert answer.status == 404
    await server.stop()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.:80", True),
        ("127.0.0.1:10248", True),
        ("[::1]:10248", True),
        ("192.0.2.1", True),
        ("localhost.evil.example", False),
        ("", False),
        ("evil.example", False),
    ],
)
def test_hosts_of_our_own(host: str, expected: bool) -> None:
    assert is_own_name(host) is expected


async def test_instances_name_their_pod_their_price_and_who_says_so(world: World, ledger: Ledger) -> None:
    pod = await world.running()
    bills = Bills(world.room, ledger, world.controller.records, ("home", "node-1"))
    (row,) = bills.instances("node-1")
    assert (row["namespace"], row["pod"], row["stage"]) == ("default", pod["metadata"]["name"], "assigned")
    assert row["witness"] == "agent" and row["usdPerHour"] == pytest.approx(0.024)
    (owned,) = world.room.table.owned.values()
    owned.said_uid = None
    record = world.record(pod)
    assert record is not None and record.report.from_agent
    record.report.from_agent = False
    witnesses = []
    for address in (owned.described.primary_ip, "203.0.113.9"):
        record.pod = {**record.pod, "status": {**record.pod["status"], "hostIP": address}}
        witnesses.append(bills.instances("node-1")[0]["witness"])
    assert witnesses == ["status", "tags"]
    assert bills.instances("another") == []


async def test_a_spare_instance_names_its_pool_and_who_says_that_it_is_spare(world: World, ledger: Ledger) -> None:
    await world.running()
    bills = Bills(world.room, ledger, {}, ("home", "node-1"))
    (owned,) = world.room.table.owned.values()
    tags = {key: owned.described.tags[key] for key in (TAG_NODE, TAG_GROUP)}
    tags |= {TAG_POOL: "web", TAG_DISKS: "root=100 store=1 root-with-store=20 data=30"}
    spare = replace(owned.described, tags=tags)
    owned.described, owned.pod_uid, owned.said_uid = spare, "", ""
    (row,) = bills.instances("node-1")
    assert (row["pool"], row["pod"], row["stage"], row["witness"]) == ("web", "", "idle", "agent")
    assert (row["rootGiB"], row["dataGiB"], row["storeGiB"], row["diskUsdPerHour"]) == (100, 30, 0, 0.0)
    owned.described = replace(spare, state=InstanceState.STOPPED)
    (row,) = bills.instances("node-1")
    assert (row["state"], row["witness"], row["usdPerHour"]) == ("stopped", "listing", 0.0)
    world.room.table.owned.clear()
    world.room.table.listed = {spare.instance_id: replace(spare, tags={**tags, TAG_DISKS: "large"})}
    (row,) = bills.instances("node-1")
    assert (row["witness"], row["rootGiB"], row["diskUsdPerHour"]) == ("tags", None, None)


async def test_costs_come_from_the_ledger_or_from_the_tags_alone(world: World, ledger: Ledger) -> None:
    pod = world.pod()
    pod["metadata"]["labels"] = {"app": "web"}
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    bills = Bills(world.room, ledger, world.controller.records, ("home", "node-1"))
    for source in ("ledger", "tags"):
        report = await bills.cost("node-1", {"by": "label:app", "source": source})
        assert (report["source"], [row["key"] for row in report["rows"]]) == (source, [["web"]])
        assert report["total"]["seconds"] > 0
        assert (await bills.cost("another", {"source": source}))["rows"] == []
    with pytest.raises(CostQuestionError, match="is none of ledger, tags"):
        await bills.cost("node-1", {"source": "guess"})


async def test_what_prepared_images_cost_is_shown_once_by_the_home_node(world: World, ledger: Ledger) -> None:
    await world.running()
    room = world.room
    (owned,) = room.table.owned.values()
    builder = replace(owned.described, instance_id="i-builder", tags={TAG_IMAGE_SET: "set-1"})
    bills, costs = Bills(room, ledger, world.controller.records, ("node-1", "another")), StoreBill(room)
    costs.note_builder(builder)
    room.table.builders = {builder.instance_id: builder}
    costs.note_kept([KeptStore("snap-1", "set-1", ledger.meter.clock() - 3600, 0.5)])
    rows = {str(row["instance"]): row for row in bills.instances("node-1")}
    assert len(rows) == 3 and bills.instances("another") == []
    for name, kind, usd in (("i-builder", builder.instance_type, 0.024), ("snap-1", "snapshot", 0.5)):
        row = rows[name]
        assert (row["namespace"], row["pod"], row["type"]) == ("(prepared images)", "set-1", kind)
        assert row["usdPerHour"] == pytest.approx(usd)
    for source in ("ledger", "tags"):
        report = await bills.cost("node-1", {"source": source})
        by_key = {row["key"][0]: row for row in report["rows"]}
        assert by_key["(prepared images)"]["usd"] == pytest.approx(0.5, abs=0.01)
        assert by_key["(prepared images)"]["instances"] == (source == "ledger"), "no listing shows the builder"
        assert (await bills.cost("another", {"source": source}))["rows"] == []
    assert sum(room.meter.rates().values()) == pytest.approx(0.024 * 2 + 0.5)
    facts = await Overview(
        Subjects(room, ledger, world.controller, Nodes(), room.metrics._registry), world.settings.cloud
    ).collect()
    shown = {each.name: each for each in facts.namespaces}
    assert shown["(prepared images)"].usd == pytest.approx(0.524) and shown["(prepared images)"].instances == 1
    costs.note_ended("i-builder")
    costs.note_kept([])
    assert "(prepared images)" not in room.meter.namespaces()


async def test_a_builder_takes_no_room_that_pods_wait_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.room.waiting, "namespace_of", lambda uid: "shop")
    costs, held = StoreBill(world.room), world.room.launches.allotment.held
    assert costs.may_spend(1.0)
    held["uid-1"] = "budget.namespaces.shop.usd_per_hour"
    assert costs.may_spend(1.0), "a builder is no namespace's"
    held["uid-2"] = "budget.usd_per_hour"
    assert not costs.may_spend(1.0)
    held.clear()
    assert costs.may_spend(1.0)


async def test_what_is_of_a_node_that_is_gone_is_shown_by_the_first_one(world: World, ledger: Ledger) -> None:
    """It costs money, and no Node of its own answers for it."""
    await world.running()
    bills = Bills(world.room, ledger, world.controller.records, ("home", "other"))
    (row,) = bills.instances("home")
    assert row["namespace"] == "default" and bills.instances("other") == []
    for source in ("ledger", "tags"):
        assert (await bills.cost("home", {"by": "node", "source": source}))["rows"][0]["key"] == ["node-1"]
        assert (await bills.cost("home", {"source": source, "alone": "1"}))["rows"] == []
        assert (await bills.cost("other", {"source": source}))["rows"] == []
