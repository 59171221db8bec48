"""EKS Pod Identity where containers ask for it: at its own addresses and port, from the pod's network namespace,
through the links, tables and guards of a real instance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.agent.identity_instance import ACCESS_KEY
from tests.integration.local_cloud.links import FIRST, POD, POD6, SECOND, Links, to_ipv6
from tests.jwt import make_token
from tests.policy_worlds import SUBJECT, make_pod, make_policy
from tests.unit.netpolicy.reading import compile_for
from vk_provider.agent.metadata_guard import build_rules
from vk_provider.netpolicy.nft import render_pod, render_table
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import Vantage
from vk_provider.serviceproxy.nft import render_table as render_services
from vk_provider.wire.identity import IDENTITY_HOSTS, IDENTITY_PATH

pytestmark = pytest.mark.real

OTHER_POD = "10.9.0.20"
"""An address that is none of the instance's."""
SDK = """
import sys
from botocore.session import Session
print(Session().get_credentials().get_frozen_credentials().access_key)
"""
ASK = """
import http.client, sys
host, path, token = sys.argv[1:]
connection = http.client.HTTPConnection(host, 80, timeout=3)
try:
    connection.request("GET", path, headers={"Authorization": token})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except OSError as error:
    print("nothing", error)
"""


class RoleInstance:
    """The first instance of `links`, with a pod behind it and the agent's endpoint."""

    def __init__(self, links: Links) -> None:
        self.links = links
        self._process: subprocess.Popen[str] | None = None

    def start_agent(self) -> str:
        """What it listens on."""
        module = [sys.executable, "-m", "tests.integration.agent.identity_instance"]
        addresses = (FIRST, POD, to_ipv6(FIRST), POD6)
        self._process = self.links.start(self.links.first, *module, *addresses, output=subprocess.PIPE)
        return self._read()

    def stop_agent(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def told(self) -> list[str]:
        """The tokens that the provider would have been asked about; the agent is stopped."""
        self.stop_agent()
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.read().split()

    def deny_all(self) -> None:
        """Every table of an instance whose pod may neither send nor receive anything, and the closed metadata."""
        subject = make_pod(SUBJECT, "a", {"app": "web"}, POD, POD6)
        table = compile_for(subject, [make_policy("deny", policyTypes=["Ingress", "Egress"])])
        services = render_services(ServiceIndex("n", ()).table(""), Vantage((POD, POD6), (FIRST, to_ipv6(FIRST))))
        for text in (build_rules(), services, render_table(table) + render_pod((POD, POD6))):
            self.links.run(self.links.first, "nft", "-f", "-", text=text)

    def ask_sdk(self, namespace: str, host: str, token: str, directory: Path) -> str:
        """The access key that AWS's SDK finds as EKS's webhook tells it to."""
        file = directory / "token"
        file.write_text(token)
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{_in_url(host)}{IDENTITY_PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "HOME": str(directory),
        }
        return self.links.run(namespace, sys.executable, "-c", SDK, **environment)

    def ask(self, namespace: str, host: str, token: str) -> str:
        """Status and text of the answer, or "nothing" and why."""
        return self.links.run(namespace, sys.executable, "-c", ASK, host, IDENTITY_PATH, token)

    def _read(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[RoleInstance]:
    with ExitStack() as stack:
        links = Links(tmp_path / "ipam", stack)
        links.up()
        links.cni("ADD")
        yield RoleInstance(links)


async def test_containers_are_answered_at_both_addresses_whatever_a_policy_denies(
    instance: RoleInstance, tmp_path: Path
) -> None:
    """Between a pod and its instance nothing is forwarded, so no policy speaks of it: as on EKS's nodes."""
    assert instance.start_agent() == "listening 169.254.170.23 80 fd00:ec2::23 80"
    links, own = instance.links, make_token("u-1")
    for host in IDENTITY_HOSTS:
        assert instance.ask_sdk(links.pod, host, own, tmp_path) == ACCESS_KEY
    await links.serve(links.second)
    others = {f"::ffff:{SECOND}": f"::ffff:{POD}", to_ipv6(SECOND): POD6}
    for address, own_address in others.items():
        assert links.ask(links.pod, address) == own_address
    instance.deny_all()
    for address in others:
        with pytest.raises(AssertionError, match="TimeoutError"):
            links.ask(links.pod, address)
    for host in IDENTITY_HOSTS:
        assert instance.ask_sdk(links.pod, host, own, tmp_path) == ACCESS_KEY
    assert instance.told() == [own] * 4


def test_a_host_network_pod_is_answered(instance: RoleInstance) -> None:
    instance.start_agent()
    token = make_token("u-1")
    for host in IDENTITY_HOSTS:
        status, _, body = instance.ask(instance.links.first, host, token).partition(" ")
        assert status == "200" and json.loads(body)["AccessKeyId"] == ACCESS_KEY


def test_an_agent_that_has_started_again_answers_at_the_same_addresses(instance: RoleInstance) -> None:
    listening = instance.start_agent()
    instance.stop_agent()
    assert instance.start_agent() == listening
    assert instance.ask(instance.links.pod, IDENTITY_HOSTS[0], make_token("u-1")).startswith("200 ")


def test_another_pods_source_and_another_host_are_told_nothing(instance: RoleInstance) -> None:
    instance.start_agent()
    links, token = instance.links, make_token("u-1")
    links.cni("ADD", links.other_pod, OTHER_POD)
    for host in IDENTITY_HOSTS:
        assert instance.ask(links.other_pod, host, token).startswith("403 Access Denied")
        gateway = to_ipv6(FIRST) if ":" in host else FIRST
        links.run(links.second, "ip", "route", "add", host, "via", gateway)
        # The network may have dropped it already: no instance is known to have the address.
        assert instance.ask(links.second, host, token).startswith(("403 Access Denied", "nothing"))
        # With the pod's own address as its source: what is answered goes to the pod.
        source = POD6 if ":" in host else POD
        links.run(links.second, "ip", "address", "add", source, "dev", "lo", *(("nodad",) if ":" in host else ()))
        links.run(links.second, "ip", "route", "replace", host, "via", gateway, "src", source)
        assert instance.ask(links.second, host, token).startswith("nothing")
    assert instance.told() == []
