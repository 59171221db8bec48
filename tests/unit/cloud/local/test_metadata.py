"""The metadata service of the local cloud."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.cloud.local.records import IPV6_ADDRESSES, IPV6_SUBNET, record
from vk_provider.cloud.local import (
    boot,
    metadata,
)
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.metadata import MetadataServer, TokenIssuer
from vk_provider.cloud.local.store import InstanceStore


def test_the_metadata_tell_an_instances_ipv6_addresses_as_ec2_does() -> None:
    found = replace(record(), addresses=IPV6_ADDRESSES)
    interface = f"meta-data/network/interfaces/macs/{boot.mac_address(found.addresses.primary_ip)}"
    paths = ("meta-data/ipv6", f"{interface}/ipv6s", f"{interface}/subnet-ipv6-cidr-blocks")
    answers = [metadata.read_metadata(path, found, "", "10.9.0.0/16") for path in paths]
    assert answers == ["fd00:9::10", "fd00:9::10\nfd00:9::11", IPV6_SUBNET]


def test_metadata_tokens_are_bound_to_source_and_time() -> None:
    issuer = TokenIssuer(b"k")
    token = issuer.issue("10.0.0.1", 60, now=1000.0)
    assert issuer.is_valid(token, "10.0.0.1", 1059.0)
    assert not issuer.is_valid(token, "10.0.0.1", 1060.0)
    assert not issuer.is_valid(token, "10.0.0.2", 1000.0)
    assert not TokenIssuer(b"other").is_valid(token, "10.0.0.1", 1000.0)


def test_metadata_answers_by_source_address(config: LocalCloudConfig, store: InstanceStore) -> None:
    for number in (1, 2):
        pair = store.allocate_addresses(f"i-{number}")
        store.save_user_data(f"i-{number}", f"data {number}")
        store.save(record(f"i-{number}", *pair))
    server = MetadataServer(config)

    def get(path: str, source: str, token: str = "", method: str = "GET", more: str = "") -> tuple[int, str]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token: {token}\r\n{more}\r\n"
        return server.answer(head, source, 1000.0)

    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n"
    status, token = get("/latest/api/token", "10.9.0.18", method="PUT", more=ttl)
    assert status == 200
    assert get("/latest/user-data", "10.9.0.18", token) == (200, "data 2")
    assert get("/latest/meta-data/instance-id", "10.9.0.18", token) == (200, "i-2")
    assert get("/latest/user-data", "10.9.0.16", token)[0] == 401
    assert get("/latest/user-data", "10.9.0.18")[0] == 401
    assert get("/latest/user-data", "10.9.0.18", "12.\u00e9")[0] == 401
    assert get("/latest/nothing", "10.9.0.18", token)[0] == 404
    assert get("/latest/api/token", "10.9.0.18", method="PUT")[0] == 400
    assert get("/latest/api/token", "10.9.0.18", method="PUT", more=ttl + "X-Forwarded-For: x\r\n")[0] == 403
    assert server.answer("nonsense", "10.9.0.18", 0.0)[0] == 400
    strange = "X-aws-ec2-metadata-token-ttl-seconds: \u00b2\r\n"
    assert get("/latest/api/token", "10.9.0.18", method="PUT", more=strange)[0] == 400
