"""What a Pod means: environment, downward API, volumes' files, DNS, hosts, security, phase, conditions, admission.

Pure: no I/O, no clock (time is an argument), no logging. Pods are the API's own JSON objects (plain dicts). It is not a
validator of what the API server already checked, and it never decides when something happens: the agent's worker and
the provider's pod controller call it and act. Rules follow the kubelet of Kubernetes 1.37.
"""
