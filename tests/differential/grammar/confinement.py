"""Features: what a pod's processes may do, beside those of `surroundings`."""

from __future__ import annotations

from tests.differential.grammar.draft import WAIT, Draft, shell
from tests.differential.grammar.registry import feature


@feature
def user_namespace(draft: Draft) -> None:
    draft.spec["hostUsers"] = draft.random.choice((True, False))
    draft.exec(2, "cat", "/proc/self/uid_map")


@feature
def se_linux(draft: Draft) -> None:
    whole = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
    options = draft.random.choice(({"level": "s0:c123,c456"}, {"type": "container_t"}, whole))
    target = draft.random.choice((draft.security, draft.main_security))
    target(seLinuxOptions=options)
    if draft.random.random() < 0.4:
        draft.security(seLinuxChangePolicy=draft.random.choice(("MountOption", "Recursive")))


@feature
def app_armor(draft: Draft) -> None:
    profile = draft.random.choice(
        ({"type": "Unconfined"}, {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "absent"})
    )
    target = draft.random.choice((draft.security, draft.main_security))
    target(appArmorProfile=profile)
    draft.last(10)


@feature
def supplemental_groups_policy(draft: Draft) -> None:
    draft.security(supplementalGroupsPolicy=draft.random.choice(("Merge", "Strict")), supplementalGroups=[3000])
    draft.exec(2, "id")
    draft.last(10)


@feature
def windows_options(draft: Draft) -> None:
    """Which mean nothing on Linux."""
    target = draft.random.choice((draft.security, draft.main_security))
    target(windowsOptions={"runAsUserName": "ContainerUser"})


@feature
def pod_as_non_root(draft: Draft) -> None:
    draft.security(runAsNonRoot=True)
    if draft.random.random() < 0.5:
        draft.security(runAsUser=1002)
    draft.last(12)


@feature
def container_user(draft: Draft) -> None:
    draft.main_security(runAsUser=draft.random.choice((0, 1001)), runAsGroup=draft.random.choice((0, 2001)))
    draft.exec(2, "id")


@feature
def stop_signal(draft: Draft) -> None:
    draft.spec["os"] = {"name": "linux"}
    draft.main.setdefault("lifecycle", {})["stopSignal"] = "SIGUSR1"
    draft.main["command"] = shell(f"trap 'exit 7' TERM; trap 'exit 8' USR1; {WAIT}")


@feature
def tcp_hook(draft: Draft) -> None:
    """No kubelet has ever run one."""
    hook = draft.random.choice(("postStart", "preStop"))
    draft.main.setdefault("lifecycle", {})[hook] = {"tcpSocket": {"port": draft.random.choice((81, 8080))}}
    draft.last(12)
