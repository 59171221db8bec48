"""How the benchmark counts from a change to the word of each agent."""

from __future__ import annotations

from typing import cast

from tests.bench.tables import Staleness
from tests.unit.routing.objects import endpoints, service
from vk_provider.agentclient.tables import TableFlow
from vk_provider.routing.tables import ServiceTables
from vk_provider.serviceproxy.index import ServiceIndex


class Agent:
    """What Staleness looks at of a flow."""

    in_force = ""


async def test_an_agent_that_skips_revisions_has_confirmed_all_changes_before_and_each_one_once() -> None:
    index, source = ServiceIndex("n1"), ServiceTables(())
    for number in range(3):
        index.apply_service(service(number))
    await source.publish(index.table())
    first = source.revision
    staleness, agents = Staleness(source), [Agent(), Agent()]
    key = "/".join(service(1)["metadata"][name] for name in ("namespace", "name"))
    for last in range(1, 4):
        staleness.changed(key)
        index.apply_slice(endpoints(1, f"10.1.0.{last}"))
        await source.publish(index.table())
        agents[0].in_force = source.revision
        staleness.confirmed(cast(TableFlow, agents[0]))
    assert len(staleness.seconds) == 3
    agents[1].in_force = first
    staleness.confirmed(cast(TableFlow, agents[1]))  # as it was before the changes
    assert len(staleness.seconds) == 3
    agents[1].in_force = source.revision
    for _ in range(2):
        staleness.confirmed(cast(TableFlow, agents[1]))
    assert len(staleness.seconds) == 6
