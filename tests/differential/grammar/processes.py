"""What is done to the processes of pods, and asked of them at length."""

from __future__ import annotations

from tests.differential.grammar.draft import Draft, shell
from tests.differential.grammar.registry import action


@action
def kill_child(draft: Draft) -> None:
    """The first process outlives its child, or goes with it."""
    after = draft.random.choice(("exit $?", "exit 0", "echo killed: $?; exec sleep 3600"))
    draft.main["command"] = shell(f"exec 2> /dev/null; sleep 3600 & echo $! > /tmp/child; wait $!; {after}")
    draft.spec["restartPolicy"] = draft.random.choice(("Always", "OnFailure", "Never"))
    draft.exec(3, "sh", "-c", "kill -9 $(cat /tmp/child)")
    draft.act(6, "logs", container="main")
    draft.last(16)


@action
def kill_process_1(draft: Draft) -> None:
    """The kernel keeps signals that it has no handler for from the first process of a namespace, when they come from
    within."""
    signal = draft.random.choice(("-KILL", "-TERM", "-SEGV", "-STOP"))
    draft.exec(3, "kill", signal, "1")
    draft.last(12)


@action
def kill_process_1_with_handler(draft: Draft) -> None:
    draft.main["command"] = shell("trap 'echo bye; exit 6' TERM; while :; do sleep 0.1; done")
    draft.spec["restartPolicy"] = draft.random.choice(("Always", "OnFailure", "Never"))
    draft.exec(3, "kill", "1")
    draft.last(16)


@action
def copy_out(draft: Draft) -> None:
    draft.main["command"] = shell("echo inside > /tmp/f; exec sleep 3600")
    draft.act(3, "cp", path=draft.random.choice(("/tmp/f", "/no/such/f", "/tmp")), container="main")


@action
def execute_with_terminal(draft: Draft) -> None:
    words = draft.random.choice((["tty"], ["sh", "-c", "echo out; echo err >&2; exit 7"], ["/no/such"], ["stty", "-a"]))
    draft.act(3, "exec", cmd=words, container="main", tty=True)


@action
def follow_logs(draft: Draft) -> None:
    """Of a container that goes on, and of one that ends meanwhile."""
    script = draft.random.choice(("exec sleep 3600", "sleep 5; echo last; exit 0", "sleep 5; exit 3"))
    draft.main["command"] = shell(f"echo one; echo two >&2; echo three; {script}")
    draft.spec["restartPolicy"] = draft.random.choice(("OnFailure", "Never"))
    options = draft.random.choice(({}, {"tailLines": "1"}, {"limitBytes": "6"}, {"container": "none"}))
    draft.act(2.5, "logs", follow="true", **options)
    draft.last(12)
