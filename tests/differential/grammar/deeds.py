"""What is done to pods meanwhile."""

from __future__ import annotations

from tests.differential.grammar.draft import BUSYBOX, MISSING, OTHER, SLEEP, WAIT, Draft, shell
from tests.differential.grammar.registry import action
from vk_provider.jsontypes import Json

MERGE = "application/merge-patch+json"
LOG_OPTIONS = (
    {},
    {"timestamps": "x"},
    {"tailLines": "1"},
    {"tailLines": "0"},
    {"tailLines": "-1"},
    {"limitBytes": "3"},
    {"limitBytes": "0"},
    {"sinceSeconds": "1"},
    {"sinceSeconds": "0"},
    {"previous": "true"},
    {"container": "none"},
    {"stream": "Stdout"},
    {"sinceTime": "2020-01-01T00:00:00Z", "sinceSeconds": "5"},
)


def _when(draft: Draft) -> int:
    return draft.random.choice((2, 4, 6))


@action
def delete(draft: Draft) -> None:
    grace = draft.random.choice((None, 0, 1, 3, 30))
    draft.act(_when(draft), "delete", **({} if grace is None else {"grace": grace}))


@action
def delete_twice(draft: Draft) -> None:
    at = _when(draft)
    draft.act(at, "delete", grace=draft.random.choice((10, 30)))
    draft.act(at + 1, "delete", grace=draft.random.choice((0, 1)))


@action
def evict(draft: Draft) -> None:
    draft.act(_when(draft), "evict")


@action
def change_labels(draft: Draft) -> None:
    body = {"metadata": {"labels": {"app": "changed", "new": "1"}, "annotations": {"later": "yes"}}}
    draft.act(_when(draft), "patch", body=body)


@action
def change_image(draft: Draft) -> None:
    image = draft.random.choice((OTHER, BUSYBOX, MISSING))
    draft.act(_when(draft), "patch", body={"spec": {"containers": [{"name": "main", "image": image}]}})
    draft.last(18)


@action
def set_deadline(draft: Draft) -> None:
    draft.act(_when(draft), "patch", body={"spec": {"activeDeadlineSeconds": draft.random.choice((1, 9))}})
    draft.last(16)


@action
def shorten_grace(draft: Draft) -> None:
    draft.act(_when(draft), "patch", body={"spec": {"terminationGracePeriodSeconds": 1}})


def _break(draft: Draft, *statuses: Json) -> None:
    """Another writer changes the status, and then nothing happens that would make the node write it anyway."""
    draft.act(_when(draft), "patch", sub="status", type=MERGE, body={"status": draft.random.choice(statuses)})
    draft.last(20)


@action
def take_from_the_status(draft: Draft) -> None:
    _break(draft, {"containerStatuses": None}, {"podIP": None, "podIPs": None})


@action
def take_conditions(draft: Draft) -> None:
    _break(draft, {"conditions": None}, {"conditions": [{"type": "Ready", "status": "False"}]})


@action
def set_another_phase(draft: Draft) -> None:
    _break(draft, {"phase": "Pending"})


@action
def set_a_terminal_phase(draft: Draft) -> None:
    _break(draft, {"phase": "Failed", "reason": "Manual"}, {"phase": "Succeeded"})


@action
def say_more_in_the_status(draft: Draft) -> None:
    _break(draft, {"startTime": None}, {"message": "by another", "reason": "Other"})


@action
def own_condition(draft: Draft) -> None:
    condition = {"type": "example.com/other", "status": "True", "reason": "Own"}
    draft.act(_when(draft), "patch", sub="status", body={"status": {"conditions": [condition]}})


@action
def resize(draft: Draft) -> None:
    """Nothing that one of the two Nodes alone could not hold: the API server would refuse it there."""
    sizes = draft.random.choice(
        (
            {"limits": {"cpu": "200m"}},
            {"requests": {"cpu": "20m"}},
            {"limits": {"memory": "80Mi"}},
            {"requests": {"memory": "20Mi"}},
            {"limits": {"memory": "1Mi"}},
        )
    )
    draft.main.setdefault(
        "resources", {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    )
    if draft.random.random() < 0.4:
        draft.main["resizePolicy"] = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    body = {"spec": {"containers": [{"name": "main", "resources": sizes}]}}
    draft.act(_when(draft), "patch", sub="resize", body=body)
    draft.last(16)


@action
def resize_pod(draft: Draft) -> None:
    draft.spec["resources"] = {
        "requests": {"cpu": "20m", "memory": "32Mi"},
        "limits": {"cpu": "100m", "memory": "64Mi"},
    }
    draft.act(_when(draft), "patch", sub="resize", body={"spec": {"resources": {"limits": {"cpu": "200m"}}}})
    draft.last(14)


@action
def resize_sidecar(draft: Draft) -> None:
    sizes = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    side = draft.add_init("side", shell(f"trap 'exit 0' TERM; {WAIT}"), restartPolicy="Always", resources=sizes)
    if draft.random.random() < 0.4:
        side["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    wanted = draft.random.choice(({"limits": {"cpu": "200m"}}, {"requests": {"memory": "20Mi"}}))
    body = {"spec": {"initContainers": [{"name": side["name"], "resources": wanted}]}}
    draft.act(_when(draft), "patch", sub="resize", body=body)
    draft.last(16)


@action
def resize_init(draft: Draft) -> None:
    """While it runs, and after its end."""
    sizes = {"requests": {"cpu": "10m"}, "limits": {"cpu": "100m"}}
    first = draft.add_init("sized", shell(f"sleep {draft.random.choice((1, 8))}"), resources=sizes)
    body = {"spec": {"initContainers": [{"name": first["name"], "resources": {"limits": {"cpu": "200m"}}}]}}
    draft.act(3, "patch", sub="resize", body=body)
    draft.last(16)


@action
def ephemeral(draft: Draft) -> None:
    script = draft.random.choice(("sleep 3600", "echo looked; exit 0", "exit 3"))
    container = {"name": "debug", "image": draft.random.choice((BUSYBOX, OTHER)), "command": shell(script)}
    if draft.random.random() < 0.5:
        container["targetContainerName"] = "main"
    draft.act(_when(draft), "ephemeral", container=container)
    draft.last(12)


@action
def change_config_map(draft: Draft) -> None:
    draft.object("ConfigMap", "changing", data={"k": "old"})
    draft.volume("changing", configMap={"name": "changing"})
    draft.mount("changing", "/changing")
    if draft.random.random() < 0.5:
        patch = {"kind": "ConfigMap", "name": "changing"}
        draft.act(3, "patch", **patch, type=MERGE, body={"data": {"k": "new", "more": "1"}})
    else:
        draft.act(3, "remove", kind="ConfigMap", name="changing")
    draft.act(5, "patch", body={"metadata": {"labels": {"nudged": "yes"}}})
    draft.last(12)


@action
def change_secret(draft: Draft) -> None:
    draft.object("Secret", "turning", stringData={"k": "old"})
    draft.volume("turning", secret={"secretName": "turning"})
    draft.mount("turning", "/turning")
    draft.env({"name": "TURNING", "valueFrom": {"secretKeyRef": {"name": "turning", "key": "k"}}})
    draft.act(3, "patch", kind="Secret", name="turning", type=MERGE, body={"stringData": {"k": "new", "more": "1"}})
    draft.exec(5, "sh", "-c", "echo $TURNING")  # which stays; when the file changes is a kubelet's sync
    draft.last(12)


@action
def vanish_secret(draft: Draft) -> None:
    draft.object("Secret", "vanishing", stringData={"k": "v"})
    draft.env({"name": "V", "valueFrom": {"secretKeyRef": {"name": "vanishing", "key": "k"}}})
    draft.main["command"] = shell("sleep 5; exit 1")
    draft.act(3, "remove", kind="Secret", name="vanishing")
    draft.last(16)


@action
def execute(draft: Draft) -> None:
    words = draft.random.choice(
        (
            ["sh", "-c", "echo out; echo err >&2; exit 7"],
            ["/no/such"],
            ["cat"],
            ["sh", "-c", "kill -9 $$"],
            ["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' y | md5sum"],
        )
    )
    fields = {"stdin": "given"} if words == ["cat"] else {}
    draft.act(_when(draft), "exec", cmd=words, container=draft.random.choice(("main", "main", "none")), **fields)


@action
def read_logs(draft: Draft) -> None:
    if draft.main.get("command") == SLEEP:
        draft.main["command"] = shell("echo one; echo two >&2; printf three; exec sleep 3600")
    at = _when(draft)
    for number, options in enumerate(draft.random.sample(LOG_OPTIONS, 3)):
        draft.act(at + number * 0.3, "logs", **options)


@action
def attach(draft: Draft) -> None:
    draft.main["command"] = shell("while :; do echo tick; sleep 1; done")
    draft.act(_when(draft), "attach", container="main", lines=2)


@action
def forward_port(draft: Draft) -> None:
    draft.main["command"] = shell("echo hi > /tmp/index.html; httpd -p 8080 -h /tmp; exec sleep 3600")
    port = draft.random.choice((8080, 81))
    draft.act(_when(draft), "portforward", port=port, send="GET / HTTP/1.0\r\n\r\n")


@action
def copy_in(draft: Draft) -> None:
    at = _when(draft)
    path = draft.random.choice(("/tmp/f", "/no/such/f"))
    draft.act(at, "cp", path=path, content="copied")
    draft.exec(at + 1.5, "cat", path)


@action
def kill(draft: Draft) -> None:
    draft.main["command"] = shell("trap 'exit 5' USR1; while :; do sleep 0.1; done")
    draft.exec(_when(draft), "kill", "-USR1", "1")
    draft.last(14)


@action
def snapshots(draft: Draft) -> None:
    for at in (3, 6):
        draft.act(at, "snap")
