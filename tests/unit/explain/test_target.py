"""How TARGET[:PORT] is read."""

from __future__ import annotations

import pytest

from vk_provider.explain.target import QuestionError, Target, parse_target


def parse(written: str, protocol: str = "") -> Target:
    return parse_target(written, "shop", "cluster.local", protocol)


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("web", Target("service", "shop", "web")),
        ("web:80", Target("service", "shop", "web", port="80")),
        ("web:http", Target("service", "shop", "web", port="http")),
        ("web.other", Target("service", "other", "web", outside="web.other")),
        ("github.com:443", Target("service", "com", "github", outside="github.com", port="443")),
        ("github.com.:443", Target("name", name="github.com", port="443")),
        ("web.", Target("name", name="web")),
        ("web.other.svc.", Target("name", name="web.other.svc")),
        ("web.other.svc:080", Target("service", "other", "web", port="80")),
        ("web.other.svc.cluster.local.", Target("service", "other", "web")),
        ("db-0.db.shop.svc.cluster.local", Target("service", "shop", "db", host="db-0")),
        ("svc/web", Target("service", "shop", "web")),
        ("service/other/web:1", Target("service", "other", "web", port="1")),
        ("pod/web-0:8080", Target("pod", "shop", "web-0", port="8080")),
        ("pod/other/web-0", Target("pod", "other", "web-0")),
        ("10.96.0.1:443", Target("address", address="10.96.0.1", port="443")),
        ("010.096.0.1", Target("address", address="10.96.0.1")),
        ("fd00::1", Target("address", address="fd00::1")),
        ("[FD00::1]:80", Target("address", address="fd00::1", port="80")),
        ("[fd00::1]", Target("address", address="fd00::1")),
        ("www.example.com:443", Target("name", name="www.example.com", port="443")),
        ("a.b.svc.example.com", Target("name", name="a.b.svc.example.com")),
    ],
)
def test_a_target_is_what_a_pods_resolver_makes_of_it(written: str, target: Target) -> None:
    assert parse(written) == target


@pytest.mark.parametrize(
    "written",
    [
        "",
        ":80",
        "web:",
        "web:0",
        "web:65536",
        "web:-1",
        "web:8\u0660",
        "web:UPPER",
        "Web_1",
        "127.0.0.1:80",
        "[::1]:80",
        "[fd00::1",
        "[fd00::1]80",
        "node/n1",
        "pod/a/b/c",
        "pod/",
        "pod/../x",
        "a b",
        "web\n",
        "\x1b[2J",
        "x" * 600,
    ],
)
def test_what_is_no_target_is_refused_with_words(written: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse(written)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "written", ["127.0.0.1:80", "[::1]:80", "127.9.9.9", "localhost:80", "localhost.", "::ffff:127.0.0.1"]
)
def test_the_pod_itself_is_not_explained(written: str) -> None:
    with pytest.raises(QuestionError, match="is the pod itself, or with hostNetwork a host port of its Node"):
        parse(written)


def test_protocols_are_those_of_services() -> None:
    assert parse("web", "udp").protocol == "UDP"
    with pytest.raises(QuestionError, match="there are TCP, UDP, SCTP"):
        parse("web", "icmp")


def test_port_numbers_and_names_are_told_apart() -> None:
    assert (parse("web:80").number, parse("web:http").number, parse("web").number) == (80, 0, 0)
