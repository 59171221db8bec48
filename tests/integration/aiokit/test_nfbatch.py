"""Transactions without nft, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from vk_provider.agent.proxy.elements import list_messages
from vk_provider.agent.proxy.ruleset import NFTABLES
from vk_provider.aiokit import nfbatch
from vk_provider.aiokit.netlink import Message
from vk_provider.aiokit.nfbatch import BatchSocket, may_be_large
from vk_provider.aiokit.nft import NftTable
from vk_provider.serviceproxy.fragment import Element
from vk_provider.serviceproxy.packed import pack_elements
from vk_provider.wire.packed import encode_packed

SETS = "add table inet vk-test\nadd set inet vk-test ports { type inet_service ; }\n"
OTHER = "add set inet vk-test others { type inet_service ; }\n"


def make_messages(*elements: tuple[str, int]) -> list[Message]:
    bodies, left = pack_elements(SETS + OTHER, [Element(name, str(port)) for name, port in elements])
    assert not left
    return list_messages(encode_packed(bodies), "vk-test")


async def test_a_refused_transaction_changes_nothing(enter: ThreadPoolExecutor, namespace: tuple[str, ...]) -> None:
    asyncio.get_running_loop().set_default_executor(enter)
    table = NftTable("vk-test", namespace)
    await table.apply(SETS)

    def try_both() -> None:
        with BatchSocket(NFTABLES) as batches:
            with pytest.raises(FileNotFoundError):
                batches.commit(make_messages(("ports", 80), ("others", 81)))  # there is no such set
            with pytest.raises(FileNotFoundError):
                batches.commit(make_messages(("others", 81), ("ports", 80)))
            batches.commit(make_messages(("ports", 90), ("ports", 91)))

    await asyncio.to_thread(try_both)
    listed = await table._run(("list", "table", "inet", "vk-test"), None, 10.0)
    assert "elements = { 90, 91 }" in " ".join(listed.split())


async def test_messages_are_grouped_by_what_the_socket_holds(
    enter: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfbatch, "MAX_BATCH_BYTES", 8 << 10)
    asyncio.get_running_loop().set_default_executor(enter)
    messages = [Message(0, 0, 0, bytes(3000)), *[Message(0, 0, 0, bytes(1000))] * 9, Message(0, 0, 0, bytes(50_000))]

    def group() -> list[list[Message]]:
        with BatchSocket(NFTABLES) as batches:
            assert batches.capacity <= 8 << 10
            return list(batches.group(messages))

    groups = await asyncio.to_thread(group)
    assert [message for each in groups for message in each] == messages
    assert [len(each) for each in groups] == [5, 5, 1]
    assert await asyncio.to_thread(may_be_large)  # of the machine's own root
