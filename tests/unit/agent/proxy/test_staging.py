"""Whole tables in pieces."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.service_objects import NODE, make_endpoint, make_port, make_service, make_slice
from vk_provider.agent.proxy.staging import rename_table, split_whole
from vk_provider.netpolicy.nft import FRAME
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage, render_table


def make_text(services: int = 40) -> str:
    index = ServiceIndex(NODE)
    for number in range(1, services + 1):
        index.apply_service(
            make_service(
                f"s{number}", f"10.96.1.{number}", type="NodePort", ports=[make_port(80, node_port=30000 + number)]
            )
        )
        index.apply_slice(make_slice(f"s{number}", make_endpoint(f"10.1.0.{number}")))
    return render_table(index.table(), Vantage(pods=("10.1.64.1",), nodeport_addresses=("10.2.0.1",)))


def list_elements(text: str) -> Counter[tuple[str, str]]:
    found = re.findall(r"^add element inet \S+ (\S+) \{ (.*) \}$", text, re.MULTILINE)
    return Counter((container, element) for container, listed in found for element in listed.split(", "))


@pytest.mark.parametrize("limit", [1, 300, 100_000])
def test_the_stages_have_every_command_of_the_text_once(limit: int) -> None:
    text = make_text()
    stages = split_whole(text, limit)
    together = stages.skeleton + "".join(stages.pieces) + stages.hooks
    assert list_elements(together) == list_elements(text)
    others = [line for line in text.splitlines() if not line.startswith("add element")]
    assert Counter(line for line in together.splitlines() if not line.startswith("add element")) == Counter(others)
    assert len(stages.pieces) > (20 if limit < 1000 else 0)


@pytest.mark.parametrize("text", [make_text(), "\n".join(FRAME) + "\nadd element inet vk-policy revision { ::1 }\n"])
def test_no_packet_meets_the_table_and_it_has_no_revision_before_the_last_stage(text: str) -> None:
    stages = split_whole(text)
    before = stages.skeleton + "".join(stages.pieces)
    assert "hook" not in before and "add element" not in stages.skeleton
    assert "revision {" not in before.replace("add set inet", "").replace("revision { type", "")
    assert "hook" in stages.hooks and stages.hooks.rstrip().splitlines()[-1].endswith("}")
    # A rule of a base chain goes with its chain.
    hooked = re.findall(r"add chain inet \S+ (\S+) \{ type", stages.hooks)
    assert hooked and not any(f" {name} " in line for name in hooked for line in before.splitlines())


def test_a_piece_is_no_longer_than_it_may_be() -> None:
    stages = split_whole(make_text(200), 1000)
    assert max(map(len, stages.pieces)) < 1000 + 150


def test_the_commands_are_renamed_and_nothing_else() -> None:
    text = "add table inet vk-a\nadd chain inet vk-a x\nadd element inet vk-ab s { vk-a }\ndelete table inet vk-a\n"
    assert rename_table(text, "vk-a", "vk-a-2") == (
        "add table inet vk-a-2\nadd chain inet vk-a-2 x\nadd element inet vk-ab s { vk-a }\ndelete table inet vk-a-2\n"
    )
    assert rename_table(text, "vk-a", "vk-a") is text
