"""resolv.conf by dnsPolicy and dnsConfig: the cases of the kubelet's own pkg/kubelet/network/dns/dns_test.go (1.37)."""

from __future__ import annotations

import pytest

from tests.unit.podmodel.builders import NODE, make_pod
from vk_provider.podmodel.dns import build_dns_config, parse_resolv_conf
from vk_provider.podmodel.errors import ResolvConfError

HOST = "nameserver 8.8.8.8\nsearch host.domain\n"
CLUSTER = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "host.domain")
LONG = ("A" * 128, *("A" * 127 for _ in range(15)))
"""2,048 characters with the spaces."""
OWN = {
    "nameservers": ["10.0.0.11"],
    "searches": ["my.domain"],
    "options": [{"name": "ndots", "value": "3"}, {"name": "debug"}],
}


@pytest.mark.parametrize(
    ("text", "nameservers", "searches", "options"),
    [
        ("", "", "", ""),
        (" ", "", "", ""),
        ("\t\n\t", "", "", ""),
        (" #comment\n", "", "", ""),
        ("#comment\nnameserver 1.2.3.4\nsearch", "1.2.3.4", "", ""),
        (" nameserver 1.2.3.4", "1.2.3.4", "", ""),
        ("nameserver \t 1.2.3.4", "1.2.3.4", "", ""),
        ("nameserver 1.2.3.4\r\nsearch foo\r\n", "1.2.3.4", "foo", ""),
        ("nameserver 1.2.3.4\nnameserver 5.6.7.8", "1.2.3.4 5.6.7.8", "", ""),
        ("nameserver 1.2.3.4 #comment", "1.2.3.4", "", ""),
        ("search .", "", "", ""),
        ("search . foo", "", "foo", ""),
        ("search foo .  bar", "", "foo bar", ""),
        ("search foo. bar", "", "foo bar", ""),
        ("search foo\nsearch bar", "", "bar", ""),
        ("#comment\nnameserver 1.2.3.4\n#comment\nsearch foo\ncomment", "1.2.3.4", "foo", ""),
        ("options ", "", "", ""),
        ("options ndots:1 ndots:5 attempts:2", "", "", "ndots:5 attempts:2"),
        ("options ndots:1 edns0 single-request-reopen", "", "", "ndots:1 edns0 single-request-reopen"),
        ("options ndots:1 timeout:3 timeout:1\noptions ndots:5", "", "", "ndots:5 timeout:1"),
    ],
)
def test_a_resolv_conf_is_read_as_a_kubelet_reads_it(text: str, nameservers: str, searches: str, options: str) -> None:
    found = parse_resolv_conf(text)
    assert found.nameservers == tuple(nameservers.split())
    assert found.searches == tuple(searches.split())
    assert sorted(found.options) == sorted(options.split())


@pytest.mark.parametrize("policy", ["ClusterFirst", "Default", "None"])
def test_a_nameserver_without_an_address_refuses_the_file_for_every_pod(policy: str) -> None:
    with pytest.raises(ResolvConfError, match="Error: nameserver list is empty $"):
        build_dns_config(make_pod(dnsPolicy=policy), NODE, "#comment\nnameserver\nsearch")


@pytest.mark.parametrize(
    ("spec", "nameservers", "searches", "options"),
    [
        ({}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "ClusterFirst"}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, ("8.8.8.8",), ("host.domain",), ()),
        ({"dnsPolicy": "ClusterFirstWithHostNet"}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "Default"}, ("8.8.8.8",), ("host.domain",), ()),
        ({"dnsPolicy": "Default", "hostNetwork": True}, ("8.8.8.8",), ("host.domain",), ()),
        ({"dnsPolicy": "None"}, (), (), ()),
        ({"dnsPolicy": "None", "dnsConfig": OWN}, ("10.0.0.11",), ("my.domain",), ("ndots:3", "debug")),
        ({"dnsConfig": OWN}, ("10.0.0.10", "10.0.0.11"), (*CLUSTER, "my.domain"), ("ndots:3", "debug")),
        (
            {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True, "dnsConfig": OWN},
            ("10.0.0.10", "10.0.0.11"),
            (*CLUSTER, "my.domain"),
            ("ndots:3", "debug"),
        ),
        (
            {"dnsPolicy": "Default", "dnsConfig": OWN},
            ("8.8.8.8", "10.0.0.11"),
            ("host.domain", "my.domain"),
            ("ndots:3", "debug"),
        ),
        (
            {"dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["cluster.local", "y"], "options": []}},
            ("10.0.0.10",),
            (*CLUSTER, "y"),
            ("ndots:5",),
        ),
        ({"dnsConfig": {"options": [{"name": "ndots", "value": ""}]}}, ("10.0.0.10",), CLUSTER, ("ndots",)),
    ],
)
def test_dns_policy_and_config_are_merged_as_in_a_kubelet(
    spec: dict[str, object], nameservers: tuple[str, ...], searches: tuple[str, ...], options: tuple[str, ...]
) -> None:
    found = build_dns_config(make_pod(**spec), NODE, HOST)
    assert (found.nameservers, found.searches, found.options, found.warnings) == (nameservers, searches, options, ())


def test_options_of_the_instance_are_the_pods_only_where_the_policy_takes_its_file() -> None:
    host = "nameserver 8.8.8.8\noptions timeout:1 ndots:2\n"
    of_pod = {"options": [{"name": "timeout", "value": "4"}]}
    default = build_dns_config(make_pod(dnsPolicy="Default", dnsConfig=of_pod), NODE, host)
    assert set(default.options) == {"timeout:4", "ndots:2"}
    cluster = build_dns_config(make_pod(dnsConfig=of_pod), NODE, host)
    assert set(cluster.options) == {"timeout:4", "ndots:5"}


def test_duplicates_of_the_instances_file_go_only_with_a_dns_config() -> None:
    host = "nameserver 8.8.8.8\nnameserver 8.8.8.8\nsearch a a\n"
    found = build_dns_config(make_pod(dnsPolicy="Default"), NODE, host)
    assert (found.nameservers, found.searches) == (("8.8.8.8", "8.8.8.8"), ("a", "a"))
    found = build_dns_config(make_pod(dnsPolicy="Default", dnsConfig={}), NODE, host)
    assert (found.nameservers, found.searches) == (("8.8.8.8",), ("a",))


def test_without_a_cluster_domain_the_instances_search_domains_remain() -> None:
    found = build_dns_config(make_pod(), {**NODE, "clusterDomain": ""}, HOST)
    assert (found.nameservers, found.searches, found.options) == (("10.0.0.10",), ("host.domain",), ("ndots:5",))


def test_the_clusters_dns_addresses_are_written_in_their_short_form() -> None:
    found = build_dns_config(make_pod(), {**NODE, "clusterDNS": ["10.0.0.10", "FD00:0:0::000A"]}, HOST)
    assert found.nameservers == ("10.0.0.10", "fd00::a")


@pytest.mark.parametrize("policy", ["ClusterFirst", "ClusterFirstWithHostNet"])
def test_without_cluster_dns_the_instances_is_used_and_said_so(policy: str) -> None:
    found = build_dns_config(make_pod(dnsPolicy=policy, dnsConfig=OWN), {**NODE, "clusterDNS": []}, HOST)
    assert found.nameservers == ("8.8.8.8", "10.0.0.11")
    text = (
        'pod: "web_shop(u-1)". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
        '"ClusterFirst" policy. Falling back to "Default" policy.'
    )
    assert found.warnings == (("MissingClusterDNS", text),)


@pytest.mark.parametrize(
    ("nameservers", "kept"),
    [
        (["127.0.0.1"], 1),
        (["127.0.0.1", "10.0.0.10", "8.8.8.8"], 3),
        (["127.0.0.1", "10.0.0.10", "8.8.8.8", "1.2.3.4"], 3),
    ],
)
def test_more_than_three_nameservers_are_cut_with_a_warning(nameservers: list[str], kept: int) -> None:
    found = build_dns_config(make_pod(dnsPolicy="None", dnsConfig={"nameservers": nameservers}), NODE, HOST)
    assert found.nameservers == tuple(nameservers[:kept])
    text = (
        "Nameserver limits were exceeded, some nameservers have been omitted, "
        "the applied nameserver line is: 127.0.0.1 10.0.0.10 8.8.8.8"
    )
    assert found.warnings == ((("DNSConfigForming", text),) if len(nameservers) > kept else ())


@pytest.mark.parametrize(
    ("searches", "kept"),
    [
        (("a", "b", "c"), ("a", "b", "c")),
        (tuple(f"d{i}" for i in range(32)), tuple(f"d{i}" for i in range(32))),
        (tuple(f"d{i}" for i in range(33)), tuple(f"d{i}" for i in range(32))),
        (("a", "B" * 253), ("a", "B" * 253)),
        (("a", "B" * 254, "b"), ("a", "b")),
        (tuple(f"{'d' * i}" for i in (254, *range(1, 33))), tuple(f"{'d' * i}" for i in range(1, 32))),
        (tuple(f"{i}{domain[1:]}" for i, domain in enumerate(LONG[:10])),) * 2,
        ((*(f"{chr(65 + i)}{domain[1:]}" for i, domain in enumerate(LONG)),),) * 2,
        (
            (*(f"{chr(65 + i)}{domain[1:]}" for i, domain in enumerate(LONG)), "B"),
            (*(f"{chr(65 + i)}{domain[1:]}" for i, domain in enumerate(LONG)),),
        ),
    ],
)
def test_search_domains_over_the_limits_are_cut_with_a_warning(
    searches: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    found = build_dns_config(make_pod(dnsPolicy="None", dnsConfig={"searches": list(searches)}), NODE, HOST)
    assert found.searches == kept
    text = (
        "Search Line limits were exceeded, some search paths have been omitted, "
        f"the applied search line is: {' '.join(kept)}"
    )
    assert found.warnings == ((("DNSConfigForming", text),) if searches != kept else ())
