"""Scenarios for a keeper in a user and a network namespace of its own: `python -m ... SCENARIO FORM DIRECTORY`, run as
root.

nft cannot enlarge its socket's send buffer there, as in the instances of the local cloud. A scenario fails by an
AssertionError.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.integration.kube.waiting import until
from tests.integration.proxy.kept import FACTS, Compiled
from tests.service_objects import make_endpoint, make_service, make_slice
from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.aiokit.nft import NftError, NftTable
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.nft import FRAME
from vk_provider.wire.tables import TableMessage, TablesMessage

SERVICES = 1_300
LIMIT_S = 30.0


def make_objects() -> list[Json]:
    numbers = range(1, SERVICES + 1)
    services = [make_service(f"s{n}", f"10.96.{n >> 8}.{n & 255}") for n in numbers]
    return services + [
        make_slice(f"s{n}", *(make_endpoint(f"10.{net}.{n >> 8}.{n & 255}") for net in (1, 2))) for n in numbers
    ]


class Agent:
    """A keeper; `restart` as after a crash."""

    def __init__(self, directory: Path, *, packed: bool) -> None:
        self._directory, self._packed = directory, packed
        self.compiled = Compiled()
        self.told: list[TablesMessage] = []
        self.start()

    def start(self) -> None:
        self.keeper = TableKeeper(FACTS, self._directory, self.told.append)
        self._task = asyncio.create_task(self.keeper.run(), name="tables")

    async def restart(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        self.start()

    async def apply(self, message: TableMessage) -> None:
        before = len(self.told)
        self.keeper.receive(message)
        await until(lambda: len(self.told) > before, timeout_s=LIMIT_S)
        assert "error" not in self.told[-1], self.told[-1]
        assert self.keeper.states()[message["name"]] == message["revision"]

    def whole(self, *objects: Json) -> TableMessage:
        """The message that this agent is sent."""
        return (self.compiled.packed if self._packed else self.compiled.whole)(*objects)

    @property
    def table(self) -> str:
        return self.keeper.in_force("services").name


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def list_tables() -> list[str]:
    return [line.split()[-1] for line in run("nft", "list", "tables").splitlines()]


def list_table(name: str) -> str:
    return run("nft", "-s", "list", "table", "inet", name).replace(f"table inet {name} ", "table inet T ")


async def in_force(agent: Agent) -> None:
    """The kernel refuses the text as one transaction; the keeper puts all of it in force."""
    whole = agent.compiled.whole(*make_objects())
    try:
        await NftTable("vk-services").apply(whole["text"])
        raise AssertionError("the kernel takes such a transaction here: this shows nothing")
    except NftError as error:
        assert "Message too long" in str(error)
    await agent.apply(agent.whole())
    assert list_tables() == [agent.table]
    listed = list_table(agent.table)
    assert listed.count(" . tcp . 80 : goto cluster4-2") == SERVICES
    assert "hook prerouting" in listed and FACTS.pod_ip in listed


async def followed(agent: Agent) -> None:
    """Differences follow; the next whole text makes the same table as the differences did, and leaves no other."""
    await agent.apply(agent.whole(*make_objects()))
    await agent.apply(agent.compiled.change(make_slice("s7", make_endpoint("10.1.200.1"))))
    await agent.apply(agent.compiled.change(make_slice("s8")))
    first, listed = agent.table, list_table(agent.table)
    assert "10.1.200.1" in listed
    await agent.apply(agent.whole())
    assert agent.table != first and list_tables() == [agent.table]
    assert sorted(list_table(agent.table).split()) == sorted(listed.split())
    await agent.apply(agent.compiled.change(make_slice("s7", make_endpoint("10.1.200.2"))))
    assert "10.1.200.2" in list_table(agent.table)


async def kept(agent: Agent) -> None:
    """The next agent knows it, and mends it with the differences that came after."""
    await agent.apply(agent.whole(*make_objects()))
    await agent.apply(agent.compiled.change(make_slice("s7", make_endpoint("10.1.200.1"))))
    listed, revision = list_table(agent.table), agent.compiled.table.revision
    await agent.restart()
    assert agent.keeper.states()["services"] == revision and not agent.keeper.missing(["services"])
    run("nft", "flush", "map", "inet", agent.table, "service-ips4")
    # The kernel announces each element: more than the keeper can hear, which then knows of a change, but not of what.
    counts = agent.keeper.counts
    await until(lambda: counts().get(("services", "mended")) or counts().get(("services", "reapplied")), "", LIMIT_S)
    assert agent.keeper.states()["services"] == revision and list_tables() == [agent.table]
    assert sorted(list_table(agent.table).split()) == sorted(listed.split())


async def refused(agent: Agent) -> None:
    """A text whose last commands nft refuses changes nothing, and leaves nothing."""
    await agent.apply(agent.whole(*make_objects()))
    before, listed = agent.table, list_table(agent.table)
    whole = agent.whole(make_slice("s7", make_endpoint("10.1.200.1")))
    wrong = whole["text"] + "add rule inet vk-services nat-prerouting jump nowhere\n"
    agent.keeper.receive({**whole, "text": wrong})
    await until(lambda: "error" in agent.told[-1], timeout_s=LIMIT_S)
    assert "nft: " in agent.told[-1]["error"]
    assert agent.table == before and list_tables() == [before] and list_table(before) == listed


async def of_policies(agent: Agent) -> None:
    """A table of policies, too; the next one takes its place in one transaction, so that it always holds."""
    for number in (1, 2):
        peers = ", ".join(f"10.{number}.{n >> 8}.{n & 255} : accept" for n in range(1, 4_001))
        elements = f"add element inet vk-policy ingress-peers4 {{ {peers} }}"
        text = "\n".join([*FRAME, elements, f"add element inet vk-policy revision {{ ::{number} }}"]) + "\n"
        message: TableMessage = {"type": "table", "name": "policy", "base": "", "revision": f"::{number}", "text": text}
        await agent.apply(message)
        name = agent.keeper.in_force("policy").name
        listed = list_table(name)
        assert list_tables() == [name] and listed.count(" : accept") == 4_000 and "hook forward" in listed


SCENARIOS: dict[str, Callable[[Agent], Coroutine[Any, Any, None]]] = {
    each.__name__: each for each in (in_force, followed, kept, refused, of_policies)
}


FORMS = ("text", "packed")


async def main(name: str, form: str, directory: Path) -> None:
    await SCENARIOS[name](Agent(directory, packed=form == "packed"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
