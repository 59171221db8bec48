"""The kubelet's pod worker, for the one pod of this instance.

What it is: the loop that brings the pod to its desired state (sandbox, volumes, images, init containers, containers,
probes, hooks, restarts, termination) and computes its PodStatus.

    worker, podrun     what the session calls, and the loops behind it
    lifecycle          one pass and the pod's end, in the kubelet's order, with preparer, gate and resizer
    memory, recorder   what it knows of its pod beyond the runtime, and what it tells as events
    rules              what should happen: the kubelet's decisions. Pure
    sandbox, container what is made of the pod: the sandbox and its cgroup; a container from its image to its end
    status             what is so: read from the runtime, told as PodStatus
    probes, http       when and how a container is probed; HTTP as a kubelet speaks it to probes and hooks

What it is not: the session with the provider (agent.session) or the meaning of pod fields (podmodel).
Called by: agent.app, which starts `PodWorker.run`, and the session, which calls `PodWorker.update`.
"""
