"""Grace periods, resize plans, local storage limits, probe thresholds, HTTP actions, termination messages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.agent.worker.builders import container, deleted, pod, sidecar
from vk_provider.agent.worker.container.pulling import format_duration
from vk_provider.agent.worker.container.starter import find_thermal_throttles
from vk_provider.agent.worker.container.termination import (
    GracePeriod,
    TerminationOrder,
    kill_grace_s,
    pod_grace_s,
    stop_container,
)
from vk_provider.agent.worker.http.request import build_headers, build_url, resolve_port
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.probes.schedule import ProbeCounter
from vk_provider.agent.worker.rules.backoff import BackoffTable
from vk_provider.agent.worker.rules.eviction import find_exceeded_limit, has_local_storage_limit
from vk_provider.agent.worker.rules.resize import (
    decreasing_memory_limits,
    find_misfit,
    plan_resize,
    refuse_memory_decrease,
    with_allocated,
)
from vk_provider.agent.worker.rules.spec import back_off_key
from vk_provider.agent.worker.sandbox.config import build_sandbox_config
from vk_provider.agent.worker.status.messages import read_log_end, read_termination_message
from vk_provider.jsontypes import Json
from vk_provider.podmodel.dns import DnsConfig

MAIN = container("main")


def resources(**requests: str) -> dict:
    return {"requests": requests, "limits": requests}


@pytest.mark.parametrize(
    ("spec", "deletion", "override", "expected"),
    [(30, None, None, 30), (0, None, None, 1), (30, 5, None, 5), (30, 0, None, 1), (30, 20, 3, 3), (30, None, 7, 7)],
)
def test_a_pods_grace_is_the_shortest_given_and_at_least_a_second(
    spec: int, deletion: int | None, override: int | None, expected: int
) -> None:
    wanted = pod(MAIN, terminationGracePeriodSeconds=spec)
    assert pod_grace_s(wanted if deletion is None else deleted(wanted, deletion), override) == expected


def test_a_probes_own_grace_wins_over_the_pods_but_not_over_deletion() -> None:
    probed = container("main", livenessProbe={"terminationGracePeriodSeconds": 3}, startupProbe={})
    wanted = pod(probed, terminationGracePeriodSeconds=60)
    assert kill_grace_s(wanted, probed, "liveness") == 3
    assert kill_grace_s(wanted, probed, "startup") == 60
    assert kill_grace_s(deleted(wanted, 9), probed, "liveness") == 9


def test_restarts_are_counted_anew_after_a_new_image_or_new_resources() -> None:
    known = back_off_key(container("main", resources={"limits": {"cpu": "1"}}))
    assert known == back_off_key(container("main", resources={"limits": {"cpu": "1"}}, args=["x"]))
    assert known != back_off_key(container("main", resources={"limits": {"cpu": "2"}}))
    assert known != back_off_key(container("main", image="busybox:2", resources={"limits": {"cpu": "1"}}))


async def test_sidecars_wait_for_regular_containers_and_for_later_sidecars() -> None:
    order = TerminationOrder(pod(MAIN, init=[sidecar("a"), sidecar("b")]), ["main", "a", "b"])
    assert order.predecessors("main") == []
    first, second = order.predecessors("b"), order.predecessors("a")
    assert len(first) == 1 and len(second) == 2
    order.set_ended("main")
    assert first[0].done() and not all(future.done() for future in second)
    order.set_ended("b")
    assert all(future.done() for future in second)


async def test_stopping_leaves_two_seconds_and_starts_over_when_shortened() -> None:
    now = [100.0]
    grace = GracePeriod(60, clock=lambda: now[0])
    given: list[int] = []
    release = asyncio.Event()

    async def stop(timeout_s: int) -> None:
        given.append(timeout_s)
        if len(given) == 1:
            await release.wait()

    task = asyncio.create_task(stop_container(grace=grace, predecessors=[], pre_stop=None, stop=stop))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not grace.shorten(90)
    assert grace.shorten(1)
    await task
    assert given == [60, 2]


def test_back_off_doubles_from_ten_seconds_to_five_minutes() -> None:
    table = BackoffTable()
    assert table.remaining_s("c", 0.0, 0.0) == 0
    waits = []
    now = 0.0
    for _ in range(7):
        table.next("c", now, now)
        waits.append(table.remaining_s("c", now, now))
        now += waits[-1]
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    assert table.remaining_s("c", now + 1000, now + 1000) == 0
    copy = BackoffTable()
    copy.load_document(table.to_document())
    assert copy.delay_s("c") == 300


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (["failure", "failure", "failure"], [None, None, "failure"]),
        (["failure", "success", "failure", "success", "success"], [None, None, None, None, "success"]),
    ],
)
def test_results_count_in_a_row(results: list, expected: list) -> None:
    counter = ProbeCounter(failure_threshold=3, success_threshold=2)
    assert [counter.count(result) for result in results] == expected


def test_resizes_shrink_before_they_grow_and_restart_where_asked() -> None:
    grow = container("grow", resources=resources(cpu="2"))
    shrink = container("shrink", resources=resources(cpu="1"))
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    again = container("again", resources=resources(memory="2Gi"), resizePolicy=policy)
    same = container("same", resources=resources(cpu="1"))
    actuated = {
        "grow": resources(cpu="1"),
        "shrink": resources(cpu="2"),
        "again": resources(memory="1Gi"),
        "same": resources(cpu="1000m"),
    }
    plan = plan_resize(pod(grow, shrink, again, same), actuated, {}, frozenset(actuated))
    assert (plan.update["cpu"], plan.update["memory"], plan.restart) == (("shrink", "grow"), (), frozenset({"again"}))
    assert plan_resize(pod(grow), actuated, {}, frozenset()).is_empty


def test_only_resources_are_taken_from_what_was_allocated() -> None:
    wanted = pod(container("main", image="busybox:2", resources=resources(cpu="4")))
    effective = with_allocated(wanted, {"main": resources(cpu="1")}, {})
    assert effective["spec"]["containers"][0]["resources"] == resources(cpu="1")
    assert effective["spec"]["containers"][0]["image"] == "busybox:2"
    assert with_allocated(wanted, {"main": resources(cpu="4")}, {}) is wanted
    assert with_allocated(wanted, {}, {"limits": {"cpu": "1"}})["spec"]["resources"] == {"limits": {"cpu": "1"}}


def test_a_request_beyond_the_instance_does_not_fit() -> None:
    wanted = pod(container("main", resources=resources(cpu="4")))
    assert find_misfit(wanted, {"cpu": "2"}) == "Node didn't have enough capacity: cpu, requested: 4000, capacity: 2000"
    assert find_misfit(wanted, {"cpu": "4"}) == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"net.ipv4.ping_group_range": "0 2147483647"}),
        ({"hostNetwork": True}, {}),
        (
            {"securityContext": {"sysctls": [{"name": "net.ipv4.ping_group_range", "value": "1 0"}]}},
            {"net.ipv4.ping_group_range": "1 0"},
        ),
    ],
)
def test_a_pod_with_its_own_network_may_ping_without_a_capability(fields: Json, expected: dict[str, str]) -> None:
    config = build_sandbox_config(pod(container("a"), **fields), 0, DnsConfig(), "host")
    assert dict(config.linux.sysctls) == expected


def test_thermal_counters_are_masked_where_there_are_any(tmp_path: Path) -> None:
    for name in ("cpu1/thermal_throttle", "cpu0/thermal_throttle", "cpu2/cache", "cpufreq/thermal_throttle"):
        (tmp_path / name).mkdir(parents=True)
    assert find_thermal_throttles(tmp_path) == (
        f"{tmp_path}/cpu0/thermal_throttle",
        f"{tmp_path}/cpu1/thermal_throttle",
    )
    assert find_thermal_throttles(tmp_path / "none") == ()


def test_local_storage_limits_are_found_in_the_kubelets_order() -> None:
    limited = container("main", resources={"limits": {"ephemeral-storage": "1Mi"}})
    wanted = pod(limited, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}])
    assert has_local_storage_limit(wanted) and not has_local_storage_limit(pod(MAIN))
    mib = 1 << 20
    assert find_exceeded_limit(wanted, {"v": mib}, {}) == ""
    assert find_exceeded_limit(wanted, {"v": mib + 1}, {}) == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    whole = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    assert find_exceeded_limit(wanted, {"v": mib}, {"main": 1}) == whole
    partly = pod(limited, container("free"))
    text = 'Container main exceeded its local ephemeral storage limit "1Mi". '
    assert find_exceeded_limit(partly, {}, {"main": mib + 1}) == text


def test_an_http_action_names_host_port_and_path() -> None:
    named = container("main", ports=[{"name": "web", "containerPort": 8080}])
    url = build_url({"port": "web", "path": "healthz?x=1"}, named, "10.0.0.3")
    assert str(url) == "http://10.0.0.3:8080/healthz?x=1"
    assert str(build_url({"port": 1, "scheme": "HTTPS", "host": "fd00::1"}, named, "")) == "https://[fd00::1]:1/"
    with pytest.raises(ValueError, match='port "admin" not found'):
        resolve_port("admin", named)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a b?q=c d", "/a%20b?q=c d"),
        ("/a\r\nX: y", "/a%0D%0AX:%20y"),
        ("/a?b\r\nX: y", "/a%3Fb%0D%0AX:%20y"),
        ("/a%20b", "/a%20b"),
        ("/100%", "/100%25"),
        ("/100%?x=1", "/100%25%3Fx=1"),
        ("/\u00e4", "/%C3%A4"),
        ("/a?q=100%", "/a?q=100%"),
        ("/v1/a:b,c;d=(e)!*'?f=[g]&h=$i", "/v1/a:b,c;d=(e)!*'?f=[g]&h=$i"),
    ],
)
def test_a_path_is_escaped_where_it_has_to_be(path: str, sent: str) -> None:
    assert build_url({"port": 1, "path": path}, MAIN, "10.0.0.3").raw_path_qs == sent


def test_headers_can_be_replaced_and_left_out() -> None:
    headers = build_headers({"httpHeaders": [{"name": "accept", "value": ""}, {"name": "Host", "value": "h"}]}, "probe")
    assert dict(headers) == {"Host": "h", "User-Agent": "kube-probe/1.37"}
    assert build_headers({}, "lifecycle")["User-Agent"] == "kube-lifecycle/1.37"


@pytest.mark.parametrize(
    ("file_text", "fallback", "expected"),
    [("why", True, "why"), ("", True, "one\ntwo"), ("", False, ""), ("x" * 5000, True, "x" * 4096)],
)
def test_the_termination_message_is_the_file_or_the_end_of_the_log(
    tmp_path: Path, file_text: str, fallback: bool, expected: str
) -> None:
    message, log = tmp_path / "message", tmp_path / "0.log"
    message.write_text(file_text)
    log.write_text("2026-01-01T00:00:00.0Z stdout F one\n2026-01-01T00:00:00.0Z stderr P two\n")
    mounts = {"/dev/termination-log": str(message)}
    for path in ("/dev/termination-log", "dev/termination-log"):
        assert read_termination_message(mounts, path, str(log), fallback_to_logs=fallback) == expected


@pytest.mark.parametrize("before", [0, 1, 9])
def test_the_end_of_a_log_with_long_lines_is_found(tmp_path: Path, before: int) -> None:
    log, stamp = tmp_path / "0.log", "2026-01-01T00:00:00.000000000Z stderr"
    log.write_text(f"{stamp} F {'a' * 16384}\n" * before + f"{stamp} P {'b' * 16384}\n")
    assert read_log_end(log) == "b" * 2048


def test_a_carriage_return_does_not_end_a_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"2026-01-01T00:00:00.0Z stdout F 10%\r90%\r100%\n")
    assert read_log_end(log) == "10%\r90%\r100%\n"


def test_durations_are_written_as_go_writes_them() -> None:
    assert [format_duration(s) for s in (0.0, 0.0854, 1.2, 61.25)] == ["0s", "85ms", "1.2s", "1m1.25s"]


def test_memory_survives_the_journal() -> None:
    node = {"name": "n", "allocatable": {"memory": "1Gi"}, "clusterDNS": [], "clusterDomain": "cluster.local"}
    memory = PodMemory.from_message({"type": "pod", "pod": pod(MAIN), "references": {}, "services": [], "node": node})
    memory.failures["main"] = ("ErrImagePull", "no")
    memory.back_off.next("main", 1.0, 1.0)
    memory.apply_stop({"type": "stop", "gracePeriodSeconds": 3, "reason": "Evicted", "message": "full"})
    again = PodMemory.from_document(memory.to_document())
    assert again is not None
    assert again.to_document() == memory.to_document()
    assert again.must_stop and again.end is not None and again.end.disruption
    assert PodMemory.from_document({}) is None


def test_only_memory_limits_that_are_added_or_lowered_are_checked_against_what_is_used() -> None:
    def limit(memory: str) -> dict[str, dict[str, str]]:
        return {"limits": {"memory": memory}}

    wanted = pod(*(container(name, resources=limit("1Mi")) for name in ("lower", "higher", "added")))
    actuated = {"lower": limit("2Mi"), "higher": limit("512Ki"), "added": {}}
    limits = decreasing_memory_limits(wanted, actuated, actuated)
    assert limits == {"lower": 1 << 20, "added": 1 << 20}
    assert refuse_memory_decrease(limits, {"lower": 1000, "added": 1000}) == ""
    refusal = refuse_memory_decrease(limits, {"lower": 1 << 20})
    assert 'container "lower" memory limit (1048576) below current usage (1048576)' in refusal
    assert 'missing container "added" memory usage' in refusal


@pytest.mark.parametrize(("phase", "stops"), [("Running", False), ("Failed", True), ("Succeeded", True)])
def test_a_terminal_phase_in_the_api_stops_the_pod(phase: str, stops: bool) -> None:
    node = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": ""}
    message = {
        "type": "pod",
        "pod": pod(MAIN) | {"status": {"phase": phase}},
        "references": {},
        "services": [],
        "node": node,
    }
    assert PodMemory.from_message(message).must_stop is stops
