"""What is taken away before two pods are compared, and what is not."""

from typing import Any

import pytest

from tests.differential.normalise import (
    FIELD_RULES,
    TEXT_RULES,
    Own,
    normalise_status,
    normalise_text,
    own_of,
    without_unlimited,
)
from tests.unit.differential.histories import pod

OWN = Own("diff-v-00", "nodeless", "uid-1", ("10.0.0.7",), ("10.9.9.9",))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("back-off 10s restarting x_diff-v-00(uid-1)", "back-off DURATION restarting x_NAMESPACE(UID)"),
        ("called.sub.diff-v-00.svc.cluster.local", "called.sub.NAMESPACE.svc.cluster.local"),
        ("dial tcp 10.0.0.7:81: refused", "dial tcp POD_IP:81: refused"),
        ("read tcp 10.9.9.9:43210->10.0.0.7:81: reset", "read tcp HOST_IP:PORT->POD_IP:81: reset"),
        ("containerd://" + "ab" * 32, "containerd://ID"),
        ("in /var/run/netns/cni-1f0c7ba2-00aa-4bcd-9e8f-0123456789ab: no", "in /var/run/netns/cni-ID: no"),
        ("lookup a.b on 10.0.0.5:53: no such host", "lookup a.b: no such host"),
        ("lookup a.b: no such host", "lookup a.b: no such host"),
        ("task " + "01" * 32 + " not found", "task ID not found"),
        ("pulled in 12ms (12ms including waiting). Size", "pulled in DURATION. Size"),
        ("at 2026-11-28T10:11:12.123456789Z it", "at TIME it"),
        ("MountVolume of kube-api-access-x7k2p", "MountVolume of kube-api-access-NAME"),
        ("E1129 02:06:01.1     471 portforward.go:549] lost", "E1129 TIME PID portforward.go:549] lost"),
        ("(combined from similar events): Liveness probe failed: no\n", "(combined from similar events)"),
        ("x\nerror: lost connection to pod\n", "x\nerror: lost connection to pod\n"),
        (
            "error forwarding port 81 to pod a: b\nerror: lost connection to pod\n",
            "error forwarding port 81 to pod a: b\n",
        ),
        ("on nodeless-2 and nodeless", "on nodeless-2 and NODE"),
        ("10.0.0.70 is another", "10.0.0.70 is another"),
        ("exit code 137", "exit code 137"),
    ],
)
def test_a_text_keeps_what_the_twins_have_in_common(given: str, expected: str) -> None:
    assert normalise_text(given, OWN) == expected


def test_that_a_name_server_does_not_answer_counts_as_no_such_host_for_the_kubelet_alone() -> None:
    text = "lookup a.b on 10.0.0.5:53: read udp 10.0.0.6:34711->10.0.0.5:53: i/o timeout"
    assert normalise_text(text, Own("diff-k-00", "kubelet", "uid-2")) == "lookup a.b: no such host"
    assert "i/o timeout" in normalise_text(text, OWN)


def test_the_directory_of_a_kubelet_is_no_name_of_a_node() -> None:
    own = Own("diff-k-00", "kubelet", "uid-2")
    assert normalise_text("on kubelet: open /var/lib/kubelet/seccomp", own) == "on NODE: open /var/lib/kubelet/seccomp"


def test_every_rule_has_a_reason() -> None:
    assert all(rule.reason for rule in (*TEXT_RULES, *FIELD_RULES))


def test_times_and_addresses_count_by_presence() -> None:
    first, second = pod("u", "10.0.0.1", startTime="a"), pod("u", "10.0.0.2", startTime="b")
    own = [own_of("n", "x", [item]) for item in (first, second)]
    assert normalise_status(first, own[0]) == normalise_status(second, own[1])
    without = pod("u", "10.0.0.2")
    assert normalise_status(first, own[0]) != normalise_status(without, own[1])


def test_the_address_of_a_pod_on_the_host_network_is_the_hosts() -> None:
    own = own_of("n", "x", [pod("u", "10.9.9.9")])
    assert own.addresses == () and own.hosts == ("10.9.9.9",)


UNSET = {"memory": "9007199254740988Ki"}
"""As cgroup v1 says it."""


@pytest.mark.parametrize(
    ("ours", "theirs", "left"),
    [
        (
            {"limits": {"memory": "32Mi", "cpu": "1"}},
            {"limits": {**UNSET, "cpu": "1"}},
            ({"limits": {"cpu": "1"}},) * 2,
        ),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1"}, "limits": UNSET}, ({"requests": {"cpu": "1"}},) * 2),
        (None, {"limits": UNSET}, (None, None)),
        ({"limits": {"memory": "32Mi"}}, None, ({"limits": {"memory": "32Mi"}}, None)),
        ({"limits": {"cpu": "1"}}, {"limits": UNSET}, ({"limits": {"cpu": "1"}}, None)),
    ],
)
def test_where_one_says_that_nobody_has_set_a_limit_the_other_may_say_any(ours: Any, theirs: Any, left: Any) -> None:
    assert without_unlimited(ours, theirs) == left


def test_containers_and_conditions_are_found_by_name_whatever_their_order() -> None:
    conditions = [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]
    first, second = pod("u", conditions=conditions), pod("u", conditions=conditions[::-1])
    assert normalise_status(first, OWN) == normalise_status(second, OWN)


def test_an_image_counts_by_its_repository() -> None:
    images = ("10.0.0.1:5000/busybox:latest", "10.0.0.1:5000/busybox:1.35", "10.0.0.1:5000/other:1")
    shown = [normalise_status(pod("u", "10.0.0.7", "Running", {"name": "main", "image": name}), OWN) for name in images]
    assert shown[0] == shown[1] != shown[2]


def test_the_address_of_the_registry_is_not_the_pods_own_also_where_a_pod_without_an_instance_names_it() -> None:
    seen = pod("u", "")
    image = {"name": "main", "image": "10.9.9.9:5000/busybox:latest"}
    seen["status"] |= {"hostIPs": [{"ip": "10.9.9.9"}, {"ip": "fd00::9"}], "containerStatuses": [image]}
    own = own_of("n", "x", [seen])
    assert own.hosts == ("fd00::9",)
    assert normalise_status(seen, own)["containerStatuses"]["main"]["image"] == "10.9.9.9:5000/busybox"
