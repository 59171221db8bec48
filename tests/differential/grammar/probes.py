"""Features: probes of every handler, on every kind of container."""

from __future__ import annotations

from tests.differential.grammar.draft import AGNHOST, WAIT, Draft, shell
from tests.differential.grammar.registry import feature
from vk_provider.jsontypes import Json

KINDS = ("livenessProbe", "readinessProbe", "startupProbe")
CLEAR_S = 1.5
"""Two probers are a period apart at most, and a busy machine is late."""


def _timing(draft: Draft, kind: str) -> Json:
    timing = {
        "periodSeconds": draft.random.choice((1, 2)),
        "failureThreshold": draft.random.choice((1, 2, 3)),
        "timeoutSeconds": draft.random.choice((1, 2)),
    }
    if draft.random.random() < 0.3:
        timing["initialDelaySeconds"] = draft.random.choice((1, 2))
    if kind == "readinessProbe" and draft.random.random() < 0.3:
        timing["successThreshold"] = 2
    if kind != "readinessProbe" and draft.random.random() < 0.2:
        timing["terminationGracePeriodSeconds"] = draft.random.choice((1, 3))
    return timing


def _put(draft: Draft, kind: str, handler: Json, container: Json | None = None) -> Json:
    target = draft.main if container is None else container
    probe: Json = {**handler, **_timing(draft, kind)}
    target[kind] = probe
    draft.last(14)
    return probe


def clear_of_deadline(probe: Json, wanted_s: float) -> float:
    """`wanted_s` after the start of a container, or another moment: not where it is chance whether the probe's last
    failure that counts comes before it. A prober ticks from a random moment of its period on."""
    period_s, failures = probe["periodSeconds"], probe["failureThreshold"]
    earliest = probe.get("initialDelaySeconds", 0) + period_s * (failures - 1)
    latest = earliest + period_s
    if earliest - CLEAR_S < wanted_s < latest + CLEAR_S:
        return float(latest + CLEAR_S) if earliest - CLEAR_S < 1 else earliest - CLEAR_S
    return wanted_s


def _ok_after(seconds: float) -> list[str]:
    return shell(f"sleep {seconds:g}; touch /tmp/ok; exec sleep 3600")


def _kind(draft: Draft) -> str:
    return draft.random.choice(KINDS)


@feature
def probe_exec_passes(draft: Draft) -> None:
    _put(draft, _kind(draft), {"exec": {"command": ["true"]}})


@feature
def probe_exec_fails(draft: Draft) -> None:
    _put(draft, _kind(draft), {"exec": {"command": ["sh", "-c", "echo no; exit 1"]}})


@feature
def never_ready(draft: Draft) -> None:
    """One event for each of many equal failures."""
    handler = {"exec": {"command": ["sh", "-c", "echo no; exit 1"]}}
    draft.main["readinessProbe"] = {**handler, "periodSeconds": draft.random.choice((1, 2))}
    draft.last(20)


@feature
def probe_exec_cannot_run(draft: Draft) -> None:
    _put(draft, _kind(draft), {"exec": {"command": ["/no/such"]}})


@feature
def probe_exec_hangs(draft: Draft) -> None:
    _put(draft, _kind(draft), {"exec": {"command": ["sleep", "30"]}})


@feature
def probe_of_a_late_server(draft: Draft) -> None:
    probe = _put(draft, _kind(draft), {"exec": {"command": ["cat", "/tmp/ok"]}})
    draft.main["command"] = _ok_after(clear_of_deadline(probe, 3))


@feature
def probe_that_breaks_later(draft: Draft) -> None:
    draft.main["command"] = shell(f"trap 'exit 0' TERM; touch /tmp/ok; sleep 4; rm /tmp/ok; {WAIT}")
    _put(draft, draft.random.choice(KINDS[:2]), {"exec": {"command": ["cat", "/tmp/ok"]}})
    draft.last(18)


@feature
def probe_tcp(draft: Draft) -> None:
    draft.main["command"] = shell("httpd -p 8080; exec sleep 3600")
    action = {"port": draft.random.choice((8080, 81))}
    if draft.random.random() < 0.2:
        action = {"host": "127.0.0.1", "port": 81}  # nobody listens there, on the node nor on the instance
    _put(draft, _kind(draft), {"tcpSocket": action})


@feature
def probe_http(draft: Draft) -> None:
    draft.main.update(image=AGNHOST, command=["/agnhost", "netexec", "--http-port=8080"])
    draft.main["ports"] = [{"name": "web", "containerPort": 8080}]
    path = draft.random.choice(("/healthz", "/echo?code=500&msg=broken", "/redirect?code=302", "/redirect?code=404"))
    handler = {"path": path, "port": draft.random.choice((8080, "web", 81))}
    if draft.random.random() < 0.3:
        handler["httpHeaders"] = [{"name": "X-Test", "value": "1"}]
    if draft.random.random() < 0.2:
        handler["scheme"] = "HTTPS"
    _put(draft, _kind(draft), {"httpGet": handler})


@feature
def probe_http_elsewhere(draft: Draft) -> None:
    host = draft.random.choice(("127.0.0.1", "no.such.host.invalid"))
    _put(draft, _kind(draft), {"httpGet": {"host": host, "port": 9, "path": "/"}})


@feature
def probe_grpc(draft: Draft) -> None:
    draft.main.update(image=AGNHOST, command=["/agnhost", "grpc-health-checking", "--port=5000", "--http-port=8080"])
    handler: Json = {"port": draft.random.choice((5000, 5001))}
    if draft.random.random() < 0.3:
        handler["service"] = "liveness"
    _put(draft, _kind(draft), {"grpc": handler})


@feature
def probe_of_a_sidecar(draft: Draft) -> None:
    side = draft.add_init("side", _ok_after(2), restartPolicy="Always")
    command = draft.random.choice((["cat", "/tmp/ok"], ["false"], ["true"]))
    probe = _put(draft, _kind(draft), {"exec": {"command": command}}, side)
    side["command"] = _ok_after(clear_of_deadline(probe, 2))
    draft.last(18)


@feature
def all_three_probes(draft: Draft) -> None:
    for kind in KINDS:
        _put(draft, kind, {"exec": {"command": ["cat", "/tmp/ok"]}})
    # Of the startup probe: the others wait for it.
    draft.main["command"] = _ok_after(clear_of_deadline(draft.main["startupProbe"], 2))


@feature
def probe_says_much(draft: Draft) -> None:
    size = draft.random.choice((500, 20000))
    script = f"head -c {size} /dev/zero | tr '\\0' x; exit 1"
    _put(draft, _kind(draft), {"exec": {"command": ["sh", "-c", script]}})
