"""The agent process and its tables: containers wait for them, reach Services by them, and the next agent finds them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from typing import Any

import orjson
import pytest

from tests.integration.agent.private_containerd import POD_IP, PRIMARY_IP, PrivateContainerd
from tests.integration.agent.test_agent_process import INSTANCE, AgentProcess, dial, is_phase, pod_message
from tests.integration.agent.test_agent_process import agent as agent  # a fixture
from tests.integration.agent.test_agent_process import connector as connector  # a fixture
from tests.integration.proxy.kept import Compiled
from tests.listener import Listener
from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.session import Slot
from vk_provider.wire import routes
from vk_provider.wire.inbound import decode_tables_answer

pytestmark = pytest.mark.real

SERVE = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"
CLUSTER_IP = "10.96.0.2"
SERVICE = make_service("a", CLUSTER_IP, type="NodePort", ports=[make_port(80, node_port=30080)])


@pytest.fixture
def without_tables(containerd: PrivateContainerd) -> None:
    """Agents of a module share a network namespace, which the instances of a cloud do not. An instance has a route to
    everywhere."""
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    subprocess.run(["ip", "route", "replace", "default", "dev", "eth0"], check=True)


def serving_pod(containerd: PrivateContainerd, *tables: str) -> dict[str, Any]:
    """An init container, and one that serves HTTP."""
    message = pod_message(containerd)
    spec = message["pod"]["spec"]
    (main,) = spec["containers"]
    spec["initContainers"] = [{**main, "name": "before", "command": ["true"]}]
    spec["containers"] = [{**main, "command": ["sh", "-c", SERVE]}]
    message["node"]["tables"] = list(tables)
    return message


async def fetch(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.decode().rpartition("\r\n\r\n")[2]


async def said(session: Listener, *, name: str = "services") -> dict[str, Any]:
    """The agent's answer about its table."""
    return (await session.wait_for(lambda m: m["type"] == "tables" and m.get("name") == name))[-1]


async def test_containers_start_after_the_first_table_and_the_pod_reaches_itself_by_its_service(
    without_tables: None,
    agent: AgentProcess,
    connector: HttpsConnector,
    containerd: PrivateContainerd,
    runtime: ContainerRuntime,
) -> None:
    session = await dial(connector)
    (hello,) = await session.wait_for(lambda m: m["type"] == "hello")
    assert "tables" in hello["features"] and hello["tables"] == {"services": "", "policy": ""}
    message = serving_pod(containerd, "services")
    session.session.put(Slot.POD, message)
    seen = await session.wait_for(lambda m: m["type"] == "event" and m["reason"] == "NetworkNotReady")
    assert "the table of Services is not in force" in seen[-1]["message"]
    assert len(await runtime.list_pod_sandboxes()) == 1 and await runtime.list_containers() == []

    compiled = Compiled()
    whole = compiled.whole(SERVICE, make_slice("a", make_endpoint(POD_IP)))
    session.session.put(Slot.SERVICES_TABLE, orjson.dumps(whole))
    assert (await said(session))["tables"]["services"] == compiled.table.revision
    await session.wait_for(is_phase("Running"))
    container = next(c for c in await runtime.list_containers() if c.metadata.name == "main")
    for host, port in ((CLUSTER_IP, 80), (PRIMARY_IP, 30080)):
        assert await fetch(host, port) == "hello\n"  # as the agent and hostNetwork pods connect
        fetched = await runtime.exec_sync(container.id, ["wget", "-qO-", f"http://{host}:{port}/"], 5)
        assert (fetched.exit_code, fetched.stdout) == (0, b"hello\n"), fetched
    answer = await connector.request(INSTANCE, "GET", f"{routes.TABLES}?address={CLUSTER_IP}")
    body = b"".join([chunk async for chunk in answer.iter_any()])
    await answer.close()
    known = decode_tables_answer(body)
    assert known == orjson.loads(body)  # it says nothing that the schema does not name
    assert known["drops"] == {"ingress": 0, "egress": 0}
    assert known["tables"]["services"]["revision"] == compiled.table.revision
    assert {(c["source"], c["endpoint"], c["endpointPort"]) for c in known["connections"]} == {
        (PRIMARY_IP, POD_IP, 8080),
        (POD_IP, POD_IP, 8080),
    }
    await session.close()

    await agent.stop(signal.SIGKILL)
    await agent.start()
    session = await dial(connector)
    (hello,) = await session.wait_for(lambda m: m["type"] == "hello")
    assert hello["tables"] == {"services": compiled.table.revision, "policy": ""}
    session.session.put(Slot.POD, message)
    session.session.put(Slot.SERVICES_TABLE, orjson.dumps(compiled.change(make_slice("a"))))
    assert (await said(session))["tables"]["services"] == compiled.table.revision
    with pytest.raises(ConnectionRefusedError):
        await fetch(CLUSTER_IP, 80)
    assert container.id in {c.id for c in await runtime.list_containers()}
    await session.close()


async def test_where_the_node_names_no_tables_containers_start_at_once(
    without_tables: None,
    agent: AgentProcess,
    connector: HttpsConnector,
    containerd: PrivateContainerd,
    runtime: ContainerRuntime,
) -> None:
    session = await dial(connector)
    session.session.put(Slot.POD, serving_pod(containerd))
    seen = await session.wait_for(is_phase("Running"))
    assert not [m for m in seen if m["type"] == "event" and m["reason"] == "NetworkNotReady"]
    await session.close()


async def test_a_pod_waits_for_each_table_that_is_named(
    without_tables: None,
    agent: AgentProcess,
    connector: HttpsConnector,
    containerd: PrivateContainerd,
    runtime: ContainerRuntime,
) -> None:
    session = await dial(connector)
    session.session.put(Slot.POD, serving_pod(containerd, "services", "policy"))
    compiled = Compiled()
    session.session.put(Slot.SERVICES_TABLE, orjson.dumps(compiled.whole(SERVICE)))
    assert (await said(session))["tables"]["services"] == compiled.table.revision
    seen = await session.wait_for(lambda m: m["type"] == "event" and m["reason"] == "NetworkNotReady")
    assert "NetworkPolicies" in seen[-1]["message"] and "Services" not in seen[-1]["message"]
    assert await runtime.list_containers() == []
    text = (
        "add table inet vk-policy\nadd set inet vk-policy revision { type ipv6_addr ; }\n"
        "add element inet vk-policy revision { ::5 }\n"
    )
    policy = {"type": "table", "name": "policy", "base": "", "revision": "::5", "text": text}
    session.session.put(Slot.POLICY_TABLE, orjson.dumps(policy))
    assert (await said(session, name="policy"))["tables"]["policy"] == "::5"
    await session.wait_for(is_phase("Running"))
    await session.close()
