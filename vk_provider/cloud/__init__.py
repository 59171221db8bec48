"""All access to clouds: `base` is the Protocol, `local`, `simulated` (and later `aws`) implement it.

A backend knows nothing of Kubernetes. Tags are the only persistent state of an instance: everything else is lost with a
restart of the provider.
"""
