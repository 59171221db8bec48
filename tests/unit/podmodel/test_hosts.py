import pytest

from tests.unit.podmodel.builders import CONTEXT, make_pod
from vk_provider.podmodel.errors import InvalidHostnameError
from vk_provider.podmodel.hostname import build_hostname, build_kernel_hostname
from vk_provider.podmodel.hosts import build_hosts_file

LOCAL = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
)


def test_the_managed_hosts_file_names_the_pod():
    assert build_hosts_file(make_pod(), CONTEXT, "x") == (
        "# Kubernetes-managed hosts file.\n" + LOCAL + "10.1.0.5\tweb\n"
    )


def test_a_subdomain_gives_the_full_name_and_aliases_follow():
    aliases = [{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}, {"ip": "5.6.7.8", "hostnames": ["baz"]}]
    pod = make_pod(hostname="h", subdomain="sub", hostAliases=aliases)
    assert build_hosts_file(pod, CONTEXT, "") == (
        "# Kubernetes-managed hosts file.\n" + LOCAL + "10.1.0.5\th.sub.shop.svc.cluster.local\th\n"
        "\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n5.6.7.8\tbaz\n"
    )


def test_a_host_network_pod_gets_the_instances_file_and_its_aliases():
    pod = make_pod(hostNetwork=True, hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo"]}])
    assert build_hosts_file(pod, CONTEXT, "127.0.0.1 localhost\n") == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        "\n# Entries added by HostAliases.\n1.2.3.4\tfoo\n"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("web", "")),
        ({"hostname": "h"}, ("h", "")),
        ({"hostname": "h", "subdomain": "s"}, ("h", "s.shop.svc.cluster.local")),
        ({"hostnameOverride": "my.own.name", "subdomain": "s", "hostname": "h"}, ("my.own.name", "")),
    ],
)
def test_the_host_name_comes_from_the_spec(spec, expected):
    assert build_hostname(make_pod(**spec), "cluster.local") == expected


def test_a_long_pod_name_is_cut_to_a_valid_host_name():
    pod = make_pod(metadata={"name": "a" * 61 + "-.b" + "c" * 10})
    assert build_hostname(pod, "cluster.local")[0] == "a" * 61


@pytest.mark.parametrize("spec", [{"hostname": "UP"}, {"subdomain": "a.b"}, {"hostnameOverride": "bad_name"}])
def test_invalid_names_are_refused(spec):
    with pytest.raises(InvalidHostnameError):
        build_hostname(make_pod(**spec), "cluster.local")


def test_the_kernels_host_name_may_be_the_full_name():
    pod = make_pod(subdomain="s", setHostnameAsFQDN=True)
    assert build_kernel_hostname(pod, "cluster.local") == "web.s.shop.svc.cluster.local"
    assert build_kernel_hostname(make_pod(subdomain="s"), "cluster.local") == "web"
    with pytest.raises(
        InvalidHostnameError, match=r"is too long \(64 characters is the max, 77 characters requested\)"
    ):
        build_kernel_hostname(make_pod(subdomain="s" * 50, setHostnameAsFQDN=True), "cluster.local")
