"""Settings: what is accepted, and the one line that says what is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from vk_provider.cloud.discovery import find_backends, load_backend
from vk_provider.cloud.local.config import configure
from vk_provider.cloud.local.store import InstanceStore
from vk_provider.errors import BadStartError
from vk_provider.settings import Settings, WindowSettings, load_settings
from vk_provider.settings.build import SettingError

MINIMAL = '[[nodes]]\nname = "n1"\n'


def load(tmp_path: Path, text: str, **environment: str):
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
        (MINIMAL + '[[registries]]\nhost = "https://r.example/"\n', "host 'https://r.example/' is no host[:port]"),
        (MINIMAL + '[pods]\ndefault_cpu = "much"\n', "pods.default_cpu 'much' is not a quantity"),
        (MINIMAL + '[pods]\nmax_root_disk = "much"\n', "pods.max_root_disk 'much' is not a quantity"),
        (MINIMAL + "[pods]\ncapacity_types = []\n", "pods.capacity_types is empty"),
        (MINIMAL + '[pods]\ncapacity_types = ["cheap"]\n', "pods.capacity_types[0] must be one of 'on-demand', 'spot'"),
        (MINIMAL + '[pods]\nlaunch_options = ["everything"]\n', "pods.launch_options[0] must be one of 'subnet', "),
        (MINIMAL + 'colour = "red"\n', "unknown key nodes[0].colour"),
        (MINIMAL + "[cloud]\nspeed = 1\n", "unknown key cloud.speed"),
        (MINIMAL + "[cloud]\nspeed = 1\n", "local, orphan_min_age_s, orphan_sweep_s, owner, simulated)"),
        (MINIMAL + "[cloud]\nown = 1\n", "unknown key cloud.own"),
        (MINIMAL + "[cloud.local]\nspeed = 1\n", "unknown key cloud.local.speed (known here: boot_credit_s, "),
        (MINIMAL + "[cloud.simulated]\nspeed = 1\n", "unknown key cloud.simulated.speed (known here: boot_latency_s, "),
        (MINIMAL + "cloud = 1\n", "unknown key nodes[0].cloud"),
        ("cloud = 1\n" + MINIMAL, "cloud must be a table"),
        (MINIMAL + "[[pools]]\n", "pools[0].name is missing"),
        (MINIMAL + '[[pools]]\nname = "p"\n', "pools[0]: an instance_type is needed, or cpu and memory"),
        (MINIMAL + '[[pools]]\nname = "p q"\ninstance_type = "t"\n', "pools[0].name 'p q' is not a label value"),
        (MINIMAL + '[[pools]]\nname = "p"\nnode = "n2"\ninstance_type = "t"\n', "pools[0].node 'n2' is none of"),
        (MINIMAL + '[[pools]]\nname = "p"\ncpu = "x"\nmemory = "1Gi"\n', "pools[0].cpu 'x' is not a quantity"),
        (MINIMAL + '[[pools]]\nname = "p"\ninstance_type = "t"\ncount = -1\n', "pools[0].count must be at least 0"),
        (
            MINIMAL + '[[pools]]\nname = "p"\ninstance_type = "t"\n[[pools.schedule]]\ncount = 1\nhours = "8-9"\n',
            "pools[0].schedule[0].hours '8-9' is not of the form 07:30-19:00",
        ),
        (
            MINIMAL + '[[pools]]\nname = "p"\ninstance_type = "t"\n' * 2,
            "pools: two pools have the same name",
        ),
        (MINIMAL + "[cloud]\nlocal = 1\n", "cloud.local must be a table"),
        (MINIMAL + "labels = { type = 3 }\n", "nodes[0].labels.type must be a str, not 3"),
        (MINIMAL + "taint = 1\n", "nodes[0].taint must be a bool, not 1"),
        (MINIMAL + "port = true\n", "nodes[0].port must be a int, not True"),
        (MINIMAL + "[cluster]\ndns = [1]\n", "cluster.dns[0] must be a str, not 1"),
        (MINIMAL + '[logs]\nformat = "xml"\n', "logs.format must be one of 'text', 'json', not 'xml'"),
        (MINIMAL + 'port = "10250"\n', "nodes[0].port must be a int"),
        (MINIMAL + "port = 123456\n", "nodes[0].port must be a TCP port, not 123456"),
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
        (MINIMAL + '[cloud]\nbackend = "mars"\n', "must be one of 'aws', 'local', 'simulated'"),
        (MINIMAL + '[cloud.local]\nsubnet = "10.0.0.0/27"\n', "/26 or larger"),
        (
            MINIMAL + '[cloud.local]\nsubnet = "10.0.0.1/16"\n',
            "cloud.local.subnet must be an IPv4 network: 10.0.0.1/16 has host",
        ),
        (MINIMAL + '[cloud.local]\nipv6_subnet = "fd00::/97"\n', "cloud.local.ipv6_subnet: fd00::/97 is too small"),
        (MINIMAL + '[cloud]\nbackend = "simulated"\n[cloud.local]\nname = "A"\n', "cloud.local.name 'A' must be"),
        (MINIMAL + '[cloud.local]\nsubnet = "fd00:1::/64"\n', "instances with IPv6 addresses alone are not supported"),
        (MINIMAL + 'ipv6_address = "10.0.0.1"\n', "ipv6_address '10.0.0.1' is not an IPv6 address"),
        (MINIMAL + 'ipv6_address = "nowhere"\n', "ipv6_address 'nowhere' is not an IP address"),
        (MINIMAL + 'address = "fd00::1"\nipv6_address = "fd00::2"\n', "IPv4 is the primary family of pods"),
        (MINIMAL + '[kubelet]\nserving_certificate = "files"\n', "needs certificate_file and key_file"),
        (MINIMAL + '[kubelet]\nserving_signer = "kubelet-serving"\n', "is no signerName"),
        (MINIMAL + 'capacity = { cpu = "1" }\n', "capacity.memory is missing"),
        ("[[nodes]\n", "is not valid TOML"),
        (MINIMAL + "[cloud.local]\nlaunch_concurrency = 0\n", "cloud.local.launch_concurrency must be more than 0"),
        (MINIMAL + "[cloud]\norphan_sweep_s = 0\n", "cloud.orphan_sweep_s must be more than 0"),
        (MINIMAL + "[cloud]\nagent_monitor_grace_s = -1\n", "cloud.agent_monitor_grace_s must be more than 0"),
        (MINIMAL + "[cloud]\nboot_timeout_s = nan\n", "cloud.boot_timeout_s must be a finite number"),
        (MINIMAL + "[cloud]\nboot_timeout_s = inf\n", "cloud.boot_timeout_s must be a finite number, not inf"),
        (MINIMAL + "[cloud.local]\nboot_credit_s = -1.0\n", "cloud.local.boot_credit_s must be at least 0, not -1.0"),
        (MINIMAL + "[kubelet]\nhealthz_port = 99999\n", "kubelet.healthz_port must be a TCP port, not 99999"),
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


def test_the_smallest_subnet_has_room_for_instances(tmp_path: Path) -> None:
    """See LONGEST_PREFIX; the same limit holds for `vk-provider local-cloud --subnet`."""
    own = load(tmp_path, MINIMAL + '[cloud.local]\nsubnet = "10.0.0.0/26"\n').cloud.own
    store = InstanceStore(configure(dataclasses.replace(own, state_dir=str(tmp_path)), {}))
    store.prepare()
    taken = {store.allocate_addresses(f"i-{number}") for number in range(23)}
    assert len(taken) == 23


def test_what_the_cloud_s_table_says_is_kept_in_the_class_of_the_backend(tmp_path: Path) -> None:
    local = load(tmp_path, MINIMAL + '[cloud.local]\npreload = ["a"]\nlaunch_concurrency = 9\n').cloud
    assert (local.own.preload, local.own.launch_concurrency, local.own.max_instances) == (("a",), 9, 250)
    tables = "[cloud.simulated]\nlaunch_latency_s = 2\n[cloud.local]\nmax_instances = 3\n"
    cloud = load(tmp_path, MINIMAL + tables, VK_PROVIDER_CLOUD_BACKEND="simulated").cloud
    assert (cloud.backend, cloud.own.launch_latency_s) == ("simulated", 2.0)


def tables_of(table: Any) -> set[Any]:
    found = {table}
    for hint in get_type_hints(table).values():
        for part in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(part):
                found |= tables_of(part)
    return found


def test_every_number_has_a_lower_limit() -> None:
    tables = tables_of(Settings) | {load_backend(name).settings for name in find_backends()}
    checked = 0
    for table in tables:
        for name, hint in get_type_hints(table, include_extras=True).items():
            kind, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if kind in (int, float):
                limit = next((each for each in limits if isinstance(each, msgspec.Meta)), msgspec.Meta())
                assert (limit.gt, limit.ge) != (None, None), f"{table.__name__}.{name}"
                checked += 1
    assert checked > 15


def test_the_hours_of_a_pool_are_minutes_that_may_end_on_the_next_day(tmp_path: Path) -> None:
    text = '[[pools]]\nname = "p"\ncpu = "1"\nmemory = "1Gi"\n[[pools.schedule]]\ncount = 5\nhours = "22:15-06:00"\n'
    (pool,) = load(tmp_path, MINIMAL + text + 'days = ["fri"]\n').pools
    assert pool.schedule[0].minutes() == (22 * 60 + 15, 30 * 60) and pool.schedule[0].days == ("fri",)
    assert WindowSettings(1, "00:00-24:00").minutes() == (0, 24 * 60)
    with pytest.raises(SettingError):
        WindowSettings(1, "00:00-24:30").minutes()
