"""The kubelet's pod worker, for the one pod of this instance.

What it is: the loop that brings the pod to its desired state (sandbox, volumes, images, init containers, containers,
probes, hooks, restarts, termination) and computes its PodStatus. `core`, `spec`, `observed`, `status`, `backoff`,
`sandbox` and `containers` are pure; `worker` and what it composes carry the decisions out through the CRI.
What it is not: the session with the provider (agent.session) or the meaning of pod fields (podmodel).
Called by: agent.app, which starts `PodWorker.run`, and the session, which calls `PodWorker.update`.
"""
