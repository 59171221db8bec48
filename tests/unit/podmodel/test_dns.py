import pytest

from tests.unit.podmodel.builders import NODE, make_pod
from vk_provider.podmodel.dns import build_dns_config, parse_resolv_conf

HOST = "nameserver 1.1.1.1\nsearch corp.example. .\noptions timeout:3 ndots:2\n"
CLUSTER = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")


def test_a_resolv_conf_is_read_as_the_resolver_does():
    text = (
        "# nameserver 9\nnameserver 1.1.1.1\n nameserver 2.2.2.2 # x\n"
        "search a.\nsearch b. c .\noptions a:1 b\noptions a:2\n"
    )
    found = parse_resolv_conf(text)
    assert found.nameservers == ("1.1.1.1", "2.2.2.2")
    assert found.searches == ("b", "c")
    assert found.options == ("a:2", "b")


@pytest.mark.parametrize(
    ("spec", "nameservers", "searches", "options"),
    [
        ({}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "ClusterFirst"}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, ("1.1.1.1",), ("corp.example",), ("timeout:3", "ndots:2")),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, ("10.0.0.10",), CLUSTER, ("ndots:5",)),
        ({"dnsPolicy": "Default"}, ("1.1.1.1",), ("corp.example",), ("timeout:3", "ndots:2")),
        ({"dnsPolicy": "None"}, (), (), ()),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["8.8.8.8"], "searches": ["x"], "options": [{"name": "edns0"}]},
            },
            ("8.8.8.8",),
            ("x",),
            ("edns0",),
        ),
        (
            {
                "dnsConfig": {
                    "nameservers": ["10.0.0.10", "8.8.8.8"],
                    "searches": ["cluster.local", "y"],
                    "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}],
                }
            },
            ("10.0.0.10", "8.8.8.8"),
            (*CLUSTER, "y"),
            ("ndots:1", "edns0"),
        ),
    ],
)
def test_dns_policy_and_config(spec, nameservers, searches, options):
    found = build_dns_config(make_pod(**spec), NODE, HOST)
    assert (found.nameservers, found.searches, found.options, found.warnings) == (nameservers, searches, options, ())


def test_without_cluster_dns_the_hosts_is_used_and_said_so():
    found = build_dns_config(make_pod(), {**NODE, "clusterDNS": []}, HOST)
    assert found.nameservers == ("1.1.1.1",)
    text = (
        'pod: "web_shop(u-1)". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
        '"ClusterFirst" policy. Falling back to "Default" policy.'
    )
    assert found.warnings == (("MissingClusterDNS", text),)


def test_too_many_nameservers_are_cut_with_a_warning():
    pod = make_pod(dnsPolicy="None", dnsConfig={"nameservers": ["1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"]})
    found = build_dns_config(pod, NODE, HOST)
    assert found.nameservers == ("1.0.0.1", "1.0.0.2", "1.0.0.3")
    assert found.warnings == (
        (
            "DNSConfigForming",
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            "the applied nameserver line is: 1.0.0.1 1.0.0.2 1.0.0.3",
        ),
    )


@pytest.mark.parametrize(
    ("searches", "kept"),
    [
        ([f"d{i}" for i in range(40)], 32),
        (["a" * 254, "b"], 1),
        ([f"{i:02d}" + "x" * 198 for i in range(12)], 10),
    ],
)
def test_too_many_search_domains_are_cut_with_a_warning(searches, kept):
    found = build_dns_config(make_pod(dnsPolicy="None", dnsConfig={"searches": searches}), NODE, HOST)
    assert len(found.searches) == kept
    assert found.warnings[0][1].startswith("Search Line limits were exceeded, some search paths have been omitted")
