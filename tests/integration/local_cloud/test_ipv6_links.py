"""A pod's IPv6 address on the links of an instance, in network namespaces alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.local_cloud.links import FIRST, POD6, SECOND, Links, to_ipv6

pytestmark = pytest.mark.real


@pytest.fixture
def links(tmp_path: Path) -> Iterator[Links]:
    with ExitStack() as stack:
        made = Links(tmp_path, stack)
        made.up()
        yield made


async def test_a_pod_has_its_ipv6_address_at_once_and_is_reached_behind_its_instance(links: Links) -> None:
    links.cni("ADD")
    shown = links.addresses_of_pod()
    assert POD6 in shown and "tentative" not in shown
    await links.serve(links.pod)
    await links.serve(links.second)
    for client, address in ((links.second, to_ipv6(SECOND)), (links.first, to_ipv6(FIRST))):
        assert links.ask(client, POD6) == address
    assert links.ask(links.pod, to_ipv6(SECOND)) == POD6
    links.cni("DEL")
    links.cni("ADD")  # a sandbox that is made anew gets the same addresses
    assert links.ask(links.pod, to_ipv6(SECOND)) == POD6
    links.cni("DEL")
