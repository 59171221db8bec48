"""The machine of a real kubelet: its configuration."""

import json

from tests.cluster.kubelet import config as texts
from tests.cluster.kubelet.config import NodeConfig

CONFIG = NodeConfig(
    name="kubelet",
    network="10.212.0.0/23",
    registry="10.211.0.1:5000",
    images=("10.211.0.1:5000/busybox:latest",),
    dns="10.96.0.10",
    directory="/state",
    hierarchies=(("/sys/fs/cgroup/memory", "memory", False),),
    programs={"kubelet": "/k", "kube-proxy": "/p", "containerd": "/c", "ctr": "/t"},
    containerd_version=(1, 6, 20),
)


def test_the_first_process_reads_what_the_launcher_has_written() -> None:
    assert NodeConfig.from_text(CONFIG.to_text()) == CONFIG


def test_one_half_of_the_network_is_the_cable_and_the_other_the_pods() -> None:
    assert (CONFIG.host_address, CONFIG.address) == ("10.212.0.1", "10.212.0.2")
    assert str(CONFIG.pods) == "10.212.1.0/24"
    assert "route add 10.212.1.0/24 via 10.212.0.2 dev vr-kubelet" in texts.host_batch(CONFIG, "vr-kubelet", "ns")


def test_a_kubelet_of_this_machine_runs_on_cgroup_v1_and_evicts_nothing_for_its_disk() -> None:
    kubelet = texts.kubelet_configuration(CONFIG)
    assert kubelet["failCgroupV1"] is False
    assert set(kubelet["evictionHard"].values()) == {"0%"}
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}


def test_the_pods_bridge_has_the_pods_network_and_host_ports() -> None:
    plugins = texts.cni_configuration(CONFIG)["plugins"]
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.212.1.0/24"}]]
    assert plugins[1]["capabilities"] == {"portMappings": True}


def test_the_files_hold_the_registry_and_the_configuration() -> None:
    files = texts.files(CONFIG, "toml", {"kubelet": "kubeconfig"})
    assert 'server = "http://10.211.0.1:5000"' in files["/etc/containerd/certs.d/10.211.0.1:5000/hosts.toml"]
    assert json.loads(files["/etc/kubelet/kubelet.json"])["kind"] == "KubeletConfiguration"
    assert files["/etc/kubelet/kubelet.kubeconfig"] == "kubeconfig"


def test_the_kubelets_pods_get_the_same_topology_labels_as_ours() -> None:
    assert "--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone=local-a" in (
        texts.kubelet_arguments(CONFIG)
    )


def test_a_pods_address_is_its_own_all_over_the_cluster() -> None:
    assert texts.cni_configuration(CONFIG)["plugins"][0]["ipMasq"] is False
    assert "--detect-local-mode=BridgeInterface" in texts.proxy_arguments(CONFIG)


def test_this_machine_forwards_between_the_node_and_the_instances_and_nowhere_else() -> None:
    table = texts.forwarding_table("ours", ("vk-diff", "vr-diff"))
    assert 'iifname { "vk-diff", "vr-diff" } oifname != { "vk-diff", "vr-diff" } drop' in table
