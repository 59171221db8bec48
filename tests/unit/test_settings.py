"""Settings: what is accepted, and the one line that says what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from vk_provider.errors import BadStartError
from vk_provider.settings import load_settings

MINIMAL = '[[nodes]]\nname = "n1"\n'


def load(tmp_path: Path, text: str, **environment: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "c.toml"
    path.write_text(text)
    return load_settings(path, environment)


def test_a_name_is_all_a_node_needs(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.nodes[0].port == 10250
    assert settings.nodes[0].taints[0].key == "virtual-kubelet.io/provider"
    assert settings.cloud.backend == "local"


def test_the_environment_overrides_a_value(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, VK_PROVIDER_CLUSTER_KUBECONFIG="/k", VK_PROVIDER_CLUSTER_DNS="10.0.0.1,10.0.0.2")
    assert settings.cluster.kubeconfig == "/k"
    assert settings.cluster.dns == ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nodes is missing"),
        ("nodes = []\n", "nodes is empty"),
        (MINIMAL + '[nodes.capacity]\ncpu = "many"\nmemory = "1Gi"\npods = "1"\n', "cpu 'many' is not a quantity"),
        (MINIMAL + "[identity]\ncertificate_ttl_s = 1\n", "certificate_ttl_s must be at least"),
        (MINIMAL + 'colour = "red"\n', "unknown key nodes[0].colour"),
        (MINIMAL + "[cloud]\nspeed = 1\n", "unknown key cloud.speed"),
        (MINIMAL + 'port = "10250"\n', "nodes[0].port must be a int"),
        (MINIMAL + "port = 123456\n", "is not a TCP port"),
        (MINIMAL + 'address = "here"\n', "is not an IP address"),
        (MINIMAL + MINIMAL, "two nodes have the same name"),
        (MINIMAL + '[[nodes]]\nname = "n2"\n', "same address and port"),
        ('[[nodes]]\nname = "Bad Name"\n', "is not a DNS subdomain name"),
        ('[[nodes]]\nname = "a..b"\n', "is not a DNS subdomain name"),
        (f'[[nodes]]\nname = "{"a" * 64}"\n', "is too long for the label kubernetes.io/hostname"),
        (MINIMAL + 'labels = { "a b" = "c" }\n', "nodes[0].labels: 'a b' is not a label key"),
        (MINIMAL + 'labels = { "Example.com/a" = "c" }\n', "nodes[0].labels: 'Example.com/a' is not a label key"),
        (MINIMAL + 'labels = { type = "a b" }\n', "nodes[0].labels.type 'a b' is not a label value"),
        (MINIMAL + 'zone = "eu west"\n', "nodes[0].zone 'eu west' is not a label value"),
        (MINIMAL + '[[nodes.taints]]\nkey = ""\n', "nodes[0].taints[0].key '' is not a taint key"),
        (MINIMAL + '[[nodes.taints]]\nkey = "k"\nvalue = "-"\n', "nodes[0].taints[0].value '-' is not a taint value"),
        (MINIMAL + 'shared_host_paths = ["/etc/x"]\n', "nodes[0].shared_host_paths: '/etc/x' is not below one of"),
        (MINIMAL + "[cloud.local]\nshared_bytes = 1\n", "cloud.local.shared_bytes must be at least"),
        (
            MINIMAL + '[pods]\ndaemonsets = "never ever"\n',
            'pods.daemonsets must be "refuse", "run" or a label selector',
        ),
        (MINIMAL + '[cloud]\nbackend = "mars"\n', "must be one of 'local', 'simulated'"),
        (MINIMAL + '[cloud.local]\nsubnet = "10.0.0.0/30"\n', "/24 or larger"),
        (MINIMAL + '[cloud.local]\nsubnet = "fd00:1::/64"\n', "instances with IPv6 addresses alone are not supported"),
        (MINIMAL + 'ipv6_address = "10.0.0.1"\n', "ipv6_address '10.0.0.1' is not an IPv6 address"),
        (MINIMAL + 'ipv6_address = "nowhere"\n', "ipv6_address 'nowhere' is not an IP address"),
        (MINIMAL + 'address = "fd00::1"\nipv6_address = "fd00::2"\n', "IPv4 is the primary family of pods"),
        (MINIMAL + '[kubelet]\nserving_certificate = "files"\n', "needs certificate_file and key_file"),
        (MINIMAL + 'capacity = { cpu = "1" }\n', "capacity.memory is missing"),
        ("[[nodes]\n", "is not valid TOML"),
        (MINIMAL + "[cloud.local]\nlaunch_concurrency = 0\n", "cloud.local.launch_concurrency must be more than 0"),
        (MINIMAL + "[cloud]\norphan_sweep_s = 0\n", "cloud.orphan_sweep_s must be more than 0"),
        (MINIMAL + "[cloud]\nagent_monitor_grace_s = -1\n", "cloud.agent_monitor_grace_s must be more than 0"),
        (MINIMAL + "[cloud]\nboot_timeout_s = nan\n", "cloud.boot_timeout_s must be a finite number"),
        (MINIMAL + "[cloud.local]\nboot_credit_s = -1.0\n", "cloud.local.boot_credit_s must not be negative"),
        (MINIMAL + "[kubelet]\nhealthz_port = 99999\n", "kubelet.healthz_port 99999 is not a TCP port"),
        (MINIMAL + '[kubelet]\nhealthz_address = "nowhere"\n', "healthz_address 'nowhere' is not an IP address"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadStartError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_and_taints_that_kubernetes_takes_are_taken(tmp_path: Path) -> None:
    labels = 'labels = { "example.com/Team_a" = "x.Y-z", empty = "" }\n'
    settings = load(tmp_path, MINIMAL + labels + '[[nodes.taints]]\nkey = "example.com/only"\n')
    assert settings.nodes[0].labels == {"example.com/Team_a": "x.Y-z", "empty": ""}
    assert settings.nodes[0].taints[0].key == "example.com/only"


def test_a_table_that_is_none_is_named_although_the_environment_sets_a_key_of_it(tmp_path: Path) -> None:
    with pytest.raises(BadStartError, match="cluster must be a table"):
        load(tmp_path, 'cluster = "here"\n' + MINIMAL, VK_PROVIDER_CLUSTER_KUBECONFIG="/k")


def test_a_number_in_the_environment_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadStartError, match="cloud.boot_timeout_s must be a float, not 'soon'"):
        load(tmp_path, MINIMAL, VK_PROVIDER_CLOUD_BOOT_TIMEOUT_S="soon")


def test_a_missing_file_is_a_bad_start(tmp_path: Path) -> None:
    with pytest.raises(BadStartError, match="cannot read the configuration"):
        load_settings(tmp_path / "none.toml")
