"""What should happen to the pod and its containers now, by the kubelet's rules. Pure: no I/O, no clock, no logging.

`core` decides a pass; the others are what it and the acting modules ask: `spec` and `observed` (what is wanted, what is
there), `restarts`, `backoff`, `resize`, `eviction`.
"""
