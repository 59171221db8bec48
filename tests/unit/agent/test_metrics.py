"""The agent's own metrics."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from vk_provider.agent.metrics import build_families
from vk_provider.agent.outbox import Outbox


class Session:
    opened, is_open = 3, True


class Tables:
    def counts(self) -> dict[tuple[str, ...], float]:
        return {("services", "applied"): 5, ("policy", "refused"): 0}


def test_what_an_agent_says_of_itself_is_read_by_prometheus() -> None:
    outbox = Outbox()
    families = build_families(outbox, cast(Any, Session()), cast(Any, Tables()))
    outbox.send_event("uid", "Normal", "Started", "Container started")
    read = {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families("".join(family.render() for family in families))
    }
    assert read["vk_agent_sessions"] == {("opened",): 3, ("open",): 1}
    assert read["vk_agent_events"] == {("waiting",): 1, ("dropped",): 0}
    assert read["vk_agent_tables"] == {("services", "applied"): 5, ("policy", "refused"): 0}
    assert read["vk_agent_cpu_seconds"][()] > 0 and read["vk_agent_start_time_seconds"][()] > 1e9
