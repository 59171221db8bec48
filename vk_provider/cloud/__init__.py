"""The one door to clouds: `base` is the Protocol, `local`, `simulated` (and later `aws`) implement it.

A backend knows nothing of Kubernetes. Tags are the only memory: what is not in a tag is not known after a restart.
"""
