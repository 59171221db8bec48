"""The metadata service as the EC2 user guide describes it."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest

from tests.booter.imds import Answer, Guest, Request, SpotNotice, Tokens, answer
from tests.booter.imdsserver import parse_head, render
from tests.unit.booter.machines import MAC, guest

NOW = 1_700_000_000.0
TOKENS = Tokens(b"key")
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def put(whom: Guest | None, ttl: str = "60", path: str = "/latest/api/token", **headers: str) -> Answer:
    return answer(Request("PUT", path, {"x-aws-ec2-metadata-token-ttl-seconds": ttl, **headers}), whom, TOKENS, NOW)


def get(whom: Guest, path: str, now: float = NOW, **headers: str) -> Answer:
    token = TOKENS.issue(whom.machine.instance_id, 60, NOW)
    return answer(Request("GET", path, {"x-aws-ec2-metadata-token": token, **headers}), whom, TOKENS, now)


def text(whom: Guest, path: str) -> str:
    found = get(whom, f"/latest/{path}")
    assert found.status == 200, path
    return found.body.decode()


def test_a_session_begins_with_a_put_and_its_answer_goes_as_far_as_the_hop_limit_says():
    found = put(guest(hop_limit=2))
    assert (found.status, found.hop_limit) == (200, 2)
    assert found.headers == {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60"}
    assert TOKENS.is_valid(found.body.decode(), guest().machine.instance_id, NOW + 59)
    assert get(guest(hop_limit=2), "/latest/meta-data/mac").hop_limit == 0


@pytest.mark.parametrize("ttl", ["", "0", "21601", "x", "-1", "1.5"])
def test_a_time_to_live_out_of_range_is_a_bad_request(ttl: str):
    assert put(guest(), ttl).status == 400


def test_a_request_that_came_through_a_proxy_is_refused():
    assert put(guest(), **{"x-forwarded-for": "10.1.0.9"}).status == 403
    assert get(guest(), "/latest/meta-data/mac", **{"x-forwarded-for": ""}).status == 403


def test_without_a_token_there_is_nothing_unless_the_first_version_is_allowed():
    plain = Request("GET", "/latest/meta-data/mac")
    assert answer(plain, guest(), TOKENS, NOW).status == 401
    assert answer(plain, guest(tokens_required=False), TOKENS, NOW).body == MAC.encode()
    wrong = replace(plain, headers={"x-aws-ec2-metadata-token": "1.2"})
    assert answer(wrong, guest(tokens_required=False), TOKENS, NOW).status == 401


@pytest.mark.parametrize("token", ["", "x", "9999999999.", "²", "."])
def test_a_token_that_was_not_issued_is_refused(token: str):
    request = Request("GET", "/latest/meta-data/mac", {"x-aws-ec2-metadata-token": token})
    assert answer(request, guest(), TOKENS, NOW).status == 401


def test_a_token_ends_and_is_of_one_instance():
    assert get(guest(), "/latest/meta-data/mac", NOW + 61).status == 401
    other = guest()
    request = Request("GET", "/latest/meta-data/mac", {"x-aws-ec2-metadata-token": TOKENS.issue("i-other", 60, NOW)})
    assert answer(request, other, TOKENS, NOW).status == 401


def test_an_endpoint_that_is_switched_off_refuses_all():
    assert put(guest(endpoint_enabled=False)).status == 403
    assert put(None).status == 403


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("HEAD", 200)])
def test_other_methods(method: str, status: int):
    token = TOKENS.issue(guest().machine.instance_id, 60, NOW)
    found = answer(Request(method, "/latest/meta-data/mac", {"x-aws-ec2-metadata-token": token}), guest(), TOKENS, NOW)
    assert (found.status, found.body) == (status, b"")


def test_what_an_instance_reads_of_itself():
    own = guest(b"boot data \xff")
    assert get(own, "/latest/user-data").body == b"boot data \xff"
    assert text(own, "meta-data/instance-id") == "i-0123456789abcdef0"
    assert text(own, "meta-data/local-ipv4") == "10.1.0.8"
    assert text(own, "meta-data/placement/availability-zone") == "eu-west-1b"
    assert text(own, "meta-data/placement/region") == "eu-west-1"
    assert text(own, "meta-data/hostname") == "ip-10-1-0-8.eu-west-1.compute.internal"
    below = f"meta-data/network/interfaces/macs/{MAC}"
    assert text(own, f"{below}/local-ipv4s") == "10.1.0.8\n10.1.0.9"
    assert text(own, f"{below}/subnet-ipv4-cidr-block") == "10.1.0.0/17"
    assert get(own, f"/latest/{below}/ipv4-prefix").status == 404
    document = json.loads(text(own, "dynamic/instance-identity/document"))
    assert document["instanceId"] == "i-0123456789abcdef0"
    assert document["pendingTime"] == "2023-11-14T22:13:20Z"


def test_directories_are_listed_and_dated_versions_answer_alike():
    own = guest()
    assert text(own, "") == "dynamic/\nmeta-data/\nuser-data"
    assert text(own, "meta-data/network/interfaces/macs/") == f"{MAC}/"
    assert text(own, "meta-data/placement") == "availability-zone\nregion"
    assert get(own, "/2021-07-15/meta-data/mac").body == MAC.encode()
    for path in ("/", "/newest/meta-data/mac", "/latest/meta-data/none", "/latest/meta-data/mac/"):
        assert get(own, path).status == 404, path
    assert get(guest(b""), "/latest/user-data").status == 404


def test_tags_are_shown_where_that_is_enabled():
    assert get(guest(), "/latest/meta-data/tags/instance").status == 404
    own = guest(tags_enabled=True)
    assert (text(own, "meta-data/tags/instance"), text(own, "meta-data/tags/instance/Name")) == ("Name", "default/web")


def test_a_spot_notice_appears_when_there_is_one():
    assert get(guest(), "/latest/meta-data/spot/instance-action").status == 404
    told = replace(guest(), spot_notice=SpotNotice("terminate", AT), rebalance=AT)
    found = json.loads(text(told, "meta-data/spot/instance-action"))
    assert found == {"action": "terminate", "time": "2026-01-02T03:04:05Z"}
    assert text(told, "meta-data/spot/termination-time") == "2026-01-02T03:04:05Z"
    assert "noticeTime" in text(told, "meta-data/events/recommendations/rebalance")
    stopped = replace(guest(), spot_notice=SpotNotice("stop", AT))
    assert get(stopped, "/latest/meta-data/spot/termination-time").status == 404


def test_a_delegated_prefix_is_shown():
    own = guest()
    machine = own.machine
    with_prefix = replace(machine, interface=replace(machine.interface, prefixes=("10.1.0.16/28",)))
    path = f"meta-data/network/interfaces/macs/{MAC}/ipv4-prefix"
    assert text(replace(own, machine=with_prefix), path) == "10.1.0.16/28"


def test_heads_of_requests_and_answers():
    assert parse_head(b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n") == Request("GET", "/", {"x-a": "b", "": ""})
    assert parse_head(b"nonsense\r\n\r\n") is None
    assert render(Answer(404, b"no")).startswith(b"HTTP/1.1 404 Not Found\r\n")
