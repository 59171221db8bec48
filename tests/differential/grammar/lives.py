"""Features: how containers live and end, restart policies and rules, init containers and sidecars."""

from __future__ import annotations

from tests.differential.grammar.draft import AGNHOST, BUSYBOX, MISSING, OTHER, SLEEP, WAIT, Draft, shell
from tests.differential.grammar.registry import feature

POLICIES = ("Always", "OnFailure", "Never")


@feature
def restart_policy(draft: Draft) -> None:
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)


@feature
def main_ends(draft: Draft) -> None:
    code = draft.random.choice((0, 1, 3, 127))
    draft.main["command"] = shell(f"echo out; echo err >&2; sleep {draft.random.choice((0, 1, 2))}; exit {code}")
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(16)


@feature
def main_fails_once(draft: Draft) -> None:
    draft.volume("state", emptyDir={})
    draft.mount("state", "/state")
    code = draft.random.choice((0, 2))
    draft.main["command"] = shell(f"[ -e /state/f ] && exec sleep 3600; touch /state/f; sleep 1; exit {code}")
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(10)


@feature
def exits_on_term(draft: Draft) -> None:
    code = draft.random.choice((0, 3))
    draft.main["command"] = shell(f"trap 'echo bye; exit {code}' TERM; {WAIT}")


@feature
def ignores_term(draft: Draft) -> None:
    draft.main["command"] = shell(f"trap '' TERM; {WAIT}")
    draft.spec["terminationGracePeriodSeconds"] = draft.random.choice((0, 1, 4))


@feature
def grace_period(draft: Draft) -> None:
    draft.spec["terminationGracePeriodSeconds"] = draft.random.choice((0, 2, 5))


@feature
def no_such_command(draft: Draft) -> None:
    draft.main["command"] = [draft.random.choice(("/no/such", "nosuch"))]
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(14)


@feature
def working_dir(draft: Draft) -> None:
    draft.main["workingDir"] = draft.random.choice(("/tmp", "/made/here", "/etc/passwd"))
    draft.exec(2, "pwd")


@feature
def missing_image(draft: Draft) -> None:
    draft.main["image"] = MISSING
    draft.main["imagePullPolicy"] = draft.random.choice(("Always", "IfNotPresent", "Never"))
    draft.last(14)


@feature
def invalid_image(draft: Draft) -> None:
    draft.main["image"] = draft.random.choice(("Upper/Case", "a b", "x:y:z"))
    draft.last(12)


@feature
def pull_always(draft: Draft) -> None:
    draft.main["imagePullPolicy"] = "Always"


@feature
def second_container(draft: Draft) -> None:
    end = draft.random.choice(("sleep 3600", "sleep 2; exit 0", "sleep 2; exit 4"))
    draft.add_container("more", shell(end))
    draft.last(12)


@feature
def container_restart_policy(draft: Draft) -> None:
    code = draft.random.choice((0, 1, 42))
    container = draft.add_container("own", shell(f"sleep 1; exit {code}"))
    container["restartPolicy"] = draft.random.choice(POLICIES)
    if draft.random.random() < 0.5:
        draft.spec["restartPolicy"] = "Never"
    draft.last(14)


@feature
def restart_rules(draft: Draft) -> None:
    operator = draft.random.choice(("In", "NotIn"))
    action = draft.random.choice(("Restart", "RestartAllContainers"))
    container = draft.add_container("ruled", shell(f"sleep 2; exit {draft.random.choice((1, 42))}"))
    container["restartPolicy"] = "Never"
    container["restartPolicyRules"] = [{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]
    draft.last(16)


@feature
def init_container(draft: Draft) -> None:
    draft.add_init("init", shell(f"echo init; sleep {draft.random.choice((0, 1))}"))


@feature
def failing_init(draft: Draft) -> None:
    draft.add_init("bad", shell(f"sleep 1; exit {draft.random.choice((1, 5))}"))
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(16)


@feature
def sidecar(draft: Draft) -> None:
    draft.add_init("side", shell(f"trap 'exit {draft.random.choice((0, 7))}' TERM; {WAIT}"), restartPolicy="Always")


@feature
def ending_sidecar(draft: Draft) -> None:
    code = draft.random.choice((0, 3))
    draft.add_init("side", shell(f"sleep 2; exit {code}"), restartPolicy="Always")
    draft.last(18)


@feature
def sidecar_with_startup(draft: Draft) -> None:
    side = draft.add_init("late", shell("sleep 2; touch /tmp/ok; exec sleep 3600"), restartPolicy="Always")
    probe = {"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 20}
    side["startupProbe"] = probe
    draft.last(10)


@feature
def job_with_sidecar(draft: Draft) -> None:
    draft.add_init("side", shell(f"trap 'sleep 1; exit 0' TERM; {WAIT}"), restartPolicy="Always")
    draft.main["command"] = shell(f"sleep 2; exit {draft.random.choice((0, 1))}")
    draft.spec["restartPolicy"] = draft.random.choice(("Never", "OnFailure"))
    draft.last(12)


@feature
def post_start(draft: Draft) -> None:
    handler = draft.random.choice(
        (
            {"exec": {"command": ["sh", "-c", "sleep 2; touch /tmp/hooked"]}},
            {"exec": {"command": ["sh", "-c", "echo hook says no; exit 9"]}},
            {"httpGet": {"port": 81, "path": "/"}},
            {"sleep": {"seconds": 2}},
        )
    )
    draft.main.setdefault("lifecycle", {})["postStart"] = handler
    draft.last(14)


@feature
def pre_stop(draft: Draft) -> None:
    handler = draft.random.choice(
        (
            {"exec": {"command": ["sleep", "1"]}},
            {"exec": {"command": ["sh", "-c", "exit 9"]}},
            {"exec": {"command": ["sleep", "60"]}},
            {"httpGet": {"port": 81, "path": "/"}},
            {"sleep": {"seconds": 1}},
        )
    )
    draft.main.setdefault("lifecycle", {})["preStop"] = handler
    draft.spec["terminationGracePeriodSeconds"] = draft.random.choice((2, 4))


@feature
def termination_message(draft: Draft) -> None:
    path = draft.random.choice(("/dev/termination-log", "/tmp/said"))
    script = draft.random.choice((f"echo said > {path}; exit 1", "echo logged; exit 1", f"echo fine > {path}; exit 0"))
    draft.main["command"] = shell(f"sleep 1; {script}")
    draft.main["terminationMessagePath"] = path
    draft.main["terminationMessagePolicy"] = draft.random.choice(("File", "FallbackToLogsOnError"))
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(12)


@feature
def active_deadline(draft: Draft) -> None:
    # It counts from the binding: an instance that is launched on a busy machine needs seconds of it.
    draft.spec["activeDeadlineSeconds"] = draft.random.choice((9, 12))
    draft.last(20)


@feature
def out_of_memory(draft: Draft) -> None:
    draft.main["command"] = shell("sleep 1; tail /dev/zero")
    draft.main["resources"] = {"limits": {"memory": "24Mi"}}
    draft.spec["restartPolicy"] = draft.random.choice(POLICIES)
    draft.last(14)


@feature
def readiness_gate(draft: Draft) -> None:
    draft.spec["readinessGates"] = [{"conditionType": "example.com/gate"}]
    if draft.random.random() < 0.6:
        status = draft.random.choice(("True", "False"))
        condition = {"type": "example.com/gate", "status": status, "reason": "Tested"}
        draft.act(3, "patch", sub="status", body={"status": {"conditions": [condition]}})


@feature
def tty(draft: Draft) -> None:
    draft.main["tty"] = True
    draft.main["stdin"] = draft.random.random() < 0.5
    draft.main["command"] = shell(f"echo hello; tty; {WAIT}")
    draft.act(3, "logs", container="main")


@feature
def stdin_once(draft: Draft) -> None:
    draft.main.update(stdin=True, stdinOnce=draft.random.random() < 0.5)
    draft.main["command"] = shell("cat; echo end; exec sleep 3600")
    draft.act(2, "attach", container="main", stdin="typed\n")
    draft.act(5, "logs", container="main")


@feature
def finalizer(draft: Draft) -> None:
    draft.pod["metadata"]["finalizers"] = ["diff.example.com/hold"]
    at = draft.random.choice((4, 5))
    draft.act(at, "delete")
    nothing = {"metadata": {"finalizers": None}}
    draft.act(at + 8, "patch", type="application/merge-patch+json", body=nothing)


@feature
def image_user(draft: Draft) -> None:
    draft.main["image"] = f"{AGNHOST.rpartition('/')[0]}/nonroot:1.5"
    draft.exec(2, "id")


@feature
def entrypoint_of_the_image(draft: Draft) -> None:
    draft.main["image"] = AGNHOST
    del draft.main["command"]
    draft.main["args"] = draft.random.choice((["pause"], ["netexec", "--http-port=8080"], ["no-such-verb"]))
    draft.last(12)


@feature
def many_containers(draft: Draft) -> None:
    for _ in range(draft.random.choice((3, 5))):
        image = draft.random.choice((BUSYBOX, OTHER))
        draft.add_container("c", SLEEP, image=image)
