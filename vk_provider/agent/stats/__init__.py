"""Stats of the pod and of the instance: sampled from cgroups, the pod's network namespace and CRI, pushed upwards.

One sample every 10 s costs a few file reads and one CRI call. The documents have the shape of /stats/summary.
"""
