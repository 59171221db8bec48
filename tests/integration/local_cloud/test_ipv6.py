"""A local cloud whose instances have IPv6 addresses beside the IPv4 ones."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.integration.local_cloud.conftest import OWNER, take_down
from tests.integration.local_cloud.machine import inside, run, until
from tests.integration.local_cloud.test_instance import launch
from vk_provider.cloud.base import Instance
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.errors import BadStartError

pytestmark = pytest.mark.real

ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 9999))
while True:
    data, peer = server.recvfrom(100)
    print(peer[0], data.decode(), flush=True)
    server.sendto(peer[0].encode(), peer)
"""
ASK = """
import socket, sys
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.settimeout(3)
client.sendto(b"asked", (sys.argv[1], 9999))
print(client.recv(100).decode())
"""
FORGE = """
import socket, struct, sys
pack = lambda address: socket.inet_pton(socket.AF_INET6, address)
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
real = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))

def checksum(source, target, proto, body):
    data = source + target + struct.pack("!II", len(body), proto) + body
    data += b"\\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

for kind, mac, source, target in (text.split(",") for text in sys.argv[1:]):
    own = bytes.fromhex(mac.replace(":", ""))
    to, proto, hops, at = pack("ff02::1"), 58, 255, 2
    if kind == "udp":
        to, proto, hops, at = pack(target), 17, 64, 6
        body = struct.pack("!HHHH", 9, 9999, 8 + 7, 0) + b"spoofed"
    elif kind == "advert":
        body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + pack(source) + b"\\2\\1" + own
        source = target
    elif kind == "solicit":
        body = struct.pack("!BBHI", 135, 0, 0, 0) + pack(target) + b"\\1\\1" + own
    else:
        body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\\1\\1" + own
    body = body[:at] + struct.pack("!H", checksum(pack(source), to, proto, body)) + body[at + 2:]
    head = struct.pack("!IHBB", 6 << 28, len(body), proto, hops) + pack(source) + to
    for _ in range(3):
        link.send(b"\\xff" * 6 + (own if kind == "udp" else real) + b"\\x86\\xdd" + head + body)
"""
"""Arguments kind,mac,source,target: a datagram to `target`; an advertisement for `source`, sent from `target`; a
solicitation by `source`; a router advertisement by `source`. `mac` is the frame's source of a datagram, else the
address in the option."""


@pytest.fixture
async def cloud(dual_stack: LocalCloudConfig) -> AsyncIterator[LocalCloud]:
    found = LocalCloud(dual_stack, OWNER)
    await found.start()
    try:
        yield found
    finally:
        await found.close()
        await take_down(dual_stack)


def python(cloud: LocalCloud, instance: Instance, script: str, *arguments: str, check: bool = True) -> str:
    return inside(cloud, instance.instance_id, f"{sys.executable} -c '{script}' {' '.join(arguments)}", check=check)


async def serve(cloud: LocalCloud, instance: Instance) -> None:
    def listens() -> bool:
        return ":9999" in inside(cloud, instance.instance_id, "ss -lnu")

    inside(cloud, instance.instance_id, f"setsid {sys.executable} -c '{ECHO}' > /tmp/heard 2>/dev/null &")
    await until(listens)


async def test_instances_and_the_machine_reach_each_other_at_their_ipv6_addresses(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "one", "two")
    await serve(cloud, first)
    assert python(cloud, second, ASK, first.primary_ipv6) == second.primary_ipv6
    assert run(sys.executable, "-c", ASK, first.primary_ipv6) == cloud.config.host_ipv6
    assert inside(cloud, first.instance_id, "ip -6 route show default").startswith(
        f"default via {cloud.config.host_ipv6}"
    )


async def test_an_instance_answers_for_its_pods_ipv6_address_at_once(cloud: LocalCloud) -> None:
    """There is no pod here; the address is not on the link to the others, as with CNI's ptp."""
    first, second = await launch(cloud, "one", "two")
    inside(cloud, first.instance_id, f"ip addr add {first.pod_ipv6}/128 dev lo nodad")
    await serve(cloud, first)
    assert python(cloud, second, ASK, first.pod_ipv6) == second.primary_ipv6
    assert run(sys.executable, "-c", ASK, first.pod_ipv6) == cloud.config.host_ipv6
    for _ in range(2):  # a known neighbour is probed by unicast, which is answered as well
        inside(cloud, second.instance_id, f"ip neigh change {first.pod_ipv6} dev eth0 nud probe")
        assert python(cloud, second, ASK, first.pod_ipv6) == second.primary_ipv6
    await until(lambda: "REACHABLE" in inside(cloud, second.instance_id, f"ip neigh show {first.pod_ipv6}"))


async def test_an_instance_cannot_claim_another_ones_ipv6_address_or_send_from_it(cloud: LocalCloud) -> None:
    attacker, victim, client = await launch(cloud, "attacker", "victim", "client")
    mac = inside(cloud, attacker.instance_id, "cat /sys/class/net/eth0/address")
    other_mac = inside(cloud, victim.instance_id, "cat /sys/class/net/eth0/address")
    await serve(cloud, client)
    await serve(cloud, victim)
    python(cloud, client, ASK, victim.primary_ipv6)
    routes = inside(cloud, client.instance_id, "ip -6 route")

    def neighbours() -> str:
        return inside(cloud, client.instance_id, "ip -6 neigh show")

    def heard() -> str:
        return inside(cloud, client.instance_id, "cat /tmp/heard")

    own = attacker.primary_ipv6
    attacker_ips = (own, attacker.pod_ipv6)
    forged = [
        f"{kind},{by_mac},{address},{own if kind == 'advert' else client.primary_ipv6}"
        for address in (victim.primary_ipv6, victim.pod_ipv6, cloud.config.host_ipv6, "fe80::1", "2001:db8::1")
        for by_mac in (mac, other_mac)
        for kind in ("udp", "advert", "solicit", "router")
    ]
    # A foreign MAC alone is enough.
    forged += [f"{kind},{other_mac},{own},{client.primary_ipv6}" for kind in ("udp", "solicit")]
    python(cloud, attacker, FORGE, *forged, f"advert,{other_mac},{own},{own}", f"router,{mac},{own},{own}")
    assert heard() == "" and mac not in neighbours()
    lines = [line for line in neighbours().splitlines() if other_mac in line]
    assert [line.split()[0] for line in lines] == [victim.primary_ipv6]
    assert inside(cloud, client.instance_id, "ip -6 route") == routes
    # With its own addresses the same frames arrive, so it is not that nothing does.
    honest = [f"{kind},{mac},{each},{client.primary_ipv6}" for each in attacker_ips for kind in ("solicit", "udp")]
    python(cloud, attacker, FORGE, *honest)
    await until(lambda: own in heard() and attacker.pod_ipv6 in heard())
    assert f"{own} dev eth0 lladdr {mac}" in neighbours() and victim.primary_ipv6 not in heard()
    assert python(cloud, client, ASK, victim.primary_ipv6) == client.primary_ipv6


async def test_ipv6_is_added_to_a_cloud_that_runs_and_older_instances_go_on_without(
    config: LocalCloudConfig, dual_stack: LocalCloudConfig
) -> None:
    before = LocalCloud(config, OWNER)
    await before.start()
    try:
        (old,) = await launch(before, "old")
        assert (old.host_ips, old.pod_ips) == ((old.primary_ip,), (old.pod_ip,))
        await before.close()
        after = LocalCloud(dual_stack, OWNER)
        await after.start()
        (new,) = await launch(after, "new")
        listed = {each.instance_id: each for each in await list_owned(after)}
        assert listed[old.instance_id].host_ips == (old.primary_ip,)
        assert listed[new.instance_id].pod_ips == (new.pod_ip, new.pod_ipv6)
        assert "inet6" not in inside(after, old.instance_id, "ip -6 addr show dev eth0 scope global")
        await serve(after, new)
        assert run(sys.executable, "-c", ASK, new.primary_ipv6) == dual_stack.host_ipv6
        await after.close()
        with pytest.raises(BadStartError, match="made with another subnet"):
            await LocalCloud(replace(dual_stack, ipv6_subnet="fd00:7e58::/64"), OWNER).start()
    finally:
        await take_down(dual_stack)
