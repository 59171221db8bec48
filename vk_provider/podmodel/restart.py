"""Whether and when a container that ended is started again.

Source: KEP-5307 restart rules, KEP-5532 RestartAllContainers, kubelet CrashLoopBackOff.
"""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import describe_pod, init_containers, is_sidecar, regular_containers, spec_of

INITIAL_BACKOFF_S = 10.0
MAX_BACKOFF_S = 300.0


@dataclass(frozen=True)
class RestartDecision:
    """`restart`: start the container again; `all_containers`: kill and rerun every container of the pod."""

    restart: bool
    all_containers: bool = False

    def __bool__(self) -> bool:
        return self.restart


def find_restart_rule(container: Json, exit_code: int) -> Json | None:
    """Return the first of restartPolicyRules whose exitCodes match."""
    rules: list[Json] = container.get("restartPolicyRules") or []
    for rule in rules:
        condition = rule.get("exitCodes")
        if not condition:
            continue
        listed = exit_code in (condition.get("values") or [])
        if condition.get("operator") == ("In" if listed else "NotIn"):
            return rule
    return None


def decide_restart(pod: Json, container: Json, exit_code: int, is_init: bool) -> RestartDecision:
    """Decide by rules, container policy, then pod policy. An init container (not a sidecar) that exited 0 is done."""
    own = container.get("restartPolicy")
    if own:
        action = (find_restart_rule(container, exit_code) or {}).get("action")
        if action == "Restart":
            return RestartDecision(True)
        if action == "RestartAllContainers":
            return RestartDecision(True, all_containers=True)
    if is_init and exit_code == 0 and not is_sidecar(container):
        return RestartDecision(False)
    match own or spec_of(pod).get("restartPolicy"):
        case "Never":
            return RestartDecision(False)
        case "OnFailure":
            return RestartDecision(exit_code != 0)
    # An init container runs to success once: pod policy Always means "until it succeeds" for it.
    return RestartDecision(True)


def should_restart(pod: Json, container: Json, terminated_state: Json, is_init: bool) -> RestartDecision:
    """Decide whether an ended container starts again.

    terminated_state: the API's ContainerStateTerminated ({"exitCode", "reason", ...})
    Never restarts once the pod is being deleted. Back-off is another question: see RestartBackoff.
    """
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return RestartDecision(False)
    if terminated_state.get("reason") == "RestartingAllContainers":
        return RestartDecision(True)
    return decide_restart(pod, container, int(terminated_state.get("exitCode") or 0), is_init)


def all_containers_could_restart(pod: Json) -> bool:
    """Tell whether any rule of the pod has the action RestartAllContainers."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for container in (*init_containers(pod), *regular_containers(pod))
        for rule in container.get("restartPolicyRules") or []
    )


def backoff_s(restart_index: int, max_s: float = MAX_BACKOFF_S) -> float:
    """Return the delay before restart number `restart_index` (0: the first restart, at once), from the exit on."""
    if restart_index <= 0:
        return 0.0
    return min(max_s, INITIAL_BACKOFF_S * 2.0 ** min(restart_index - 1, 30))


@dataclass(frozen=True)
class RestartBackoff:
    """Back-off of one key (container, or pod and image); times are seconds of one clock.

    `delay_s` is what the next start has to wait after the event before it; 0 for the first one. A key that had no start
    for more than twice `max_s` before an event is forgotten.
    """

    delay_s: float = 0.0
    updated_at: float = 0.0
    max_s: float = MAX_BACKOFF_S

    def remaining_s(self, event_at: float, now: float) -> float:
        """Return how long to wait still, after the event (exit, failed pull) at `event_at`; 0 when due."""
        if self.delay_s == 0 or self._expired(event_at):
            return 0.0
        return max(0.0, self.delay_s - (now - event_at))

    def next(self, event_at: float, now: float) -> RestartBackoff:
        """Return the back-off to keep after starting again at `now`."""
        if self.delay_s == 0 or self._expired(event_at):
            return RestartBackoff(min(INITIAL_BACKOFF_S, self.max_s), now, self.max_s)
        return RestartBackoff(min(self.max_s, self.delay_s * 2), now, self.max_s)

    def _expired(self, event_at: float) -> bool:
        return event_at - self.updated_at > 2 * self.max_s


def crash_loop_message(pod: Json, container_name: str, delay_s: float) -> str:
    """Return the message of the waiting reason CrashLoopBackOff."""
    return f"back-off {_duration(delay_s)} restarting failed container={container_name} pod={describe_pod(pod)}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
